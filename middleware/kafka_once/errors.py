"""What can go wrong: whose fault it is, and what to do about it.

    KafkaOnceError
    ├── ConfigurationError      yours; nothing was consumed            stop, correct the setting
    ├── MessageError            the message's                          dead-letter or stop, by policy
    │   ├── MissingKey              no usable idempotency key
    │   └── UndecodablePayload      the payload does not fit its type
    ├── StoreError              the store's
    │   ├── StoreUnavailable        no definite answer                 retry the same call: it may have been executed
    │   └── StoreRefused            wrong password, no permission,     stop, see the remedy
    │                               foreign or newer format
    ├── BrokerError             Kafka's
    │   ├── BrokerUnavailable       no definite answer                 retry
    │   └── BrokerRefused           missing topic, no permission,      stop, see the remedy
    │                               member fenced for good
    ├── ConsumerStopped         a message may not be passed by and     see `__cause__`; the message comes again
    │                           the policy is to stop
    └── InDoubt                 raised by *your* handler: "I cannot    the in-doubt policy decides
        │                       know whether my effect happened"
        └── NeverCompleted      handed out by a Consumer that was      it comes again, in doubt; no attempt is counted
                                closed before the loop completed it

A bug of kafka-once itself is an `AssertionError` and never caught.
"""

from __future__ import annotations

__all__ = [
    "BrokerError",
    "BrokerRefused",
    "BrokerUnavailable",
    "ConfigurationError",
    "ConsumerStopped",
    "InDoubt",
    "KafkaOnceError",
    "MessageError",
    "MissingKey",
    "NeverCompleted",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "UndecodablePayload",
]


class KafkaOnceError(Exception):
    """The root of everything that kafka-once raises."""


class ConfigurationError(KafkaOnceError):
    """A setting is wrong. Raised before anything is consumed; correct the setting and start again.

    Args:
        setting: its name, as the user wrote it.
        value: what it was set to; never a secret.
        remedy: what to write instead, as a sentence.
        place: where it was set, if not in the code. Default "".
    """

    def __init__(self, setting: str, value: object, remedy: str, place: str = "") -> None:
        super().__init__(f"{setting}={value!r}{f' ({place})' if place else ''}: {remedy}")
        self.setting = setting
        self.value = value
        self.remedy = remedy
        self.place = place


class MessageError(KafkaOnceError):
    """A message that cannot be processed, however often it is tried. Its text never quotes the payload."""


class MissingKey(MessageError):
    """The message has no usable idempotency key: missing, empty or oversized."""


class UndecodablePayload(MessageError):
    """The payload does not decode into the type that the handler asks for."""


class StoreError(KafkaOnceError):
    """The store failed."""


class StoreUnavailable(StoreError):
    """The store gave no definite answer; the call may have been executed. Repeat the same call."""


class StoreRefused(StoreError):
    """The store answered, and repeating will not help. Stop; the text names the remedy."""


class BrokerError(KafkaOnceError):
    """Kafka failed."""


class BrokerUnavailable(BrokerError):
    """Kafka gave no definite answer. Try again."""


class BrokerRefused(BrokerError):
    """Kafka answered, and repeating will not help. Stop; the text names the remedy."""


class ConsumerStopped(KafkaOnceError):
    """A message cannot be settled and the policy is to stop. It is not committed and comes again at the next start."""


class InDoubt(KafkaOnceError):
    """Raise this in a handler that cannot know whether its effect happened (a time-out after sending, say).

    It is never retried blindly: the in-doubt policy decides, and the message is listed by `kafka-once in-doubt`.
    """


class NeverCompleted(InDoubt):
    """A message was handed out, and its consumer was closed before the loop said what became of it."""
