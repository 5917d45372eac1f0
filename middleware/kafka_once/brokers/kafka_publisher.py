"""Publishing: an idempotent producer with a thread of its own that serves its callbacks."""

import logging
import threading
from collections.abc import Callable, Mapping

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as ClientMessage

from kafka_once.brokers.kafka_client import as_configuration_error
from kafka_once.brokers.kafka_errors import error_of, publish_error
from kafka_once.errors import BrokerUnavailable
from kafka_once.message import Coordinates
from kafka_once.ports import Outgoing

__all__ = ["Publisher"]

log = logging.getLogger("kafka_once.kafka")

OnDone = Callable[[Coordinates | Exception], None]


class Publisher:
    """A producer and its thread, which nobody else needs to poll. `close` ends both.

    Args:
        settings: librdkafka's, as `kafka_settings.publish_settings` makes them.

    Raises:
        ConfigurationError: librdkafka does not know a setting, or not that value.

    """

    def __init__(self, settings: Mapping[str, object]) -> None:
        try:
            self._producer = Producer({"logger": log, **settings, "error_cb": self._on_error})
        except (KafkaException, TypeError, ValueError) as refused:
            raise as_configuration_error(settings, refused) from None  # the cause may quote a password (H12)
        self._closing = threading.Event()
        self.is_dead = False  # after a fatal error the client refuses everything; make a new publisher
        self._thread = threading.Thread(target=self._serve, name="kafka-once-publish", daemon=True)
        self._thread.start()

    def publish(self, record: Outgoing, on_done: OnDone) -> None:
        """Hand the record over. `on_done` is called exactly once, with the coordinates (no cluster in them) or the
        error: from the thread, or here if it is refused at once."""

        def on_delivery(error: KafkaError | None, message: ClientMessage) -> None:
            if error is None:
                self._tell(
                    on_done, Coordinates("", record.topic, _number(message.partition()), _number(message.offset()))
                )
            else:
                self._tell(on_done, publish_error(record.topic, error))

        try:
            self._producer.produce(
                record.topic, record.value, record.key, headers=list(record.headers), on_delivery=on_delivery
            )
        except BufferError:
            self._tell(on_done, BrokerUnavailable(f"cannot publish to {record.topic!r}: too many records are waiting"))
        except KafkaException as refused:
            self._note(error_of(refused))
            self._tell(on_done, publish_error(record.topic, error_of(refused)))

    def close(self, timeout_s: float) -> None:
        """Wait for what is on the way at most `timeout_s`; what is left is told to have failed."""
        self._producer_flush(timeout_s)
        self._closing.set()
        self._thread.join(timeout=1.0)

    def _producer_flush(self, timeout_s: float) -> None:
        try:
            if self._producer.flush(max(timeout_s, 0.0)):
                self._producer.purge()
                self._producer.flush(0.5)  # the purged ones are told
        except KafkaException as failed:
            self._note(error_of(failed))

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                self._producer.poll(0.1)
            except KafkaException as failed:  # the client raises its fatal errors here
                self._note(error_of(failed))

    def _on_error(self, error: KafkaError) -> None:
        log.warning("publishing: %s", error.str())

    def _note(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self.is_dead = True

    @staticmethod
    def _tell(on_done: OnDone, outcome: Coordinates | Exception) -> None:
        try:
            on_done(outcome)
        except Exception:
            # In the client's callback an exception would end the thread that tells all the others.
            log.exception("on_done raised; this is a bug of kafka-once")


def _number(of_confirmed: int | None) -> int:
    assert of_confirmed is not None  # only what is not delivered has none
    return of_confirmed
