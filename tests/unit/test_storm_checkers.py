"""The storm's checkers: for each promise a history that must pass and one that must fail."""

from itertools import count

import pytest

from kafka_once.core.events import Kind
from kafka_once.testing.campaign.history import Entry, Event, Exit, Kill, Reported, Sent
from tests.storm import checkers
from tests.storm.books import Books
from tests.storm.checkers import CHECKERS
from tests.storm.deck import Deck
from tests.storm.happenings import ALWAYS, SOONER_OR_LATER, count_happenings, missing
from tests.storm.history import Freeze, Logged, Observed, Stall, StormHistory
from tests.storm.plan import PROTOCOLS, is_static, order_of, protocol_of

MS = 1_000_000


class Story:
    """Writes a history; time goes on by one millisecond per step, or as told."""

    def __init__(self) -> None:
        self.history = StormHistory(settle_s=1.0)
        self.books = self.history.campaign
        self.now_ms = 10_000.0
        self._offsets = {partition: count() for partition in range(4)}
        self._last: dict[int, int] = {}

    @property
    def now_ns(self) -> int:
        return int(self.now_ms * MS)

    def wait(self, ms: float) -> "Story":
        self.now_ms += ms
        return self

    def send(self, key: str, partition: int = 0) -> Sent:
        sent = Sent(key, partition, next(self._offsets[partition]), self.now_ns)
        self.books.sent.append(sent)
        self.history.log.append(Logged(key, partition, sent.offset))
        self.history.ends[partition] = sent.offset + 1
        return sent

    def begin(self, sent: Sent, life: str = "a.0", *, in_doubt: bool = False) -> None:
        self.wait(1)
        self.books.starts.append(self._entry(sent, life, in_doubt=in_doubt))

    def end(self, sent: Sent, life: str = "a.0", *, in_doubt: bool = False) -> None:
        self.wait(1)
        self.books.ledger.append(self._entry(sent, life, in_doubt=in_doubt))

    def run(self, sent: Sent, life: str = "a.0", *, in_doubt: bool = False) -> None:
        self.begin(sent, life, in_doubt=in_doubt)
        self.end(sent, life, in_doubt=in_doubt)

    def kill(self, life: str = "a.0") -> None:
        self.wait(1)
        self.books.kills.append(Kill(life, self.now_ns))

    def freeze(self, ms: float, life: str = "a.0") -> None:
        """It has just woken."""
        self.history.freezes.append(Freeze(life, self.now_ns - int(ms * MS), self.now_ns))

    def report(self, sent: Sent) -> None:
        self.books.reported.append(Reported(sent.partition, sent.offset, self.now_ns))

    def tell(self, kind: str, number: int = 0, offset: int = -1, life: str = "a.0") -> None:
        self.books.events.append(Event(kind, life, number, self.now_ns, offset))

    def ask(self, partition: int, offset: int, life: str = "a.0", *, turned_ms: int = 1) -> None:
        """A member asks Kafka to commit; it had polled so many milliseconds before."""
        self.wait(1)
        self.tell("turned", turned_ms, life=life)
        self.tell("committing", partition, offset, life=life)

    def observe(self, partition: int, offset: int) -> None:
        asked_ns = self.now_ns
        self.wait(2)
        self.history.observed.append(Observed(partition, offset, asked_ns, self.now_ns))
        self.books.committed[partition] = offset

    def commit(self, partition: int, offset: int, life: str = "a.0") -> None:
        self.ask(partition, offset, life)
        self.tell("committed", partition, offset, life=life)
        self.observe(partition, offset)

    def broken(self) -> dict[str, list[str]]:
        findings = checkers.check(Books(self.history))
        return {finding.promise: finding.violations for finding in findings if finding.violations}

    def finding(self, checker) -> checkers.Finding:
        return checker(Books(self.history))

    def _entry(self, sent: Sent, life: str, *, in_doubt: bool) -> Entry:
        return Entry(sent.key, sent.partition, sent.offset, life, 1, 1, in_doubt, self.now_ns)


@pytest.fixture
def story() -> Story:
    return Story()


def taken_over_from_a_frozen(story: Story, *, told: bool = True, frozen_ms: float = 3000) -> Sent:
    """a.0 freezes in a handler, b.0 takes over, a.0 wakes and ends."""
    sent = story.send("slow")
    story.begin(sent)
    story.wait(frozen_ms)
    story.report(sent)
    story.run(sent, "b.0", in_doubt=told)
    story.freeze(frozen_ms)
    story.end(sent)
    story.commit(0, 1, "b.0")
    return sent


