"""The campaign's checker: for each property a history that must pass and one that must fail."""

from itertools import count

import pytest

from kafka_once import Semantics
from kafka_once.testing.campaign import checker
from kafka_once.testing.campaign.history import Entry, Event, Exit, History, Kill, Reported, Sent
from kafka_once.testing.campaign.ledger import EventReader, Ledger, LedgerReader
from kafka_once.testing.campaign.payments import plan_payments
from kafka_once.testing.campaign.promises import broken_bounds, judge

MS = 1_000_000


class Story:
    """Writes a history; time goes on by one millisecond per step, or as told."""

    def __init__(self) -> None:
        self.history = History()
        self.now_ms = 1000.0
        self._offsets = {partition: count() for partition in range(12)}

    @property
    def now_ns(self) -> int:
        return int(self.now_ms * MS)

    def wait(self, ms: float) -> "Story":
        self.now_ms += ms
        return self

    def send(self, key: str, partition: int = 0) -> Sent:
        sent = Sent(key, partition, next(self._offsets[partition]), self.now_ns)
        self.history.sent.append(sent)
        return sent

    def begin(self, sent: Sent, life: str = "a.0", *, in_doubt: bool = False) -> None:
        self.wait(1)
        self.history.starts.append(self._entry(sent, life, in_doubt=in_doubt))

    def take_effect(self, sent: Sent, life: str = "a.0", *, in_doubt: bool = False) -> None:
        self.wait(1)
        self.history.ledger.append(self._entry(sent, life, in_doubt=in_doubt))

    def run(self, sent: Sent, life: str = "a.0", *, in_doubt: bool = False) -> None:
        self.begin(sent, life, in_doubt=in_doubt)
        self.take_effect(sent, life, in_doubt=in_doubt)

    def kill(self, life: str = "a.0") -> None:
        self.history.kills.append(Kill(life, self.now_ns))

    def assign(self, life: str, *partitions: int) -> None:
        self.wait(1)
        self.history.events.extend(Event("assigned", life, partition, self.now_ns) for partition in partitions)

    def report(self, sent: Sent) -> None:
        self.wait(1)
        self.history.reported.append(Reported(sent.partition, sent.offset, self.now_ns))

    def commit(self, partition: int, offset: int) -> None:
        self.history.committed[partition] = offset

    def commit_all(self) -> "Story":
        for sent in self.history.sent:
            self.commit(sent.partition, max(sent.offset + 1, self.history.committed.get(sent.partition, 0)))
        return self

    def broken_bounds(self) -> list[str]:
        return broken_bounds(judge(self.history, Semantics.EFFECTIVELY_ONCE))

    def broken(self, semantics: Semantics = Semantics.EFFECTIVELY_ONCE) -> list[str]:
        return judge(self.history, semantics).broken

    def _entry(self, sent: Sent, life: str, *, in_doubt: bool) -> Entry:
        return Entry(sent.key, sent.partition, sent.offset, life, 1, 1, in_doubt, self.now_ns)


@pytest.fixture
def story() -> Story:
    return Story()


def crash_between_effect_and_completion(story: Story) -> Sent:
    """The window of effectively once: one handler was running, one had just ended and runs again."""
    ended, running = story.send("ended", 0), story.send("running", 1)
    story.begin(running)
    story.run(ended)
    story.kill()
    for sent in (ended, running):
        story.report(sent)
        story.run(sent, "a.1", in_doubt=True)
    return ended


# ----------------------------------------------------------------------------------------------------- lost and stuck


def test_a_clean_run_breaks_nothing(story):
    for number in range(3):
        story.run(story.send(f"key-{number}"))
    repeat = story.send("key-0", 5)
    assert repeat.partition == 5
    story.commit_all()
    assert story.broken() == []
    assert story.broken_bounds() == []


def test_a_key_that_never_ran_and_is_committed_is_lost(story):
    story.run(story.send("kept"))
    story.send("gone")
    story.commit_all()
    assert checker.find_lost(story.history) == ["gone"]
    assert checker.find_stuck(story.history) == []
    assert story.broken() == ["1 lost"]
    assert story.broken(Semantics.AT_LEAST_ONCE) == ["1 lost"]
    assert story.broken(Semantics.AT_MOST_ONCE) == []


def test_a_key_that_never_ran_and_is_not_committed_is_stuck(story):
    story.run(story.send("kept"))
    story.send("late")
    story.commit(0, 1)
    assert checker.find_lost(story.history) == []
    assert checker.find_stuck(story.history) == ["late"]
    assert story.broken() == ["1 stuck: not settled at the deadline"]


