"""Which of the client's messages are returned, which are dropped, and where a seek is owed."""

from confluent_kafka import Message as ClientMessage

from kafka_once.brokers.kafka_positions import Jump, Positions
from kafka_once.message import Message, TopicPartition
from kafka_once.ports import Committed, Passed

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


def record(partition, offset):
    return ClientMessage(*partition, offset, value=str(offset).encode(), timestamp=(0, 0), headers=[])


class End:
    """The client's _PARTITION_EOF event."""

    def __init__(self, partition, offset):
        self.place = (*partition, offset)

    def topic(self):
        return self.place[0]

    def partition(self):
        return self.place[1]

    def offset(self):
        return self.place[2]


class Stand:
    """Two owned partitions that were started at these offsets."""

    def __init__(self, a=0, b=0):
        self.positions = Positions()
        self.jumps = []
        for position, offset in zip(self.positions.add([A, B]), (a, b), strict=True):
            position.seek(offset)
            position.paid()
        self.a, self.b = self.positions.get(A), self.positions.get(B)

    def take(self, *records):
        return [message.offset for message in self.positions.take(records, self.jumps)]

    def end(self, partition, offset):
        self.positions.pass_ends([End(partition, offset)], self.jumps)
        return self.positions.passed()


def test_messages_pass_in_order_also_over_gaps():
    stand = Stand(a=3)
    assert stand.take(record(A, 3), record(A, 4), record(B, 0), record(A, 9), record(B, 1)) == [3, 4, 0, 9, 1]
    assert (stand.a.next, stand.b.next) == (10, 2)
    assert stand.jumps == [Jump(A, 5, 9)]  # told, so that deleted ones can be told from compacted ones


def test_what_is_not_owned_is_dropped():
    """E04"""
    stand = Stand()
    stand.positions.remove([B, TopicPartition("t", 7), TopicPartition("other", 0)])
    assert stand.take(record(A, 0), record(B, 0), record(TopicPartition("other", 0), 0)) == [0]


def test_what_was_returned_does_not_come_again():
    """E16: dropped, and asked for once more, because something is wrong."""
    stand = Stand()
    stand.take(record(A, 0), record(A, 1))
    assert stand.take(record(A, 0), record(A, 1), record(A, 2)) == []
    assert stand.a.owed == 2
    stand.a.paid()
    assert stand.take(record(A, 2)) == [2]
    assert stand.jumps == []


def test_a_log_that_still_begins_earlier_after_asking_again_is_another_log():
    """C23, D04"""
    stand = Stand(a=100)
    stand.take(record(A, 100))
    stand.take(record(A, 0))
    stand.a.paid()
    assert stand.take(record(A, 0)) == []
    assert stand.jumps == [Jump(A, 101, 0)]


def test_nothing_is_taken_before_the_caller_said_where_it_starts():
    positions = Positions()
    (position,) = positions.add([A])
    assert positions.take([record(A, 40), record(A, 41)], []) == []
    positions.take_back()
    assert position.owed is None
    position.seek(40)
    assert positions.take([record(A, 41)], []) == []  # the seek is still owed
    position.paid()
    assert [m.offset for m in positions.take([record(A, 40)], [])] == [40]


def test_where_the_client_starts_by_itself_no_seek_is_owed_and_its_first_message_is_looked_at_twice():
    positions, jumps = Positions(), []
    position, other = positions.add([A, B])
    positions.start_by_themselves({A: Committed(5, None, ""), B: Committed(5, None, "")})
    position.seek(5)
    assert position.owed is None
    assert positions.take([record(A, 9)], jumps) == []  # another commit came in between
    assert position.owed == 5
    position.paid()
    assert [m.offset for m in positions.take([record(A, 5)], jumps)] == [5]

    (checked,) = positions.add([TopicPartition("t", 2)])
    positions.start_by_themselves({checked.partition: Committed(5, 1, "")})
    checked.seek(5, 1, check=True)
    assert checked.owed == 5

    positions.take([record(B, 5)], jumps)  # thrown away: nobody had said where it starts
    other.seek(5)
    assert other.owed == 5


def test_an_end_elsewhere_than_the_start_is_asked_for_again():
    positions = Positions()
    (position,) = positions.add([A])
    positions.start_by_themselves({A: Committed(5, None, "")})
    position.seek(5)
    positions.pass_ends([End(A, 9)], [])
    assert (position.owed, positions.passed()) == (5, [])


def test_a_seek_carries_the_leader_epoch_until_a_message_was_found_there():
    """D04: Kafka tells by it that the log was truncated, and asks for it again when the first answer was strange."""
    stand = Stand()
    stand.a.seek(7, 3)
    assert stand.a.leader_epoch == 3
    stand.a.paid()
    stand.take(record(A, 0))  # the client was sent back to the log's start
    assert (stand.a.owed, stand.a.leader_epoch) == (7, 3)
    stand.a.paid()
    stand.take(record(A, 7))
    assert stand.a.leader_epoch is None