# ------------------------------------------------------------------------------------------------------------ the calm


def test_a_calm_history_breaks_nothing_and_everything_was_looked_at(story):
    for number in range(3):
        story.run(story.send(f"key-{number}"))
    story.send("key-0", 1)
    story.commit(0, 3)
    story.commit(1, 1)
    story.books.exits.append(Exit("a.0", 0, asked=True))
    story.tell("note:assigned", 0)
    assert story.broken() == {}
    assert all(story.finding(checker).looked > 0 for checker in CHECKERS)
    assert all(story.finding(checker).windows == 0 for checker in CHECKERS)


def test_a_takeover_from_a_frozen_member_is_a_named_window(story):
    taken_over_from_a_frozen(story)
    assert story.broken() == {}
    assert story.finding(checkers.one_holder).windows == 1
    assert story.finding(checkers.second_runs_have_a_cause).windows == 1


# ---------------------------------------------------------------------------------------------------- what is missing


def test_what_never_took_effect_is_lost(story):
    story.run(story.send("kept"))
    story.send("gone")
    story.wait(5)
    assert story.finding(checkers.nothing_lost).violations == ["lost: gone at 0@1"]


def test_what_kafka_acknowledged_must_stand_in_the_log(story):
    story.run(story.send("key"))
    story.history.log.clear()
    assert story.finding(checkers.nothing_lost).violations == ["acknowledged and not in the log: key at 0@0"]


def test_what_was_never_sent_must_not_take_effect(story):
    story.run(Sent("made up", 0, 0, 0))
    assert story.finding(checkers.nothing_lost).violations == ["took effect and was never sent: made up"]


# ------------------------------------------------------------------------------------------------------------- commits


def test_an_observed_offset_past_what_is_unsettled_breaks_it(story):
    first, second = story.send("first"), story.send("second")
    story.run(second)
    story.observe(0, 2)
    story.run(first)
    assert story.finding(checkers.commits_follow).violations == ["0: 2 observed, and 0 (first) was not settled"]


def test_a_commit_that_was_only_asked_for_counts_too(story):
    sent = story.send("first")
    story.ask(0, 1)
    story.run(sent)
    assert story.finding(checkers.commits_follow).violations == ["0: 1 asked by a.0, and 0 (first) was not settled"]


def test_a_repeat_is_settled_when_its_key_took_effect_elsewhere(story):
    first, repeat = story.send("key", 0), story.send("key", 1)
    story.begin(first)
    story.observe(1, repeat.offset + 1)
    story.end(first)
    assert story.finding(checkers.commits_follow).violations == ["1: 1 observed, and 0 (key) was not settled"]
    story.observe(1, repeat.offset + 1)
    assert len(story.finding(checkers.commits_follow).violations) == 1


def test_a_commit_that_goes_back_breaks_it(story):
    for number in range(3):
        story.run(story.send(f"key-{number}"))
    story.commit(0, 3, "b.0")
    story.commit(0, 1, "a.0")
    assert story.finding(checkers.commits_go_forward).violations == ["0: from 3 back to 1, committed by a.0, b.0"]


@pytest.mark.parametrize("zombie", [1, 3])
def test_not_if_one_of_the_two_was_decided_before_its_sender_froze(story, zombie):
    """A zombie's commit moves the offset back, or forward, so that the owner's next one moves it back."""
    for number in range(3):
        story.run(story.send(f"key-{number}"))
    turned_ms = 3001
    story.wait(turned_ms)
    story.freeze(3000, "a.0")
    if zombie == 1:
        story.commit(0, 3, "b.0")
        story.ask(0, 1, "a.0", turned_ms=turned_ms)
        story.observe(0, 1)
    else:
        story.ask(0, 3, "a.0", turned_ms=turned_ms)
        story.observe(0, 3)
        story.commit(0, 1, "b.0")
    finding = story.finding(checkers.commits_go_forward)
    assert (finding.violations, finding.windows) == ([], 1)


def test_a_commit_that_was_decided_after_the_wake_has_no_excuse(story):
    for number in range(3):
        story.run(story.send(f"key-{number}"))
    story.freeze(3000, "a.0")
    story.wait(50)
    story.commit(0, 3, "b.0")
    story.commit(0, 1, "a.0")
    assert len(story.finding(checkers.commits_go_forward).violations) == 1


