"""The tables of error codes, and what the client's answers to commits mean."""

from collections import Counter

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from kafka_once.brokers import kafka_commit_codes
from kafka_once.brokers.kafka_commit_codes import _GROUPS, _NEWER
from kafka_once.brokers.kafka_commits import Commits, as_client_partitions, judge, judge_held
from kafka_once.brokers.kafka_errors import Reaction, commit_verdict, error_of, publish_error, rule_on_event
from kafka_once.errors import BrokerRefused, BrokerUnavailable
from kafka_once.message import TopicPartition
from kafka_once.ports import CommitMark


@pytest.mark.parametrize(
    ("code", "reaction"),
    [
        ("_PARTITION_EOF", Reaction.IGNORE),
        ("_ALL_BROKERS_DOWN", Reaction.WARN),
        ("_TRANSPORT", Reaction.WARN),
        ("_RESOLVE", Reaction.WARN),
        ("_MAX_POLL_EXCEEDED", Reaction.WARN),
        ("_AUTHENTICATION", Reaction.WARN),
        ("UNKNOWN_TOPIC_OR_PART", Reaction.WARN),
        ("COORDINATOR_LOAD_IN_PROGRESS", Reaction.WARN),
        ("UNRELEASED_INSTANCE_ID", Reaction.REJOIN),
        ("FENCED_INSTANCE_ID", Reaction.REFUSE),
        ("TOPIC_AUTHORIZATION_FAILED", Reaction.REFUSE),
        ("GROUP_AUTHORIZATION_FAILED", Reaction.REFUSE),
        ("INCONSISTENT_GROUP_PROTOCOL", Reaction.REFUSE),
        ("INVALID_SESSION_TIMEOUT", Reaction.REFUSE),
        ("_AUTO_OFFSET_RESET", Reaction.REFUSE),
        ("_BAD_MSG", Reaction.REFUSE),
    ],
)
def test_events(code, reaction):
    ruling = rule_on_event(KafkaError(getattr(KafkaError, code)))
    assert ruling.reaction is reaction
    assert ruling.text


@pytest.mark.parametrize("is_fatal", [False, True])
@pytest.mark.parametrize(
    ("behind", "reaction"),
    [
        ("UNRELEASED_INSTANCE_ID", Reaction.REJOIN),
        ("FENCED_INSTANCE_ID", Reaction.REFUSE),
        ("GROUP_AUTHORIZATION_FAILED", Reaction.REFUSE),
        ("INVALID_REQUEST", Reaction.REFUSE),
    ],
)
def test_a_fatal_error_is_ruled_by_what_is_behind_it_also_where_fatal_says_no(behind, reaction, is_fatal):
    text = (
        f"Fatal error: {KafkaError(getattr(KafkaError, behind), None).str()}: more of it"
        if hasattr(KafkaError, behind)
        else "?"
    )
    ruling = rule_on_event(KafkaError(KafkaError._FATAL, text, fatal=is_fatal))
    assert ruling.reaction is reaction


def test_what_stands_behind_a_fatal_error_is_said_once():
    fenced = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
    text = f"Fatal error: {fenced}: Fatal consumer error: {fenced}"

    said = rule_on_event(KafkaError(KafkaError._FATAL, text)).text

    assert said == f"{fenced}: another process took this group.instance.id: give each its own"


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("COORDINATOR_LOAD_IN_PROGRESS", "retry"),
        ("COORDINATOR_NOT_AVAILABLE", "retry"),
        ("NOT_COORDINATOR", "retry"),
        ("REQUEST_TIMED_OUT", "retry"),
        ("_TIMED_OUT", "retry"),
        ("_TRANSPORT", "retry"),
        ("_WAIT_COORD", "retry"),
        ("REBALANCE_IN_PROGRESS", "retry"),
        ("ILLEGAL_GENERATION", "retry"),
        ("STALE_MEMBER_EPOCH", "retry"),
        ("UNKNOWN_MEMBER_ID", "drop"),
        ("FENCED_MEMBER_EPOCH", "drop"),
        ("UNKNOWN_TOPIC_OR_PART", "drop"),
        ("FENCED_INSTANCE_ID", "stop"),
        ("GROUP_AUTHORIZATION_FAILED", "stop"),
        ("TOPIC_AUTHORIZATION_FAILED", "stop"),
        ("OFFSET_METADATA_TOO_LARGE", "stop"),
        ("_FATAL", "stop"),
    ],
)
def test_commits(code, verdict):
    found, reason = commit_verdict(KafkaError(getattr(KafkaError, code)))
    assert found == verdict
    assert reason.startswith(f"{code}: ")


def _every_code():
    named = {name: getattr(KafkaError, name) for name in dir(KafkaError) if name.lstrip("_").isupper()}
    return {name: code for name, code in named.items() if isinstance(code, int)}


def test_every_code_that_the_client_knows_is_sorted_once():
    """A client that brings a new one makes this fail: look up what it means for a commit, and put it into its group."""
    sorted_in = Counter(code for _, _, codes in _GROUPS for code in codes)
    sorted_in.update(getattr(KafkaError, name) for name in _NEWER if hasattr(KafkaError, name))
    assert {name for name, code in _every_code().items() if not sorted_in[code]} == set()
    assert {code for code, times in sorted_in.items() if times > 1} == set()


