"""What goes wrong on its own, whatever is on its way: one fault at a time, chosen by the seed's odds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation import forgetting

if TYPE_CHECKING:
    from tests.simulation.worker import Worker
    from tests.simulation.world import World

__all__ = ["FAULTS", "FORGETS", "LEASES", "inject", "overtake"]


def _crash(world: World) -> bool:
    if not world.processes:
        return False
    world.crash(world.random.choice(world.processes))
    return True


def _pause(world: World) -> bool:
    living = world.living()
    if living:
        world.pause(world.random.choice(living), _a_while(world))
    return bool(living)


def _stall(world: World) -> bool:
    """Its loop stands still; its handlers go on."""
    living = world.living()
    if living:
        _stall_one(world.random.choice(living), _a_while(world))
    return bool(living)


def _stall_one(worker: Worker, ms: int) -> None:
    worker.stalled_until_ms = worker.world.now_ms + ms


def _cut_off(world: World) -> bool:
    """One process gets no answer from the store; its handlers, and Kafka, go on."""
    living = world.living()
    if living:
        _cut_off_one(world.random.choice(living), _a_while(world))
    return bool(living)


def _cut_off_one(worker: Worker, ms: int) -> None:
    worker.cut_off_until_ms = worker.world.now_ms + ms


def _a_while(world: World) -> int:
    """Shorter than a lease, or longer."""
    lease_ms = world.plan.rules.lease_ms
    return world.random.choice((20, lease_ms // 2, lease_ms + 100, 3 * lease_ms))


def _jump(world: World) -> bool:
    """Nobody gets anything done for longer than a lease."""
    world.pass_time(world.plan.rules.lease_ms + world.random.randint(-200, 200))
    return True


def _move(world: World) -> bool:
    """A clean move: the owner is asked to let go."""
    owned = [name for name, owner in world.group.owners.items() if owner.joined]
    if owned:
        world.group.ask_back(world.random.choice(owned))
    return bool(owned)


def _snatch(world: World) -> bool:
    """The owner is taken for dead and learns of it later: a zombie until then."""
    owned = list(world.group.owners)
    if not owned:
        return False
    told_ms = world.now_ms + world.random.choice((0, 50, 500, 2_000))
    first = world.random.choice(owned)
    whole = world.random.random() < 0.5
    owner = world.group.owners[first]
    for name in [n for n in owned if n == first or (whole and world.group.owners[n] is owner)]:
        world.group.take_away(name, told_ms)
    return True


def _overtake(world: World) -> bool:
    living = world.living()
    if living:
        overtake(world, world.random.choice(living))
    return bool(living)


def overtake(world: World, worker: Worker) -> None:
    """A process stands still, past its lease, while its handlers run, and wakes up late. Others get its partitions, or
    only its keys, where they have them too."""
    world.saw("overtaken")
    lease_ms = world.plan.rules.lease_ms
    world.random.choice((_stall_one, _cut_off_one, world.pause))(worker, lease_ms * world.random.randint(1, 4))
    if world.random.random() < 0.3:
        return
    told_ms = world.now_ms + lease_ms * world.random.choice((0, 0, 3, 8))
    for name in [name for name, owner in world.group.owners.items() if owner is worker]:
        world.group.take_away(name, told_ms)


def _silence(world: World) -> bool:
    """The store answers nobody for a while."""
    if world.silent_until_ms > world.now_ms:
        return False
    world.silent_until_ms = world.now_ms + world.random.choice((50, 500, 2_000))
    return True


def _stop(world: World) -> bool:
    """SIGTERM."""
    living = world.living()
    if living:
        world.random.choice(living).stop()
    return bool(living)


def _replace(world: World) -> bool:
    """A static instance starts again while its earlier process may still live."""
    if not world.plan.static:
        return False
    world.restart(world.random.randrange(len(world.slots)))
    return True


def _expire(world: World) -> bool:
    """The group's offset of a partition expires. Without a store nobody knows then what was done."""
    return world.plan.rules.store and world.group.expire_one()


def _late_commit(world: World) -> bool:
    """A commit of ours that was on its way for long comes last: the group's offset goes back."""
    return world.plan.rules.store and world.group.go_back_one()


_MADE_ANEW = 2  # times at most, or nothing would be left to process


def _make_anew(world: World) -> bool:
    """The topic is deleted and made anew, with other messages at the same offsets."""
    if world.group.generation == _MADE_ANEW:
        return False
    world.group.make_anew()
    return True


FAULTS: dict[str, Callable[[World], bool]] = {
    "crash": _crash,
    "pause": _pause,
    "stall": _stall,
    "cut off": _cut_off,
    "jump": _jump,
    "move": _move,
    "snatch": _snatch,
    "overtake": _overtake,
    "silence": _silence,
    "stop": _stop,
    "replace": _replace,
    "expire": _expire,
    "late commit": _late_commit,
    "make anew": _make_anew,
}


_REPLICA_KNOWS_MS = 1_500  # what a replica lacks is younger; the engine tells again what is younger than 2 s


def _fail_over(world: World) -> bool:
    """A replica stops to follow; the next time it is the primary, and what was written in between is forgotten."""
    if world.replica is None or world.now_ms - world.replica[0] > _REPLICA_KNOWS_MS:
        world.replica = (world.now_ms, world.store._state.replica())
        return False
    _, replica = world.replica
    world.replica = None
    world.pass_time(50)  # numbers are greater than the clock, which goes on meanwhile
    world.wire.fail_over(replica)
    return True


def _evict_leases(world: World) -> bool:
    """Out of memory under `volatile-ttl`: what expires soonest goes first, and nobody is told."""
    forgetting.forget_sessions(world.store)
    world.wire.evict()
    return True


def _jump_of_the_store(world: World) -> bool:
    """The wall clock of the store's machine is set, by less than a lease or by more. All other clocks go on."""
    lease_ms = world.plan.rules.lease_ms
    world.store_ahead_ms = world.random.choice((-3 * lease_ms, -lease_ms // 2, 0, lease_ms // 2, 3 * lease_ms))
    world.wire.jump()
    return True


def _evict_done(world: World) -> bool:
    forgetting.forget_done(world.store)
    return True


def _evict_claims(world: World) -> bool:
    forgetting.forget_claims(world.store)
    return True


def _flush(world: World) -> bool:
    """FLUSHALL: the same server, which knows nothing."""
    world.pass_time(50)  # numbers are greater than the clock, which goes on meanwhile
    forgetting.forget_everything(world.store)
    world.wire.evict()
    return True


# What a store can do to leases only takes no promise away. Where it forgets more, less is promised (amnesia.py).
LEASES: dict[str, Callable[[World], bool]] = {"evict leases": _evict_leases, "store clock": _jump_of_the_store}
FORGETS: dict[str, Callable[[World], bool]] = {
    "evict done": _evict_done,
    "evict claims": _evict_claims,
    "flush": _flush,
}

# Only in worlds that ask for it (failover.py): whoever dies in a failover takes with him what only he knew.
RARE: dict[str, Callable[[World], bool]] = {"fail over": _fail_over}

_ALL = {**FAULTS, **LEASES, **FORGETS, **RARE}


def inject(world: World) -> None:
    odds = world.plan.odds.faults
    kind = world.random.choices(list(odds), list(odds.values()))[0] if any(odds.values()) else None
    if kind is not None and _ALL[kind](world):
        world.saw(f"fault: {kind}")
