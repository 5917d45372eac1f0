"""What the link does when its connection fails in the middle of several calls, or while nobody waits for an answer."""

from collections import deque

from kafka_once.core.calls import Exchange, ExchangeReply, Session
from kafka_once.core.rules import StoreCall
from kafka_once.errors import StoreUnavailable
from kafka_once.store_link import Answer, PipeLink


def exchange(number: int) -> Exchange:
    return Exchange(Session(1, 1), number)


class Connection:
    """A store and its pipe: writes fail when they should, and answers are there when the test says so."""

    timeout_s = 9.0

    def __init__(self) -> None:
        self.written: list[StoreCall] = []
        self.failing = 0
        self.answers: deque[object] = deque()

    def pipe(self) -> "Connection":
        return self

    def send(self, _session: Session | None, call: StoreCall) -> None:
        if self.failing:
            self.failing -= 1
            raise StoreUnavailable("refused")
        self.written.append(call)

    def descriptor(self) -> int:
        return 7

    def readable(self) -> bool:
        return bool(self.answers)

    def receive(self, _session: Session | None, _call: StoreCall) -> object:
        return self.answers.popleft()

    def drop(self) -> None:
        self.answers.clear()


class Told:
    """In the place of the engine."""

    def __init__(self) -> None:
        self.silences = 0
        self.replies: list[StoreCall] = []

    def on_silence(self, _error: BaseException) -> None:
        self.silences += 1

    def on_exchanged(self, call: StoreCall, _reply: object) -> None:
        self.replies.append(call)


class Bench:
    def __init__(self) -> None:
        self.connection, self.engine = Connection(), Told()
        self.inbox: deque[Answer] = deque()
        self.link = PipeLink(self.connection)  # type: ignore[arg-type]
        self.link.open(self.inbox.append)

    def tell(self) -> None:
        while self.inbox:
            self.inbox.popleft()(self.engine)  # type: ignore[arg-type]


def test_what_is_sent_behind_a_call_that_failed_does_not_leave_before_the_silence_is_told() -> None:
    """It would be sent again, and its answer taken for that to the second copy: the lease would be trusted too long."""
    bench = Bench()
    bench.connection.failing = 1
    bench.link.send(exchange(1))
    bench.link.send(exchange(2))
    assert bench.connection.written == []

    bench.tell()
    bench.link.send(exchange(1))
    bench.link.send(exchange(2))

    assert bench.engine.silences == 1
    assert bench.connection.written == [exchange(1), exchange(2)]


def test_a_connection_is_watched_while_an_answer_is_to_come_only() -> None:
    """One that the server has closed is readable for ever: the runner would turn without a pause."""
    bench = Bench()
    assert bench.link.descriptor() == -1
    bench.link.send(exchange(1))
    assert bench.link.descriptor() == 7

    bench.connection.answers.append(ExchangeReply(True))
    bench.link.receive()
    bench.tell()

    assert bench.link.descriptor() == -1
    assert bench.engine.replies == [exchange(1)]
