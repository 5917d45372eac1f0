"""When a handler raised: what that means, and how long it waits."""

import pytest

from kafka_once.core.retries import Verdict, backoff_ms, classify
from kafka_once.errors import ConfigurationError, InDoubt, NeverCompleted, UndecodablePayload


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ValueError(), Verdict.RETRY),
        (UndecodablePayload(), Verdict.REJECT),
        (InDoubt(), Verdict.DOUBT),
        (NeverCompleted(), Verdict.ABANDONED),
        (ConfigurationError("handler", "f", "…"), Verdict.FATAL),
        (SystemExit(), Verdict.FATAL),
        (KeyboardInterrupt(), Verdict.FATAL),
        (ExceptionGroup("", [ValueError(), UndecodablePayload()]), Verdict.REJECT),
        (ExceptionGroup("", [ValueError(), ValueError()]), Verdict.RETRY),
        (BaseExceptionGroup("", [SystemExit(), UndecodablePayload()]), Verdict.FATAL),
        (BaseExceptionGroup("", [NeverCompleted(), SystemExit()]), Verdict.ABANDONED),
        (ExceptionGroup("", [NeverCompleted(), InDoubt()]), Verdict.DOUBT),
        (ExceptionGroup("", [ValueError(), ExceptionGroup("", [InDoubt()]), ValueError()]), Verdict.DOUBT),
    ],
)
def test_what_is_raised_says_what_follows(error: BaseException, verdict: Verdict) -> None:
    assert classify(error) is verdict


@pytest.mark.parametrize(
    ("attempts", "wait_ms"), [(1, 200), (2, 400), (3, 800), (8, 25_600), (9, 30_000), (1_000_000, 30_000)]
)
def test_the_wait_doubles_with_each_attempt_up_to_a_limit(attempts: int, wait_ms: int) -> None:
    assert backoff_ms(attempts, 200, 30_000, jitter=0.0) == wait_ms


@pytest.mark.parametrize(("jitter", "wait_ms"), [(0.0, 400), (0.25, 350), (0.5, 300), (0.999_999, 201)])
def test_jitter_takes_away_up_to_a_half(jitter: float, wait_ms: int) -> None:
    assert backoff_ms(2, 200, 30_000, jitter) == wait_ms