def test_a_commit_that_was_answered_before_the_freeze_has_no_excuse(story):
    for number in range(3):
        story.run(story.send(f"key-{number}"))
    story.commit(0, 1, "a.0")
    story.commit(0, 3, "b.0")
    story.wait(3000)
    story.freeze(2900, "a.0")
    story.observe(0, 1)
    assert len(story.finding(checkers.commits_go_forward).violations) == 1


def test_an_offset_that_nobody_committed_breaks_it(story):
    story.run(story.send("key"))
    story.observe(0, 1)
    story.observe(0, -1)
    assert story.finding(checkers.commits_go_forward).violations == ["0: from 1 back to -1, committed by nobody"]


# ---------------------------------------------------------------------------------------------------------- second runs


def test_two_holders_at_once_break_it(story):
    first, repeat = story.send("key", 0), story.send("key", 1)
    story.begin(first, "a.0")
    story.begin(repeat, "b.0", in_doubt=True)
    story.end(first, "a.0")
    assert story.finding(checkers.one_holder).violations == ["key at 1@0 in b.0 (cut short) beside key at 0@0 in a.0"]


def test_two_runs_of_a_key_in_one_process_have_no_excuse(story):
    first, repeat = story.send("key", 0), story.send("key", 1)
    story.begin(first)
    story.wait(3000)
    story.freeze(2999)
    story.begin(repeat, in_doubt=True)
    story.end(first)
    assert len(story.finding(checkers.one_holder).violations) == 1


def test_a_freeze_that_is_shorter_than_the_lease_is_no_excuse(story):
    taken_over_from_a_frozen(story, frozen_ms=600)
    assert len(story.finding(checkers.one_holder).violations) == 1


def test_a_freeze_that_was_over_before_is_no_excuse(story):
    sent = story.send("key")
    story.wait(3000)
    story.freeze(3000)
    story.wait(2000)
    story.begin(sent)
    story.begin(sent, "b.0", in_doubt=True)
    story.end(sent)
    assert len(story.finding(checkers.one_holder).violations) == 1


def test_a_store_that_stood_still_is_an_excuse(story):
    sent = story.send("key")
    story.begin(sent)
    story.wait(2000)
    story.history.stalls.append(Stall("redis", story.now_ns - 1900 * MS, story.now_ns))
    story.begin(sent, "b.0", in_doubt=True)
    story.end(sent)
    assert (story.finding(checkers.one_holder).violations, story.finding(checkers.one_holder).windows) == ([], 1)


@pytest.mark.parametrize("last_word", [True, False])
def test_a_hang_is_as_good_an_excuse_as_a_freeze_but_not_to_begin_late(story, last_word):
    """Its threads went on: they look at the lease before each message."""
    sent, behind = story.send("key"), story.send("behind")
    story.begin(sent)
    story.tell("hanging", 3000)
    story.wait(2900)
    for one in (sent, behind):
        story.report(one)
        story.run(one, "b.0", in_doubt=True)
    story.wait(100)
    if last_word:
        story.tell("hung", 3000)
    story.end(sent)
    assert (story.finding(checkers.one_holder).violations, story.finding(checkers.one_holder).windows) == ([], 1)
    assert story.finding(checkers.second_runs_have_a_cause).violations == []
    story.begin(behind)
    assert len(story.finding(checkers.second_runs_are_told).violations) == 1


def test_after_a_kill_nothing_runs_beside(story):
    sent = story.send("key")
    story.begin(sent)
    story.kill()
    story.report(sent)
    story.run(sent, "b.0", in_doubt=True)
    story.commit(0, 1, "b.0")
    assert story.broken() == {}
    assert story.finding(checkers.one_holder).windows == 0


def test_a_second_run_that_is_not_in_the_list_breaks_it(story):
    taken_over_from_a_frozen(story)
    story.books.reported.clear()
    assert story.broken() == {"second runs are told": ["slow began again in b.0, and is not in the list"]}


def test_a_second_run_that_is_not_told_breaks_it(story):
    taken_over_from_a_frozen(story, told=False)
    assert story.broken() == {
        "second runs are told": ["slow began again in b.0, and was not told that it is in doubt"],
    }


def test_who_looked_and_froze_and_then_began_cannot_be_told(story):
    """No process can look and begin in one step. It is the first thing it does when it wakes, and one per lane."""
    first, second = story.send("first"), story.send("second")
    story.wait(3000)
    for sent in (first, second):
        story.report(sent)
        story.run(sent, "b.0", in_doubt=True)
    story.freeze(3000)
    story.run(first)
    assert story.finding(checkers.second_runs_are_told) == ("second runs are told", 2, [], 1)
    story.run(second)
    assert story.finding(checkers.second_runs_are_told).violations == [
        "second began again in a.0, and was not told that it is in doubt"
    ]


