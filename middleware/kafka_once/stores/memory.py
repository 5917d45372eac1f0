"""A store in this process: the reference that every other store is compared with.

It has no logic of its own about keys: `core.claims` decides. Everything dies with the process, so it serves tests, the
simulation and a first look, never production.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from kafka_once.core import claims
from kafka_once.core.claims import ClaimAnswer, Claimed, Completion, Done, Grant, Record, Release
from kafka_once.message import TopicPartition
from kafka_once.ports import Doubt, ExchangeReply, Ownership, Session, Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kafka_once.ports import ClaimAsk, CompleteAsk, Exchange, FrontierMark, Namespace, OwnershipAsk, ReleaseAsk

__all__ = ["MemoryState", "MemoryStore", "shared_state"]

_MAX_DOUBTS = 100_000
_NOWHERE = TopicPartition("", -1)


class _PartitionIdentity(NamedTuple):
    """A topic that was deleted and made anew is another topic, where the broker tells topic ids."""

    topic: str
    topic_id: str
    partition: int


@dataclass(slots=True)
class _Partition:
    where: TopicPartition
    epoch: int = 0
    newest: int = 0
    frontier: tuple[int, int | None] | None = None
    frontier_by: int = 0
    claimed_up_to: int = -1


@dataclass(slots=True)
class _Take:
    """The last taking of a partition by a session, kept so that it can be repeated."""

    call: int
    ownership: int
    epoch: int


@dataclass(slots=True)
class _Worker:
    """What is held for a session. An ownership lives while it is in here and the session lives."""

    token: int
    lease_ends_ms: int
    ownerships: dict[int, _Partition] = field(default_factory=dict)
    takes: dict[_PartitionIdentity, _Take] = field(default_factory=dict)


class _Records:
    """One namespace."""

    def __init__(self, creator: object) -> None:
        self.creator = creator
        self.keys: dict[bytes, Claimed | claims.Freed | Done] = {}
        self.forget_at_ms: dict[bytes, int] = {}  # of done and freed; claimed has no end of its own
        self.workers: dict[int, _Worker] = {}
        self.opened: dict[int, Session] = {}  # by token
        self.instances: dict[str, int] = {}
        self.partitions: dict[_PartitionIdentity, _Partition] = {}
        self.topics: dict[TopicPartition, tuple[str, str]] = {}  # by name: its topic id, and the one before
        self.doubts: deque[Doubt] = deque(maxlen=_MAX_DOUBTS)
        self.counters: dict[int, dict[str, int]] = {}
        self.last_session = self.last_ownership = self.last_fence = 0
        self.server = ""
        self.grace_until_ms = 0


class MemoryState:
    """What memory stores hold. Give one to several stores and they work as several workers on one server."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._namespaces: dict[Namespace, _Records] = {}
        self._servers = 1

    @property
    def server(self) -> str:
        """Names the server that this state plays."""
        return str(self._servers)

    def replica(self) -> MemoryState:
        """What a replica knows that follows no further from now on."""
        with self.lock:
            follower = MemoryState()
            creators = {id(records.creator): records.creator for records in self._namespaces.values()}
            follower._namespaces = copy.deepcopy(self._namespaces, dict(creators))
            return follower

    def fail_over(self, replica: MemoryState) -> None:
        """The replica takes over: what was written since is forgotten, and another server answers."""
        with self.lock:
            self._namespaces = replica._namespaces
            self._servers += 1

    def records(self, namespace: Namespace, creator: object) -> _Records:
        """What is held for the namespace, which `creator` makes if there is none."""
        return self._namespaces.setdefault(namespace, _Records(creator))


_SHARED = MemoryState()


def shared_state() -> MemoryState:
    """The state behind every `memory:` URL of this process."""
    return _SHARED