def test_a_key_that_ran_and_is_not_committed_is_stuck(story):
    story.run(story.send("ran"))
    assert checker.find_stuck(story.history) == ["ran"]


def test_a_partition_without_a_commit_is_stuck(story):
    story.run(story.send("here", 0))
    story.run(story.send("there", 1))
    story.commit(0, 1)
    assert checker.find_stuck(story.history) == ["there"]


def test_one_copy_that_is_not_committed_makes_its_key_stuck_and_not_lost(story):
    story.send("twice", 0)
    story.send("twice", 1)
    story.commit(0, 1)
    assert checker.find_lost(story.history) == []
    assert checker.find_stuck(story.history) == ["twice"]


def test_a_key_that_was_never_sent_shows_wrong_books(story):
    story.run(Sent("ghost", 0, 7, 0))
    assert story.broken() == ["1 ran but were never sent"]


# ----------------------------------------------------------------------------------------------- doubled and in doubt


def test_a_reported_second_run_after_a_crash_is_within_the_promise(story):
    crash_between_effect_and_completion(story)
    story.commit_all()
    verdict = judge(story.history, Semantics.EFFECTIVELY_ONCE)
    assert verdict.broken == broken_bounds(verdict) == []
    assert (verdict.doubled, verdict.doubled_unreported, verdict.run_again, verdict.repeats_processed) == (1, 0, 1, 0)
    assert verdict.in_doubt == 2


def test_a_second_run_that_is_not_reported_breaks_it(story):
    ended = crash_between_effect_and_completion(story)
    story.history.reported = [r for r in story.history.reported if (r.partition, r.offset) != ended[1:3]]
    story.commit_all()
    assert "1 doubled and not in the list of what was in doubt" in story.broken()


def test_two_later_runs_need_two_reports(story):
    sent, other = story.send("again"), story.send("other", 1)
    for life in ("a.0", "a.1"):
        story.begin(other, life, in_doubt=life != "a.0")
        story.run(sent, life, in_doubt=life != "a.0")
        story.kill(life)
    story.report(sent)
    story.run(sent, "a.2", in_doubt=True)
    assert len(checker.find_unreported(story.history, checker.find_reruns(story.history.ledger))) == 1
    story.report(sent)
    assert checker.find_unreported(story.history, checker.find_reruns(story.history.ledger)) == []


def test_a_report_at_the_repeats_coordinates_counts_for_the_key(story):
    first, repeat, running = story.send("key", 0), story.send("key", 1), story.send("running", 2)
    story.begin(running)
    story.run(first)
    story.kill()
    story.report(repeat)
    story.run(repeat, "b.0", in_doubt=True)
    story.report(running)
    story.run(running, "b.0", in_doubt=True)
    assert story.commit_all().broken() == []


def test_a_key_begun_again_without_effect_must_be_reported_too(story):
    sent = story.send("begun")
    story.run(story.send("before", 1))
    story.begin(sent)
    story.kill()
    story.run(sent, "a.1", in_doubt=True)
    story.commit_all()
    assert story.broken() == ["1 begun again and not in the list"]


def test_a_handler_that_runs_again_must_be_told(story):
    sent = story.send("begun")
    story.begin(sent)
    story.kill()
    story.report(sent)
    story.run(sent, "a.1", in_doubt=False)
    assert "1 begun again by a handler that was not told so (message.in_doubt)" in story.commit_all().broken()


def test_a_second_run_without_a_kill_breaks_it_even_if_reported(story):
    sent = story.send("key")
    story.run(sent, "a.0")
    story.report(sent)
    story.run(sent, "b.0", in_doubt=True)
    assert "1 doubled though nobody was killed" in story.commit_all().broken()


def test_a_processed_repeat_breaks_effectively_once_only(story):
    story.run(story.send("key", 0))
    story.run(story.send("key", 1))
    story.commit_all()
    assert "1 repeats processed" in story.broken()
    assert story.broken(Semantics.AT_LEAST_ONCE) == []
    assert judge(story.history, Semantics.AT_LEAST_ONCE).repeats_processed == 1


def test_a_redelivery_after_the_repeat_counts_as_run_again(story):
    first, repeat = story.send("key", 0), story.send("key", 1)
    for sent in (first, repeat, first, repeat):
        story.run(sent)
    verdict = judge(story.commit_all().history, Semantics.AT_LEAST_ONCE)
    assert (verdict.run_again, verdict.run_again_unreported, verdict.repeats_processed) == (2, 2, 1)


def test_an_unreported_redelivery_counts_as_run_again_not_as_repeat(story):
    sent = story.send("key")
    story.run(sent)
    story.kill()
    story.run(sent, "a.1")
    verdict = judge(story.commit_all().history, Semantics.AT_LEAST_ONCE)
    assert (verdict.run_again, verdict.repeats_processed, verdict.broken) == (1, 0, [])