def test_who_was_at_work_when_it_woke_may_not_go_on(story):
    running, behind = story.send("running"), story.send("behind")
    story.begin(running)
    story.wait(3000)
    for sent in (running, behind):
        story.report(sent)
        story.run(sent, "b.0", in_doubt=True)
    story.freeze(3000)
    story.end(running)
    story.run(behind)
    assert story.finding(checkers.second_runs_are_told).violations == [
        "behind began again in a.0, and was not told that it is in doubt"
    ]


def test_a_second_effect_without_a_cause_breaks_it_even_if_told(story):
    sent = story.send("key")
    story.run(sent)
    story.report(sent)
    story.run(sent, "b.0", in_doubt=True)
    assert story.finding(checkers.second_runs_have_a_cause).violations == ["key took effect in a.0 and again in b.0"]


# --------------------------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize(("order", "promised"), [("partition", True), ("key", False), ("none", False)])
def test_the_order_of_a_partition_is_promised_where_it_is_the_order(story, order, promised):
    story.history.order = order
    first, second = story.send("first"), story.send("second")
    story.begin(first, "a.0")
    story.begin(second, "a.0")
    story.end(first, "a.0")
    assert ("order per partition" in story.broken()) is promised


def test_who_begins_before_its_predecessor_took_effect_breaks_the_order(story):
    first, second = story.send("first"), story.send("second")
    story.begin(first, "a.0")
    story.begin(second, "b.0")
    story.end(first, "a.0")
    assert story.finding(checkers.in_order).violations == [
        "second at 0@1 in b.0 (cut short) began before 0@0 had taken effect"
    ]


def test_other_partitions_may_be_anywhere(story):
    first = story.send("first", 0)
    story.begin(first)
    story.run(story.send("other", 1))
    story.end(first)
    assert story.finding(checkers.in_order).violations == []


def given_away(story: Story) -> tuple[Sent, Sent]:
    """The partition of these was a.0's, and b.0 was given it."""
    sents = story.send("first"), story.send("second")
    story.tell("assigned", 0, life="a.0")
    story.wait(3000)
    story.tell("assigned", 0, life="b.0")
    return sents


def test_who_works_on_in_a_partition_of_anothers_trespasses(story):
    first, _ = given_away(story)
    story.wait(3500)
    story.begin(first)
    assert story.finding(checkers.nobody_trespasses).violations == [
        "first at 0@0 in a.0 (cut short) began 3501 ms after b.0 was given the partition"
    ]


def test_a_living_member_is_told_a_moment_later(story):
    first, _ = given_away(story)
    story.wait(500)
    story.begin(first)
    assert story.finding(checkers.nobody_trespasses) == ("nobody trespasses", 1, [], 1)


@pytest.mark.parametrize("how", ["frozen", "hung"])
def test_who_wakes_finds_out_before_it_begins_anything(story, how):
    first, second = given_away(story)
    story.wait(100)
    if how == "frozen":
        story.freeze(2900)
        story.run(first)  # it may have looked before it froze
        assert story.finding(checkers.nobody_trespasses) == ("nobody trespasses", 1, [], 1)
    else:
        story.now_ms -= 2900
        story.tell("hanging", 2900)
        story.now_ms += 2900
        story.tell("hung", 2900)
    story.run(second)
    assert len(story.finding(checkers.nobody_trespasses).violations) == 1


@pytest.mark.parametrize("how", ["revoked", "lost", "killed", "given back"])
def test_what_the_other_has_no_more_is_nobodys(story, how):
    first, _ = given_away(story)
    story.wait(3500)
    if how == "killed":
        story.kill("b.0")
    elif how == "given back":
        story.tell("assigned", 0, life="a.0")
    else:
        story.tell(how, 0, life="b.0")
    story.run(first)
    assert story.finding(checkers.nobody_trespasses) == ("nobody trespasses", 1, [], 0)


# ---------------------------------------------------------------------------------------------------------------- rest


def test_what_is_not_committed_at_the_end_breaks_it(story):
    story.run(story.send("key"))
    story.history.settle_s = None
    assert story.broken() == {
        "it comes to rest": ["0: 0 committed, the log ends at 1", "not settled within the bound"],
    }


