"""The memory store forgets, and takes jumps of its clock, as a real Redis does: findings 8 and 9, script by script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conftest import or_skip
from tests.reality import wrong_stores as wrong
from tests.reality.store_scripts import SCRIPTS, Script
from tests.reality.store_worlds import Forgetful, MemoryWorld, RedisWorld

ROWS = [pytest.param(script, id=script.name) for script in SCRIPTS]


@pytest.mark.parametrize("script", ROWS)
def test_the_memory_store(script: Script) -> None:
    assert script.play(MemoryWorld()) == script.shows


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forgetful]:
    folder: Path = tmp_path_factory.mktemp("clock")
    with or_skip(lambda: Forgetful(folder)) as started:
        yield started


@pytest.mark.integration
@pytest.mark.parametrize("script", ROWS)
def test_the_real_redis(script: Script, server: Forgetful) -> None:
    world = RedisWorld(server)
    try:
        assert script.play(world) == script.shows
    finally:
        world.close()


WRONG = [
    (wrong.claims_go_with_their_session, "finding_8_sessions_are_evicted"),
    (wrong.claims_stay, "finding_8_done_keys_are_evicted"),
    (wrong.claims_stay, "finding_8_claims_are_evicted"),
    (wrong.frontiers_outlive_a_flush, "finding_8_everything_is_flushed"),
    (wrong.done_keys_stay, "finding_9_the_clock_jumps_ahead"),
    (wrong.frontiers_expire, "finding_9_the_clock_jumps_ahead"),
    (wrong.numbers_follow_the_clock_only, "finding_9_the_clock_jumps_back"),
    (wrong.a_clock_that_never_goes_back, "finding_9_the_clock_jumps_back"),
]


@pytest.mark.parametrize(("variant", "name"), WRONG)
def test_a_store_that_behaves_otherwise_is_noticed(
    variant: Callable[[], AbstractContextManager[None]], name: str
) -> None:
    (script,) = (script for script in SCRIPTS if script.name == name)
    with variant():
        assert script.play(MemoryWorld()) != script.shows
