"""Fixtures that every test may use: one real Kafka and one real Redis for the whole run.

`kafka`, `redis` and `once_app` are those of our pytest plugin, which tests here use as everybody does.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from kafka_once.member import Member
from kafka_once.testing.fixtures import missing, or_skip
from kafka_once.testing.services import RedisServer

__all__ = ["missing", "or_skip"]

# How long an example takes says more of what else the machine does.
settings.register_profile("kafka-once", deadline=None)
settings.load_profile("kafka-once")

_END_S = 20.0  # a member that drains a handler which hangs on purpose


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On CI, where one failure ends the run, what waits for real servers gets a second try; the summary shows each as
    RERUN. At home nothing is tried twice."""
    if os.environ.get("CI") != "true":
        return
    for item in items:
        if any(item.get_closest_marker(name) for name in ("integration", "docker", "chaos")):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Ends the members that a test has started and left: one that fails halfway must not take part in the next ones."""
    started: list[Member] = []
    start = Member.start

    def recorded(member: Member) -> None:
        start(member)
        started.append(member)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Member, "start", recorded)
        yield
    left = [member for member in started if not member.ended.is_set()]
    for member in left:
        member.stop()
    for member in left:
        member.ended.wait(_END_S)
    assert not left, f"{len(left)} members were left running: stop and join each, also when the test fails"


@pytest.fixture(scope="session")
def redis_server(redis: RedisServer) -> RedisServer:
    """A Redis shared by all tests: use a namespace of your own, and kill only what you started."""
    return redis
