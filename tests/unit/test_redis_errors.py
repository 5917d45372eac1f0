"""The table of a Redis server's failures: which are no answer, and which will not go away."""

import pytest
import redis
from redis import exceptions

from kafka_once.errors import StoreRefused, StoreUnavailable
from kafka_once.stores.redis_errors import translated
from kafka_once.stores.redis_places import without_password

SERVER = "redis://host:6379/0"
IN_SCRIPT = "{} script: 1f2e3d, on @user_script:66."
IN_OLD_SCRIPT = "Error running script (call to f_1f2e3d): @user_script:66: -{}"


def test_a_password_that_the_server_repeats_is_not_shown():
    """H20: where AUTH is disabled or renamed, its arguments are those of a command that is not known."""
    error = exceptions.ResponseError("unknown command 'AUTH', with args beginning with: 'worker' 's3cret' ")

    shown = str(translated(error, SERVER))

    assert "AUTH" in shown
    assert "s3cret" not in shown
    assert "worker" not in shown


@pytest.mark.parametrize(
    "error",
    [
        exceptions.TimeoutError("Timeout reading from socket"),
        exceptions.ConnectionError("Connection closed by server."),
        exceptions.ConnectionError("max number of clients reached"),
        exceptions.InvalidResponse("Protocol Error: b'HTTP/1.1 400 Bad Request'"),
        ConnectionResetError(104, "Connection reset by peer"),
        BrokenPipeError(32, "Broken pipe"),
        exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
        exceptions.ReadOnlyError("You can't write against a read only replica."),
        exceptions.MasterDownError("Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
        exceptions.ClusterDownError("The cluster is down"),
        exceptions.TryAgainError("Multiple keys request during rehashing of slot"),
        exceptions.AskError("1234 127.0.0.1:7001"),
        exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        exceptions.ResponseError("BUSY Redis is busy running a script."),
        exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots, but it can't persist on disk."),
        exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."),
        exceptions.ResponseError("Script killed by user with SCRIPT KILL..."),
        exceptions.ResponseError(IN_SCRIPT.format("OOM command not allowed when used memory > 'maxmemory'.")),
        exceptions.ResponseError(IN_OLD_SCRIPT.format("OOM command not allowed when used memory > 'maxmemory'.")),
        exceptions.ResponseError(IN_OLD_SCRIPT.format("READONLY You can't write against a read only replica.")),
    ],
    ids=lambda error: str(error)[:40],
)
def test_no_definite_answer(error):
    assert type(translated(error, SERVER)) is StoreUnavailable


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (exceptions.AuthenticationError("invalid username-password pair or user is disabled."), "password"),
        (exceptions.AuthenticationError("Authentication required."), "password"),
        (exceptions.ResponseError("WRONGPASS invalid username-password pair"), "password"),
        (exceptions.NoPermissionError("this user has no permissions to run the 'eval' command"), "~kafka-once"),
        (
            exceptions.ResponseError("ACL failure in script: User x has no permissions to run the 'time' command"),
            "allow",
        ),
        (
            exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
            "another database",
        ),
        (exceptions.ResponseError(IN_OLD_SCRIPT.format("WRONGTYPE Operation against a key")), "another database"),
        (exceptions.ResponseError("unknown command 'EVALSHA', with args beginning with: "), "newer server"),
        (exceptions.ResponseError("Unknown Redis command called from script"), "newer server"),
        (exceptions.MovedError("1234 127.0.0.1:7001"), "Cluster"),
        (exceptions.ResponseError("DENIED Redis is running in protected mode"), "set a password"),
        (exceptions.ConnectionError("Error 1: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), "ssl_ca"),
        (exceptions.ResponseError(IN_SCRIPT.format("KAFKAONCE[the remedy of the script]")), "the remedy of the script"),
        (exceptions.ResponseError("nobody ever saw this"), "report"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_repeating_will_not_help(error, remedy):
    raised = translated(error, SERVER)
    assert type(raised) is StoreRefused
    assert remedy in str(raised)
    assert SERVER in str(raised)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@host:6379/0", "redis://host:6379/0"),
        ("rediss://:sec%40ret@host/1?password=secret", "rediss://host/1"),
        ("unix://user:secret@/run/redis.sock?db=1", "unix:/run/redis.sock"),
        ("redis://:sec@ret@host", "redis://host"),
        ("redis://[secret", "(an address that cannot be read)"),
    ],
)
def test_addresses_are_shown_without_secrets(url, shown):
    assert without_password(url) == shown


def test_no_answer_leads_to_what_to_look_at():
    said = str(translated(exceptions.TimeoutError("Timeout connecting to server"), SERVER))

    assert said.startswith(f"{SERVER}: it did not answer in time (TimeoutError: ")
    assert said.endswith("does it speak TLS there (rediss://) or not (redis://)?")


def test_every_class_of_redis_py_has_a_verdict():
    for name in dir(redis.exceptions):
        kind = getattr(redis.exceptions, name)
        if isinstance(kind, type) and issubclass(kind, redis.RedisError) and not issubclass(kind, exceptions.AskError):
            assert isinstance(translated(kind("text"), SERVER), StoreUnavailable | StoreRefused)