def test_ends_that_are_not_clean_break_it(story):
    story.books.exits += [Exit("a.0", 0, asked=True), Exit("b.0", -9, asked=True), Exit("c.0", 1, asked=False)]
    story.tell("assigned", 0, life="c.0")
    story.tell("unaccounted", 2)
    assert story.broken()["it comes to rest"] == [
        "b.0 ended after SIGTERM with exit code -9",
        "c.0 ended by itself with exit code 1",
        "a.0 ended cleanly with 2 deliveries without an outcome",
    ]


def test_what_did_not_happen_must_not_be_reported(story):
    story.tell("note:assigned", 3)
    story.tell("note:commit_lost", 3, 7)  # that happens: a process dies between the store's word and Kafka's
    assert story.finding(checkers.no_false_alarms) == ("no false alarms", 2, [], 0)
    story.tell("note:memory_lost", 3, 7)
    assert story.finding(checkers.no_false_alarms).violations == ["a.0 reported memory_lost of 3@7"]


def test_the_alarms_are_those_that_the_library_has():
    assert {f"{name.upper()}" for name in checkers._NEVER_HAPPENS} <= set(Kind.__members__)


@pytest.mark.parametrize(("starts", "violations"), [(2, 0), (3, 3)])
def test_a_start_may_fail_on_a_busy_machine_but_not_often(story, starts, violations):
    story.books.exits += [Exit(f"a.{number}", 1, asked=False) for number in range(starts)]
    finding = story.finding(checkers.comes_to_rest)
    assert (len(finding.violations), finding.windows) == (violations, starts)


# ---------------------------------------------------------------------------------------------------- what has happened


def test_happenings_are_counted_from_the_books(story):
    sent = taken_over_from_a_frozen(story)
    story.send("slow", 1)
    story.tell("assigned", 0)
    story.tell("assigned", 1)
    story.wait(1).tell("lost", 0)
    story.tell("note:doubled", 0, sent.offset)
    story.tell("skipped", 4)
    story.tell("skipped", 7)
    story.tell("skipped", 2, life="b.0")
    counts = count_happenings(Books(story.history), {"killed": 0})
    assert counts["zombies_woken"] == counts["zombies_at_work"] == counts["run_again"] == counts["fenced"] == 1
    assert (counts["rebalances"], counts["lost"], counts["taken_over"]) == (1, 1, 1)
    assert (counts["messages"], counts["repeats"], counts["repeats_skipped"]) == (2, 1, 9)


def test_a_freeze_within_the_session_makes_no_zombie(story):
    taken_over_from_a_frozen(story, frozen_ms=1900)
    assert count_happenings(Books(story.history), {})["zombies_woken"] == 0


def test_what_never_happened_fails_the_storm(story):
    counts = count_happenings(Books(story.history), {"stopped": 0, "killed": 1})
    assert set(ALWAYS) | set(SOONER_OR_LATER) - {"windows"} <= set(counts)
    assert missing(counts, ["killed", "lost"]) == ["never happened: lost"]


# ---------------------------------------------------------------------------------------------------------- plan, books


def test_the_seed_decides_and_a_deck_has_everything():
    deeds = [Deck(7, 5, 2000) for _ in range(2)]
    first, again = ([deck.draw() for _ in range(16)] for deck in deeds)
    assert first == again != [Deck(8, 5, 2000).draw() for _ in range(16)]
    assert {deed.kind for deed in first} == {"freeze", "hang", "kill", "stop", "start"}
    assert sum(deed.freeze_s > 2.0 for deed in first) == 4
    assert all(sorted(deed.whom) == list(range(5)) for deed in first)


def test_a_mix_has_every_protocol_static_and_dynamic():
    mixed = {(protocol_of("mix", seed), is_static("mix", seed)) for seed in range(1, 11)}
    assert mixed == {(protocol, static) for protocol in PROTOCOLS for static in (False, True)}
    assert {order_of("mix", seed) for seed in range(1, 11)} == {"partition", "key"}
    assert (protocol_of("range", 5), order_of("none", 5)) == ("range", "none")
    assert (is_static("static", 1), is_static("dynamic", 3)) == (True, False)


def test_a_storm_is_kept_and_judged_again(story, tmp_path):
    taken_over_from_a_frozen(story)
    story.history.stalls.append(Stall("kafka", 1, 2))
    story.history.save(tmp_path / "history.json")
    assert StormHistory.load(tmp_path / "history.json") == story.history
