"""The simulated Kafkas do what the real one does: findings 2 to 6, script by script, under all three protocols."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from kafka_once.testing.services import KafkaServer
from tests.reality import wrong_groups as wrong
from tests.reality.broker_groups import KafkaGroup, MemoryGroup
from tests.reality.group_scripts import SCRIPTS, Script
from tests.reality.simulated_group import SimulatedGroup

ROWS = [
    pytest.param(script, protocol, id=f"{script.name}-{protocol}") for script in SCRIPTS for protocol in script.shows
]
BY_NAME = {script.name: script for script in SCRIPTS}
FOREIGN = "finding_2_a_live_member_commits_for_another"
BOTH = "finding_3_one_commit_of_an_owned_and_a_revoked_partition"
ZOMBIE = "finding_4_and_6_a_member_hangs_while_another_joins"
RAISES = "finding_5_an_exception_comes_out_of_a_poll"
ALONE = "finding_6_a_member_hangs_alone"

# What a simulator does not do, and why nothing is missed by it. Each of these rows must really differ.
EAGER = "the group in memory moves partitions the cooperative way only; the simulated worlds have the eager way too"
MEMORY_DIFFERS = {(BOTH, "eager"): EAGER, (ZOMBIE, "eager"): EAGER}
NO_CLIENT = (
    "a simulated process has no client: the adapter takes back what was dequeued before anybody else hears of the "
    "exception, and that is shown of the group in memory and of the real one"
)
SIMULATED_DIFFERS = {(RAISES, protocol): NO_CLIENT for protocol in BY_NAME[RAISES].shows}


def in_memory(script: Script, protocol: str) -> list[str]:
    return script.play(MemoryGroup(protocol))


def simulations(script: Script, protocol: str) -> list[list[str]]:
    """All that the search might see."""
    return [script.play(SimulatedGroup(protocol, accepted)) for accepted in (0.0, 1.0)]


@pytest.mark.parametrize(("script", "protocol"), ROWS)
def test_the_group_in_memory(script: Script, protocol: str) -> None:
    same = in_memory(script, protocol) == script.shows[protocol]
    assert same == ((script.name, protocol) not in MEMORY_DIFFERS), in_memory(script, protocol)


@pytest.mark.parametrize(("script", "protocol"), ROWS)
def test_the_group_of_the_simulated_worlds(script: Script, protocol: str) -> None:
    if (script.name, protocol) in SIMULATED_DIFFERS:
        with pytest.raises(NotImplementedError):
            simulations(script, protocol)
    else:
        assert script.shows[protocol] in simulations(script, protocol)


@pytest.mark.integration
@pytest.mark.parametrize(("script", "protocol"), ROWS)
def test_the_real_kafka(script: Script, protocol: str, kafka: KafkaServer) -> None:
    if kafka.kind == "mock":
        pytest.skip("needs a real Kafka")
    group = KafkaGroup(protocol, kafka)
    try:
        assert script.play(group) == script.shows[protocol]
    finally:
        group.close()


# ------------------------------------------------------------------------------------- simulators that behave otherwise

WRONG = [
    (wrong.owners_only_commit, in_memory, FOREIGN),
    (wrong.owners_only_commit, in_memory, BOTH),
    (wrong.anybody_commits, in_memory, ZOMBIE),
    (wrong.anybody_commits, in_memory, ALONE),
    (wrong.the_put_out_hear_at_once, in_memory, ZOMBIE),
    (wrong.what_was_dequeued_is_gone, in_memory, RAISES),
    (wrong.simulated_owners_only_commit, simulations, FOREIGN),
    (wrong.simulated_owners_only_commit, simulations, BOTH),
    (wrong.simulated_put_out_hears_at_once, simulations, ZOMBIE),
]


@pytest.mark.parametrize(("variant", "play", "name"), WRONG)
def test_a_simulator_that_behaves_otherwise_is_noticed(
    variant: Callable[[], AbstractContextManager[None]], play: Callable[[Script, str], list[Any]], name: str
) -> None:
    script = BY_NAME[name]
    with variant():
        shown = play(script, "cooperative")

    assert shown != script.shows["cooperative"]
    assert script.shows["cooperative"] not in shown
