"""The words that people write in their settings and find in their counters: they stay what they are."""

from enum import StrEnum

import pytest

from kafka_once.core.events import Counters, Kind, Note, Outcome
from kafka_once.core.semantics import (
    ConflictPolicy,
    DoubtPolicy,
    FailurePolicy,
    HungPolicy,
    KeyPolicy,
    Semantics,
    StartReset,
)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("at_most_once at_least_once effectively_once", Semantics),
        ("dead_letter stop", FailurePolicy),
        ("dead_letter stop coordinates unprotected", KeyPolicy),
        ("run dead_letter", DoubtPolicy),
        ("wait stop", HungPolicy),
        ("safe stop go_on", ConflictPolicy),
        ("earliest latest error", StartReset),
        ("completed redelivery repeat dead_lettered skipped handed_back dropped", Outcome),
    ],
)
def test_the_words_of_settings_and_outcomes(words: str, kind: type[StrEnum]) -> None:
    assert " ".join(kind) == words


def test_the_names_of_the_counters() -> None:
    """Of what Kafka delivered, the handlers, the store, the offsets, and what stands still; the outcomes among them."""
    counters = Counters()
    assert " ".join(counters.as_dict()) == (
        "deliveries processings failures "
        "completed redelivery repeat dead_lettered skipped handed_back dropped "
        "in_doubt busy fenced doubled forgotten retries unprotected store_calls store_silences store_changes "
        "commits commits_refused offsets_gone commits_lost resets_back resets_ahead topics_recreated "
        "messages_deleted logs_truncated memory_lost "
        "sessions self_fenced stalled overdue observer_failures"
    )
    assert not any(counters.as_dict().values())


def test_a_counter_goes_on_by_one_or_by_what_is_said() -> None:
    counters = Counters()
    counters.add("busy")
    counters.add("busy")
    counters.add("deliveries", 3)
    assert (counters["busy"], counters["deliveries"]) == (2, 3)


def test_a_note_says_no_more_than_it_is_told() -> None:
    note = Note(Kind.STORE_BACK)
    assert (note.topic_partition, note.offset, note.attempt, note.error, note.text) == (None, None, None, None, "")