def test_numbers_that_the_oldest_client_has_no_names_for_are_those_of_newer_ones():
    numbers = {name: code for name, code in vars(kafka_commit_codes).items() if isinstance(code, int)}

    assert set(numbers) == {"_INCONSISTENT_TOPIC_ID", "_INVALID_REGULAR_EXPRESSION"}
    assert all(getattr(KafkaError, name[1:], code) == code for name, code in numbers.items())


def test_every_verdict_is_one_that_the_engine_knows_and_has_a_reason():
    assert {verdict for verdict, _, _ in _GROUPS} == {"ok", "retry", "drop", "stop"}
    assert all(reason for _, reason, _ in _GROUPS)
    assert commit_verdict(KafkaError(9999))[0] == "retry"


def test_what_stands_behind_a_fatal_error_decides():
    text = f"Fatal error: {KafkaError(KafkaError.FENCED_INSTANCE_ID).str()}: more of it"
    verdict, reason = commit_verdict(KafkaError(KafkaError._FATAL, text))
    assert (verdict, reason.split(":")[0]) == ("stop", "FENCED_INSTANCE_ID")


def test_a_commit_without_an_error_is_ok():
    assert commit_verdict(None) == ("ok", "")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("_UNKNOWN_TOPIC", BrokerRefused),
        ("TOPIC_AUTHORIZATION_FAILED", BrokerRefused),
        ("MSG_SIZE_TOO_LARGE", BrokerRefused),
        ("_MSG_TIMED_OUT", BrokerUnavailable),
        ("NOT_ENOUGH_REPLICAS", BrokerUnavailable),
        ("_PURGE_QUEUE", BrokerUnavailable),
    ],
)
def test_publishing(code, kind):
    outcome = publish_error("letters", KafkaError(getattr(KafkaError, code)))
    assert type(outcome) is kind
    assert "letters" in str(outcome)


def test_an_exception_without_an_error_has_one_all_the_same():
    assert error_of(KafkaException()).code() == KafkaError._FAIL


A, B = TopicPartition("t", 0), TopicPartition("t", 1)


def _answer(partition, offset, code=None):
    answer = ClientPartition(*partition, offset)
    if code is None:
        return answer

    class Failed:
        topic, partition, offset = answer.topic, answer.partition, answer.offset
        error = KafkaError(code)

    return Failed


def test_each_partition_is_judged_by_its_own_error():
    """C11: the error of the whole call is then only the last partition's."""
    marks = [CommitMark(A, 5), CommitMark(B, 6)]
    whole = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    results = judge(marks, whole, [_answer(A, 5), _answer(B, 6, KafkaError.UNKNOWN_TOPIC_OR_PART)])
    assert [result.verdict for result in results] == ["ok", "drop"]


def test_an_error_of_the_whole_call_counts_for_all():
    marks = [CommitMark(A, 5), CommitMark(B, 6)]
    results = judge(marks, KafkaError(KafkaError._TIMED_OUT), [_answer(A, 5), _answer(B, 6)])
    assert [result.verdict for result in results] == ["retry", "retry"]


def test_a_commit_is_compared_with_what_kafka_holds():
    marks = [CommitMark(A, 5), CommitMark(B, 6)]
    assert [r.verdict for r in judge_held(marks, [_answer(A, 5), _answer(B, 3)])] == ["ok", "retry"]
    assert [r.verdict for r in judge_held(marks, [_answer(A, 5)])] == ["ok", "retry"]
    assert judge_held([marks[0]], [_answer(A, -1, KafkaError.GROUP_AUTHORIZATION_FAILED)])[0].verdict == "stop"


def test_answers_find_their_commits_in_order():
    commits, told = Commits(), []
    first, second = [CommitMark(A, 5)], [CommitMark(A, 6), CommitMark(B, 1)]
    commits.sent(first, lambda results: told.append(("first", results)))
    commits.sent(second, lambda results: told.append(("second", results)))
    commits.on_commit(None, [_answer(B, 1), _answer(A, 6)])
    assert [name for name, _ in told] == ["second"]
    commits.on_commit(None, [_answer(A, 99)])  # of `commit_now`: nobody waits for it here
    assert len(told) == 1
    commits.on_commit(KafkaError(KafkaError._TIMED_OUT), [])  # an answer that does not say for what
    ((name, ((mark, verdict, reason),)),) = told[1:]
    assert (name, mark, verdict, reason.split(":")[0]) == ("first", CommitMark(A, 5), "retry", "_TIMED_OUT")
    assert not commits.waiting()


def test_what_is_never_answered_is_told_once():
    commits, told = Commits(), []
    commits.sent([CommitMark(A, 5)], told.append)
    commits.give_up()
    commits.on_commit(None, [_answer(A, 5)])
    assert [[result.verdict for result in results] for results in told] == [["retry"]]


def test_the_marks_epoch_and_metadata_go_along():
    (with_epoch, without) = as_client_partitions([CommitMark(A, 5, 7, "mark"), CommitMark(B, 6)])
    assert (with_epoch.offset, with_epoch.leader_epoch, with_epoch.metadata) == (5, 7, "mark")
    assert without.leader_epoch in (None, -1)
    with pytest.raises(AssertionError):
        as_client_partitions([CommitMark(A, 5, None, "märk")])