# ----------------------------------------------------------------------------------------------------- one kill alone


def test_more_keys_run_again_than_handlers_were_running(story):
    sents = [story.send("one"), story.send("two", 1)]
    running = story.send("running", 2)
    story.begin(running)
    for sent in sents:
        story.run(sent)
    story.wait(5)
    story.kill()
    for sent in [*sents, running]:
        story.report(sent)
        story.run(sent, "a.1", in_doubt=True)
    report = checker.examine_kills(story.commit_all().history)[0]
    assert (report.running, report.again, report.in_doubt) == (1, 2, 3)
    assert (report.doubt_running, report.doubt_ended, report.doubt_claimed) == (1, 2, 0)
    what = "1 were running and 0 had ended within the last 2 ms"
    assert story.broken_bounds() == [
        f"kill 1 (a.0): 2 ran again, {what}",
        f"kill 1 (a.0): 3 that had begun reported in doubt, {what}",
    ]
    assert story.broken() == []  # all of it is reported


@pytest.mark.parametrize(("age_ms", "lately"), [(0.5, 1), (1.9, 1), (2.1, 0), (50, 0)])
def test_what_ended_in_the_last_two_milliseconds_may_be_in_doubt(story, age_ms, lately):
    ended = story.send("ended")
    story.run(ended)
    story.wait(age_ms)
    story.kill()
    story.report(ended)
    report = checker.examine_kills(story.history)[0]
    assert (report.running, report.lately, report.in_doubt) == (0, lately, 1)
    assert bool(story.broken_bounds()) is (lately == 0)


def test_two_milliseconds_count_from_the_last_sign_of_life(story):
    early, late = story.send("early"), story.send("late", 1)
    story.run(early)
    story.kill()
    story.wait(1)
    story.run(late)  # written by a thread that the signal had not reached yet
    assert checker.examine_kills(story.history)[0].lately == 1


def test_a_claim_that_was_not_started_counts_for_the_victim_at_work_on_its_partition(story):
    worked, claimed = story.send("worked", 3), story.send("claimed", 3)
    story.run(story.send("elsewhere", 4), "b.0")
    story.run(worked, "a.0")
    story.wait(10)
    story.kill("b.0")
    story.kill("a.0")
    story.report(claimed)
    reports = checker.examine_kills(story.history)
    assert [report.in_doubt for report in reports] == [0, 1]
    assert reports[1].doubt_claimed == 1


def test_a_claim_that_was_not_started_may_be_reported_at_the_repeats_coordinates(story):
    claimed, repeat = story.send("key", 3), story.send("key", 4)
    assert claimed.partition == 3
    story.run(story.send("worked", 4), "b.0")
    story.assign("a.0", 3)
    story.kill("b.0")
    story.kill("a.0")
    for offset in range(2, 9):
        story.run(story.send(f"next-{offset}", 4), "b.1")
    story.report(repeat)  # in b's partition, but b was past it long ago, while the first copy was the next one of a.0
    assert [report.in_doubt for report in checker.examine_kills(story.history)] == [0, 1]


def test_a_doubt_that_no_kill_explains_breaks_it(story):
    sent = story.send("key")
    story.run(sent)
    story.report(sent)
    story.commit_all()
    assert story.broken() == ["1 reported in doubt though no killed process can have held their claims"]


def test_a_doubt_belongs_to_a_kill_before_it(story):
    first, second = story.send("first"), story.send("second")
    story.begin(first, "a.0")
    story.kill("a.0")
    story.wait(50)
    story.report(first)
    story.run(first, "a.1", in_doubt=True)
    story.begin(second, "a.1")
    story.kill("a.1")
    story.wait(50)
    story.report(second)
    assert [report.in_doubt for report in checker.examine_kills(story.history)] == [1, 1]


@pytest.mark.parametrize(("age_ms", "at_work"), [(0.1, True), (19.9, True), (20.1, False)])
def test_a_kill_counts_when_the_victim_wrote_shortly_before(story, age_ms, at_work):
    story.run(story.send("key"))
    last_run_ns = story.now_ns
    story.wait(age_ms)
    story.kill()
    assert checker.examine_kills(story.history)[0].at_work is at_work
    assert checker.was_at_work(story.history.kills[0], last_run_ns) is at_work


def test_a_kill_of_an_idle_life_does_not_count(story):
    story.run(story.send("key"), "b.0")
    story.kill("a.0")
    assert not checker.examine_kills(story.history)[0].at_work
    assert not checker.was_at_work(story.history.kills[0], None)