class MemoryStore:
    """A `Store` in this process.

    Args:
        namespace: what the records belong to.
        lease_ms: how long a session lives after its last renewal. Default 5 s.
        remember_ms: how long done keys are remembered. Default one day.
        clock_ms: the store's clock; everything is decided by it. Default: the wall clock.
        state: what is held; share it between several stores. Default: a new one.

    """

    def __init__(
        self,
        namespace: Namespace,
        lease_ms: int = 5000,
        remember_ms: int = 86_400_000,
        clock_ms: Callable[[], int] | None = None,
        state: MemoryState | None = None,
    ) -> None:
        self._namespace = namespace
        self._lease_ms = lease_ms
        self._remember_ms = remember_ms
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self._state = state or MemoryState()
        self._server = ""  # the one that answered last

    @property
    def _records(self) -> _Records:
        return self._state.records(self._namespace, self)

    def check(self) -> list[str]:
        """Always works, and always warns."""
        return ["the memory store forgets everything when the process ends: use it for tests only"]

    def is_new(self) -> bool:
        """Whether this store object was the first to touch the namespace in its state."""
        with self._state.lock:
            return self._records.creator is self

    def close(self) -> None:
        """Nothing to close; sessions stay until they are closed or lapse, as on a server."""

    # ------------------------------------------------------------------------------------- sessions and ownerships

    def open_session(self, token: int, instance: str | None = None, previous: int | None = None) -> Session:
        """Open a session; the same token again renews it if it lives, and answers the same."""
        with self._state.lock:
            records, now_ms = self._records, self._now_ms()
            opened = records.opened.get(token)
            if opened is not None:
                self._renew(opened, now_ms)
                return opened
            records.last_session = max(records.last_session + 1, now_ms)
            session = Session(records.last_session, token)
            records.workers.pop(previous or 0, None)  # it is over; in shards it may have been so in another one only
            if instance and previous in (None, records.instances.get(instance, previous)):
                records.workers.pop(records.instances.get(instance, 0), None)
                records.instances[instance] = session.number
            records.workers[session.number] = _Worker(token, now_ms + self._lease_ms)
            records.opened[token] = session
            return session

    def close_session(self, session: Session) -> None:
        """End the session and with it its ownerships."""
        with self._state.lock:
            if self._living(session, self._clock_ms()) is not None:
                del self._records.workers[session.number]

    def take_ownerships(self, session: Session, call: int, asks: Sequence[OwnershipAsk]) -> list[Ownership] | None:
        """Take a new ownership of each partition; None if the session is over."""
        with self._state.lock:
            now_ms = self._now_ms()
            worker = self._living(session, now_ms)
            if worker is None:
                return None
            return [self._take(worker, call, ask, now_ms) for ask in asks]

    def _take(self, worker: _Worker, call: int, ask: OwnershipAsk, now_ms: int) -> Ownership:
        records = self._records
        identity = _PartitionIdentity("" if ask.topic_id else ask.topic, ask.topic_id, ask.partition)
        where = TopicPartition(ask.topic, ask.partition)
        partition = records.partitions.setdefault(identity, _Partition(where))
        take = worker.takes.get(identity)
        if take is None or take.call < call:  # else it is a repeat, or a late copy of an older call: nothing is taken
            records.last_ownership = max(records.last_ownership + 1, now_ms)
            partition.epoch += 1
            partition.newest = records.last_ownership
            take = _Take(call, partition.newest, partition.epoch)
            worker.takes[identity] = take
            worker.ownerships[take.ownership] = partition
        topic_id, before = records.topics.get(where, ("", ""))
        if ask.topic_id not in ("", topic_id):
            topic_id, before = records.topics[where] = (ask.topic_id, topic_id)
        earlier_topic = bool(ask.topic_id and before)
        return Ownership(take.ownership, take.epoch, partition.frontier, partition.claimed_up_to, earlier_topic)

    def _worker(self, number: int, now_ms: int) -> _Worker | None:
        worker = self._records.workers.get(number)
        return None if worker is None or worker.lease_ends_ms <= now_ms else worker

    def _living(self, session: Session, now_ms: int) -> _Worker | None:
        worker = self._worker(session.number, now_ms)
        return None if worker is None or worker.token != session.token else worker

    def _renew(self, session: Session, now_ms: int) -> _Worker | None:
        """Renewing never creates: a session that lapsed is over."""
        worker = self._living(session, now_ms)
        if worker is not None:
            worker.lease_ends_ms = now_ms + self._lease_ms
        return worker

    def _holder_lives(self, record: Record, now_ms: int) -> bool:
        if not isinstance(record, Claimed):
            return False
        worker = self._worker(record.session, now_ms)
        return worker is not None and record.ownership in worker.ownerships

    # ---------------------------------------------------------------------------------------------------- exchange

    def exchange(self, exchange: Exchange) -> ExchangeReply:
        """Do all of it under one lock, in the order that `Exchange` tells."""
        with self._state.lock:
            now_ms, server = self._now_ms(), self._state.server
            worker = self._renew(exchange.session, now_ms)
            completes = [self._complete(ask, now_ms) for ask in exchange.completes]
            releases = [self._release(ask, now_ms) for ask in exchange.releases]
            if worker is None:
                answers = [ClaimAnswer(Grant.GONE)] * len(exchange.claims)
                return ExchangeReply(
                    session_lives=False, completes=completes, releases=releases, claims=answers, server=server
                )
            for mark in exchange.frontiers:
                self._keep_frontier(worker, mark)
            for ended in exchange.ends:
                worker.ownerships.pop(ended, None)
            answers = self._claim_all(worker, exchange, now_ms)
            return ExchangeReply(
                session_lives=True, completes=completes, releases=releases, claims=answers, server=server
            )

    def _now_ms(self) -> int:
        """The time of a call. Another server than with the call before begins the grace period."""
        now_ms, records, server = self._clock_ms(), self._records, self._state.server
        before = records.server or self._server  # the namespace's own memory may be lost whole
        if records.server != server and before not in ("", server):
            records.grace_until_ms = now_ms + self._lease_ms
        records.server = self._server = server
        return now_ms

    def _complete(self, ask: CompleteAsk, now_ms: int) -> Completion:
        record = self._record(ask.digest, now_ms)
        answer, after = claims.complete(record, session=ask.session, dead_lettered=ask.dead_lettered)
        self._write(ask.digest, record, after, now_ms)
        return answer

    def _release(self, ask: ReleaseAsk, now_ms: int) -> Release:
        record = self._record(ask.digest, now_ms)
        answer, after = claims.release(record, session=ask.session, call=ask.call, failed=ask.failed, doubt=ask.doubt)
        self._write(ask.digest, record, after, now_ms)
        if answer is Release.APPLIED and ask.doubt:
            attempts = after.attempts if isinstance(after, claims.Freed) else 0
            worker = self._records.workers.get(ask.session)
            partition = worker.ownerships.get(ask.ownership) if worker and worker.lease_ends_ms > now_ms else None
            where = partition.where if partition else _NOWHERE
            self._list_doubt(
                Doubt(ask.digest, *where, ask.offset, attempts, ask.ownership, ask.ownership, now_ms, "raised")
            )
        return answer

    def _keep_frontier(self, worker: _Worker, mark: FrontierMark) -> None:
        partition = worker.ownerships.get(mark.ownership)
        if partition is None or partition.newest != mark.ownership:
            return
        may_go_back = mark.back and partition.frontier_by != mark.ownership
        if partition.frontier is None or partition.frontier[0] < mark.offset or may_go_back:
            partition.frontier = (mark.offset, mark.leader_epoch)
            partition.frontier_by = mark.ownership

    def _claim_all(self, worker: _Worker, exchange: Exchange, now_ms: int) -> list[ClaimAnswer]:
        # A fence has to grow for a key, so one serves all the claims of an exchange.
        self._records.last_fence = max(self._records.last_fence + 1, now_ms * 1000)
        answers: list[ClaimAnswer] = []
        for ask in exchange.claims:
            if ask.follows and answers and answers[-1].grant > Grant.DUPLICATE:
                answers.append(ClaimAnswer(Grant.SKIPPED))
            else:
                answers.append(self._claim(worker, exchange, ask, now_ms))
        return answers

    def _claim(self, worker: _Worker, exchange: Exchange, ask: ClaimAsk, now_ms: int) -> ClaimAnswer:
        partition = worker.ownerships.get(ask.ownership)
        if partition is None:
            return ClaimAnswer(Grant.GONE)
        if partition.newest != ask.ownership and not ask.held:
            return ClaimAnswer(Grant.SUPERSEDED)
        partition.claimed_up_to = max(partition.claimed_up_to, ask.offset)
        record = self._record(ask.digest, now_ms)
        answer, after = claims.claim(
            record,
            session=exchange.session.number,
            ownership=ask.ownership,
            call=exchange.call,
            fence=self._records.last_fence,
            alone=ask.alone,
            holder_lives=self._holder_lives(record, now_ms),
            holder_vanished=isinstance(record, Claimed) and self._worker(record.session, now_ms) is None,
            grace=now_ms < self._records.grace_until_ms and not ask.held,
        )
        self._write(ask.digest, record, after, now_ms)
        if answer.grant is Grant.RECLAIMED and isinstance(record, Claimed):
            earlier, newer = record.ownership, ask.ownership
            doubt = Doubt(ask.digest, *partition.where, ask.offset, answer.attempts, earlier, newer, now_ms, "takeover")
            self._list_doubt(doubt)
        return answer

    def _record(self, digest: bytes, now_ms: int) -> Record:
        if self._records.forget_at_ms.get(digest, now_ms + 1) <= now_ms:
            del self._records.keys[digest], self._records.forget_at_ms[digest]
        return self._records.keys.get(digest)

    def _write(self, digest: bytes, before: Record, after: Record, now_ms: int) -> None:
        if after is before:  # done counts from its first completion
            return
        self._records.forget_at_ms.pop(digest, None)
        if after is None:
            self._records.keys.pop(digest, None)
            return
        self._records.keys[digest] = after
        if not isinstance(after, Claimed):
            self._records.forget_at_ms[digest] = now_ms + self._remember_ms

    # -------------------------------------------------------------------------------------------------- for people

    def _list_doubt(self, doubt: Doubt) -> None:
        doubts = self._records.doubts
        while doubts and doubts[0].time_ms <= doubt.time_ms - self._remember_ms:
            doubts.popleft()
        doubts.append(doubt)

    def doubts(self, limit: int = 1000) -> list[Doubt]:
        """List what was in doubt, the newest first."""
        with self._state.lock:
            return list(islice(reversed(self._records.doubts), limit))

    def report(self, session: Session, counters: Mapping[str, int]) -> None:
        """Keep the counters for `survey`."""
        with self._state.lock:
            self._records.counters[session.number] = dict(counters)

    def survey(self) -> Survey:
        """Count everything, exactly."""
        with self._state.lock:
            records, now_ms = self._records, self._now_ms()
            kept = [self._record(digest, now_ms) for digest in list(records.keys)]
            totals: Counter[str] = Counter()
            for counters in records.counters.values():
                totals.update(counters)
            partitions = sorted(records.partitions.values(), key=lambda partition: partition.frontier_by)
            return Survey(
                sessions=sum(worker.lease_ends_ms > now_ms for worker in records.workers.values()),
                claims=sum(isinstance(record, Claimed) for record in kept),
                done=sum(isinstance(record, Done) for record in kept),
                doubts=len(records.doubts),
                frontiers={each.where: each.frontier[0] for each in partitions if each.frontier},
                counters=dict(totals),
            )