# -------------------------------------------------------------------------------------------------------- ends of logs


def test_markers_at_the_end_are_passed():
    """D08"""
    stand = Stand()
    stand.take(record(A, 0), record(A, 1))
    assert stand.end(A, 4) == [Passed(A, 4)]
    assert stand.take(record(A, 4)) == [4]
    assert stand.jumps == [Jump(A, 2, 4)]


def test_an_end_where_we_stand_or_behind_us_says_nothing():
    stand = Stand()
    stand.take(record(A, 0), record(A, 1))
    assert stand.end(A, 2) == stand.end(A, 1) == []


def test_an_end_of_a_partition_that_is_paused_owed_or_not_started_says_nothing():
    stand = Stand()
    stand.a.pause()
    assert stand.end(A, 9) == []
    stand.b.seek(3)
    assert stand.end(B, 9) == []
    positions = Positions()
    positions.add([A])
    positions.pass_ends([End(A, 9)], [])
    assert positions.passed() == []


def test_the_first_end_after_a_seek_is_believed_only_the_second_time():
    """E05: what a seek or a resume skipped must not be passed."""
    stand = Stand()
    assert stand.end(A, 5) == []
    assert stand.a.owed == 0
    stand.a.paid()
    assert stand.end(A, 5) == [Passed(A, 5)]


def test_what_was_passed_is_taken_back_with_the_messages_before_it():
    stand = Stand()
    stand.take(record(A, 0))
    stand.positions.pass_ends([End(A, 5)], stand.jumps)
    stand.positions.take_back()
    assert stand.positions.passed() == []


def test_what_slips_through_a_pause_is_asked_for_again():
    """E05"""
    stand = Stand()
    stand.take(record(A, 0))
    stand.a.pause()
    assert stand.take(record(A, 1), record(A, 2)) == []
    assert stand.a.owed == 1
    stand.a.resume()
    assert stand.take(record(A, 3)) == []  # the seek is still owed
    stand.a.paid()
    assert stand.take(record(A, 1)) == [1]


def test_a_jump_after_resume_is_believed_only_the_second_time():
    """E05: a seek or resume that skips is a bug of the client's; a gap in the log looks the same the second time."""
    stand = Stand()
    stand.take(record(A, 0))
    stand.a.pause()
    stand.a.resume()
    assert stand.take(record(A, 5), record(A, 6)) == []
    assert stand.a.owed == 1
    stand.a.paid()
    assert stand.take(record(A, 5), record(A, 6)) == [5, 6]
    assert stand.jumps == [Jump(A, 1, 5)]


def test_a_seek_rules_what_comes_next():
    stand = Stand()
    stand.take(record(A, 10))
    stand.a.seek(4)
    assert stand.take(record(A, 11)) == []
    stand.a.paid()
    assert stand.take(record(A, 4), record(A, 5)) == [4, 5]


def test_after_an_exception_everything_is_owed_from_the_first_not_returned():
    """Finding 5"""
    stand = Stand()
    stand.take(record(A, 0), record(A, 1))
    stand.positions.returned()
    stand.take(record(A, 2), record(A, 3))  # taken, but an exception keeps them from being returned
    stand.positions.take_back()
    assert stand.a.owed == 2
    assert stand.b.owed == 0
    stand.a.paid()
    assert stand.take(record(A, 2)) == [2]


def test_what_was_returned_is_never_taken_back():
    stand = Stand()
    stand.take(record(A, 0), record(A, 1))
    stand.positions.returned()
    stand.positions.take_back()
    assert stand.a.owed == 2


def test_a_batch_that_began_a_partition_is_taken_back_to_its_first_message():
    stand = Stand(a=7)
    stand.take(record(A, 7), record(A, 8))
    stand.positions.take_back()
    assert stand.a.owed == 7


def test_a_copied_message_equals_a_constructed_one():
    parts = {"key": b"k", "value": b"v", "headers": [("a", b"1"), ("a", None)], "leader_epoch": 4}
    (copied,) = Stand(a=7).positions.take([ClientMessage(*A, 7, timestamp=(1, 99), **parts)], [])
    constructed = Message(*A, 7, timestamp_ms=99, **parts)
    for part in Message.__slots__:
        assert getattr(copied, part) == getattr(constructed, part), part
    assert copied.identity() == "t:0:7:4:"
    (bare,) = Stand(a=7).positions.take([ClientMessage(*A, 7, timestamp=(0, -1))], [])
    for part in Message.__slots__:
        assert getattr(bare, part) == getattr(Message(*A, 7), part), part