# ----------------------------------------------------------------------------------------------------------- takeover


def test_takeover_is_from_the_assignment_to_the_first_start(story):
    story.kill()
    sent = story.send("waits", 2)
    story.assign("a.1", 1, 2)
    story.wait(99)
    story.begin(sent, "a.1")
    assert checker.takeover_times_s(story.history) == [pytest.approx(0.1)]


def test_a_takeover_that_never_starts_anything_is_endless(story):
    story.kill()
    story.send("waits", 2)
    story.assign("a.1", 1, 2)
    assert checker.takeover_times_s(story.history) == [float("inf")]


def test_no_takeover_without_work_before_a_kill_or_for_a_life_killed_too(story):
    done = story.send("done", 0)
    story.assign("a.0", 0)
    story.run(done)
    story.kill("a.0")
    story.assign("a.1", 0)  # nothing waits
    story.send("later", 0)
    story.assign("a.2", 0)
    story.kill("a.2")
    assert checker.takeover_times_s(story.history) == []


def test_the_95th_percentile_is_the_nearest_rank(story):
    story.kill()
    for number in range(20):
        sent = story.send(f"key-{number}", 0)
        story.assign(f"life.{number}", 0)
        story.wait(number)
        story.run(sent, f"life.{number}")
    verdict = judge(story.history, Semantics.EFFECTIVELY_ONCE)
    assert verdict.takeover_s(0.95) == pytest.approx(0.019)
    assert verdict.takeover_s(1.0) == pytest.approx(0.020)


# ------------------------------------------------------------------------------------------------ ends, counts, books


def test_a_worker_that_ends_by_itself_or_not_cleanly_breaks_it(story):
    story.history.exits = [Exit("a.0", 1, asked=False), Exit("b.0", 0, asked=True), Exit("c.0", -9, asked=True)]
    assert story.broken() == [
        "a.0 ended by itself, with exit code 1",
        "c.0 did not end cleanly after SIGTERM: exit code -9",
    ]


def test_a_delivery_without_an_outcome_breaks_it(story):
    story.history.events += [Event("unaccounted", "a.0", 0, 0), Event("unaccounted", "b.0", 2, 0)]
    assert story.broken() == ["b.0 ended cleanly with 2 deliveries without an outcome"]


def test_deliveries_and_processings_are_counted(story):
    story.run(story.send("key"))
    story.history.events += [Event("polled", "a.0", 5, 0), Event("polled", "a.1", 7, 0), Event("skipped", "a.1", 3, 0)]
    verdict = judge(story.history, Semantics.EFFECTIVELY_ONCE)
    assert (verdict.distinct, verdict.deliveries, verdict.processings) == (1, 12, 1)


def test_a_history_is_kept_and_read_again(story, tmp_path):
    crash_between_effect_and_completion(story)
    story.commit_all().history.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json") == story.history


def test_the_ledger_is_read_as_it_was_written(tmp_path):
    runs, events = LedgerReader(tmp_path / "ledger"), EventReader(tmp_path / "events")
    assert runs.read_new() == []
    ledger = Ledger(tmp_path, "worker-0.3")
    ledger.write_run("payment-000001", 11, 4242, 2, in_doubt=True)
    entry = runs.read_new()[0]
    assert entry[:4] + entry[5:7] == ("payment-000001", 11, 4242, "worker-0.3", 2, True)
    ledger.write_run("payment-000002", 0, 1, 1, in_doubt=False)
    assert [entry.key for entry in runs.read_new()] == ["payment-000002"]
    ledger.write_events("assigned", [3, 4])
    assert [event.number for event in events.read_new()] == [3, 4]


def test_repeats_come_after_their_first_copy_and_the_seed_decides():
    plan = plan_payments(1000, 200, 12, seed=7)
    keys = [payment.key for payment in plan]
    assert len(plan) == 1200
    assert len(set(keys)) == 1000
    firsts = list(dict.fromkeys(keys))
    assert firsts == sorted(firsts)  # so no repeat came before its first copy
    assert {payment.partition for payment in plan} == set(range(12))
    assert plan == plan_payments(1000, 200, 12, seed=7) != plan_payments(1000, 200, 12, seed=8)


def test_claims_on_their_way_may_be_in_doubt_one_for_each_lane(story):
    claimed = [story.send("claimed", 0), story.send("more", 0)]
    story.run(story.send("worked", 0))
    story.wait(10)
    story.kill()
    story.report(claimed[0])
    assert story.broken_bounds() == []
    story.report(claimed[1])
    assert story.broken_bounds() == ["kill 1 (a.0): 2 reported in doubt, its lanes were 1"]
