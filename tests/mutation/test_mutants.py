"""That changes are made where they are said to be made, and that a change that matters is noticed."""

from collections.abc import Callable

import pytest

from tests.mutation.mutants import mutants, mutants_of
from tests.mutation.trial import Trial, climb, patch, run_all

SOURCE = '''
def f(a: int = 1) -> int | None:
    """Not "this" == that."""
    assert a > 0
    if not a or a < 7:
        return a + 1
    a.b = 2
'''


def test_each_change_by_itself() -> None:
    assert [mutant.after for mutant in mutants_of("m.py", SOURCE)] == [
        "def f(a: int = 2) -> int | None:",
        "if ((not a) and (a < 7)):",
        "if ((a < 7)):",
        "if ((not a)):",
        "if (a) or a < 7:",
        "if not a or (a <= 7):",
        "if not a or (a >= 7):",
        "if not a or a < 8:",
        "if not (not a or a < 7):",
        "return None",
        "return ((a) - (1))",
        "return a + 2",
        "pass",
        "a.b = 3",
    ]


def test_every_mutant_of_the_core_compiles_and_has_a_name_of_its_own() -> None:
    found = mutants()
    for mutant in found[::10]:
        compile(mutant.source, mutant.file, "exec", dont_inherit=True)
    assert len({mutant.name for mutant in found}) == len(found) > 1_000


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of threads that other tests have left
def test_a_change_that_matters_is_noticed_and_one_that_does_not_survives() -> None:
    from kafka_once.core.retries import backoff_ms

    def wrong() -> str:
        return "" if backoff_ms(2, 10, 1_000, 0.0) == 20 else "not doubled"

    def start(mutant):
        def do(tell: Callable[[str, str], None]) -> None:
            patch(mutant)
            climb([("doubling", wrong, 0.1)], tell)

        return Trial(do)

    told = {}
    chosen = [each for each in mutants() if each.where == "backoff_ms"]
    run_all(chosen, start, lambda mutant, *result: told.update({mutant.after: result}), jobs=2)

    assert told["full = min(((first_ms) >> (doublings)), most_ms)"] == ("doubling", "not doubled")
    assert told[
        "doublings = min(attempts - 1, 31) # 2**30 times anything is past every limit; keeps the integer small"
    ] == (
        "",
        "",
    )
    assert wrong() == ""  # only the forks were changed
