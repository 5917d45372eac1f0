"""Which of the client's messages are returned, which are dropped, and where a seek is owed."""

from confluent_kafka import Message as ClientMessage

from kafka_once.brokers.kafka_positions import START, Jump, Positions
from kafka_once.message import Message, TopicPartition

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


def record(partition, offset):
    return ClientMessage(*partition, offset, value=str(offset).encode(), timestamp=(0, 0), headers=[])


class Stand:
    """Two owned partitions that the caller knows of."""

    def __init__(self):
        self.positions = Positions()
        self.jumps = []
        for position in self.positions.add([A, B]):
            position.fresh = False
        self.a, self.b = self.positions.get(A), self.positions.get(B)

    def take(self, *records):
        return [message.offset for message in self.positions.take(records, self.jumps)]


def test_messages_pass_in_order_also_over_gaps():
    stand = Stand()
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
    stand = Stand()
    stand.take(record(A, 100))
    stand.take(record(A, 0))
    stand.a.paid()
    assert stand.take(record(A, 0)) == []
    assert stand.jumps == [Jump(A, 101, 0)]


def test_the_first_message_of_a_fresh_partition_waits_for_its_caller():
    positions = Positions()
    (position,) = positions.add([A])
    assert positions.take([record(A, 40), record(A, 41)], []) == []
    assert position.owed == 40
    position.fresh = False
    position.paid()
    assert [m.offset for m in positions.take([record(A, 40)], [])] == [40]


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
    assert stand.b.owed == START
    stand.a.paid()
    assert stand.take(record(A, 2)) == [2]


def test_what_was_returned_is_never_taken_back():
    stand = Stand()
    stand.take(record(A, 0), record(A, 1))
    stand.positions.returned()
    stand.positions.take_back()
    assert stand.a.owed == 2


def test_a_batch_that_began_a_partition_is_taken_back_to_its_first_message():
    stand = Stand()
    stand.take(record(A, 7), record(A, 8))
    stand.positions.take_back()
    assert stand.a.owed == 7


def test_a_copied_message_equals_a_constructed_one():
    parts = {"key": b"k", "value": b"v", "headers": [("a", b"1"), ("a", None)], "leader_epoch": 4}
    (copied,) = Stand().positions.take([ClientMessage(*A, 7, timestamp=(1, 99), **parts)], [])
    constructed = Message(*A, 7, timestamp_ms=99, **parts)
    for part in Message.__slots__:
        assert getattr(copied, part) == getattr(constructed, part), part
    (bare,) = Stand().positions.take([ClientMessage(*A, 7, timestamp=(0, -1))], [])
    for part in Message.__slots__:
        assert getattr(bare, part) == getattr(Message(*A, 7), part), part
