"""Which of a Redis server's failures are "no definite answer", and which will not go away by repeating.

redis-py turns some of the server's error words into classes and leaves the rest as text; errors from inside a script
carry their word in the middle of the text, at a place that depends on the server's version. So one table of patterns is
looked for in class names (the bases' too) and text alike; the first match wins.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kafka_once.errors import StoreError, StoreRefused, StoreUnavailable

__all__ = ["translated"]


class _Row(NamedTuple):
    pattern: str
    error: type[StoreError]
    reason: str
    remedy: str = ""  # said last, where the server's own words lead up to it


# redis:// on a port that speaks TLS is closed; rediss:// on one that does not is never answered.
_WHERE = ": is it up, is that its address, and does it speak TLS there (rediss://) or not (redis://)?"

_ROWS = (
    # The server will not take this call, however often it comes.
    _Row(
        r"CERTIFICATE_VERIFY_FAILED",
        StoreRefused,
        "its TLS certificate is not trusted: name the authority's file in the url (ssl_ca_certs=…)",
    ),
    _Row(
        r"AuthenticationError|AuthenticationWrongNumber|WRONGPASS|NOAUTH",
        StoreRefused,
        "the user name or the password is missing or wrong: write them into the store's url (redis://user:password@host)",
    ),
    _Row(
        r"NoPermissionError|NOPERM|ACL failure|no permissions|can't (run|access)",
        StoreRefused,
        "the user may not run a command or touch a key that kafka-once needs: allow the scripts' commands "
        "(+@read +@write +@scripting +@connection +time) and the keys ~kafka-once:*",
    ),
    _Row(
        r"\bDENIED\b", StoreRefused, "it is in protected mode: set a password for it, or bind it to the address in use"
    ),
    _Row(
        r"\bWRONGTYPE\b",
        StoreRefused,
        "a key of the namespace holds a value of another type, so another program writes there: use another database",
    ),
    _Row(
        r"MovedError|\bMOVED\b",
        StoreRefused,
        "it is one node of a Redis Cluster: name the cluster, redis+cluster://host:port",
    ),
    _Row(r"cluster support disabled", StoreRefused, "it is no Redis Cluster: write redis://host:port/database"),
    _Row(
        r"unknown command|Unknown (Redis )?command|non deterministic|not allowed from script",
        StoreRefused,
        "it lacks a command that the scripts use, because it is older than Redis 6.2 or because it was disabled: use a "
        "newer server, or allow the command",
    ),
    # A passing state. None of these has executed the call; the caller repeats it all the same.
    _Row(r"BusyLoadingError|LOADING", StoreUnavailable, "it is still reading its data"),
    _Row(r"\bBUSY\b|UNKILLABLE", StoreUnavailable, "a slow script holds it up"),
    _Row(r"Script killed", StoreUnavailable, "somebody ended the script with SCRIPT KILL"),
    _Row(r"MasterDownError|MASTERDOWN", StoreUnavailable, "it is a replica without its primary"),
    _Row(
        r"ReadOnlyError|READONLY",
        StoreUnavailable,
        "it is a replica: a failover is under way, or the url names a replica",
    ),
    _Row(r"ClusterDownError|CLUSTERDOWN", StoreUnavailable, "its cluster is down"),
    _Row(r"MasterNotFoundError", StoreUnavailable, "no sentinel answered with a primary of that name"),
    _Row(
        r"non local key|TryAgainError|TRYAGAIN|AskError|\bASK\b",
        StoreUnavailable,
        "its cluster is moving the namespace to another node",
    ),
    _Row(
        r"OutOfMemoryError|\bOOM\b", StoreUnavailable, "it is out of memory: raise maxmemory, or give it less to hold"
    ),
    _Row(r"MISCONF", StoreUnavailable, "it cannot write to its disk and refuses to change anything until it can"),
    _Row(r"NOREPLICAS", StoreUnavailable, "too few of its replicas follow (min-replicas-to-write)"),
    # No answer at all, or half of one: the call may have been executed. These stand last because redis-py makes some of
    # the errors above from the same classes.
    _Row(r"TimeoutError|timed out|Timeout", StoreUnavailable, "it did not answer in time", _WHERE),
    _Row(r"ConnectionError|OSError|InvalidResponse|SSLError", StoreUnavailable, "the connection failed", _WHERE),
)

_OWN_SENTENCE = re.compile(r"KAFKAONCE\[(.*?)\]", re.DOTALL)
_UNEXPECTED = "it refused a call in a way that kafka-once does not know; please report this text: "


def translated(error: Exception, server: str) -> StoreError:
    """The error to raise for what redis-py (or the operating system) raised.

    Args:
        error: what was raised.
        server: the server's address as it may be shown, without a password.

    """
    own = _OWN_SENTENCE.search(str(error))
    if own:  # a script said it, with its remedy
        return StoreRefused(f"{server}: {own[1]}")
    known_as = " ".join([*(base.__name__ for base in type(error).__mro__), str(error)])
    for row in _ROWS:
        if re.search(row.pattern, known_as):
            return row.error(f"{server}: {row.reason} ({_brief(error)}){row.remedy}")
    return StoreRefused(f"{server}: {_UNEXPECTED}{_brief(error)}")


# What the server repeats of a command that it does not know: of AUTH the password.
_ARGUMENTS = re.compile(r",? with args beginning with.*", re.DOTALL)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {_ARGUMENTS.sub('', str(error))[:200]}"
