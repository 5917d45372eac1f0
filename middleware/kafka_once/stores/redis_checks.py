"""What a Redis server must be set to, seen at the start.

A server that evicts deletes claims in flight first (they are what expires soonest), silently; the messages run twice.
Abilities are found by trying (`check.lua`), never by the version: servers that are not Redis tell any version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafka_once.errors import StoreRefused
from kafka_once.stores.redis_line import fields_of_info

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_settings"]

_POLICY_UNKNOWN = (
    "{server}: neither INFO nor CONFIG GET is permitted, so nobody knows whether the server evicts keys: make sure "
    "that its maxmemory-policy is noeviction"
)
_EVICTS = "{server}: its maxmemory-policy is {policy}, so it may delete what it acknowledged and messages run twice"
_SERVER_UNKNOWN = (
    "{server}: INFO is not permitted, so nobody sees it when another server answers, after a restart or failover, and "
    "what it forgot is not told again: allow the user +info"
)
_NO_DISK = "{server}: it keeps nothing on disk: after its restart, repeats of what was processed are processed again"
_SNAPSHOTS = (
    "{server}: it keeps snapshots only: after its crash, repeats of what was processed since the last one are "
    "processed again; appendonly yes keeps all but the last second"
)


def check_settings(call: Callable[..., Any], server: str, *, allow_eviction: bool) -> list[str]:
    """Look at what the server is set to; return warnings as sentences.

    Args:
        call: sends a command and gives its answer.
        server: its address as it may be shown.
        allow_eviction: warn of eviction instead of refusing.

    Raises:
        StoreRefused: the server evicts. The text names the remedy.

    """
    answer = _permitted(call, "INFO")
    info = fields_of_info(answer or b"")
    warnings = [] if answer else [_SERVER_UNKNOWN.format(server=server)]
    policy = _setting(call, "maxmemory-policy") or info.get("maxmemory_policy")
    if policy is None:
        warnings.append(_POLICY_UNKNOWN.format(server=server))
    elif policy != "noeviction":
        sentence = _EVICTS.format(server=server, policy=policy)
        if not allow_eviction:
            raise StoreRefused(f"{sentence}: set maxmemory-policy to noeviction, or allow eviction explicitly")
        warnings.append(sentence)
    snapshots = _setting(call, "save")
    if info.get("aof_enabled") == "0":
        warnings.append((_NO_DISK if snapshots == "" else _SNAPSHOTS).format(server=server))
    return warnings


def _setting(call: Callable[..., Any], name: str) -> str | None:
    answer = _permitted(call, "CONFIG", "GET", name)
    return answer[1].decode() if answer else None


def _permitted(call: Callable[..., Any], *command: str) -> Any:
    try:
        return call(*command)
    except StoreRefused:  # managed servers take CONFIG away, and sometimes INFO
        return None
