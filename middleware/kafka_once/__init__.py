"""Effectively-once processing of Kafka messages: read at least once, claim each key in Redis, run, complete, commit."""

from kafka_once.app import App
from kafka_once.consumer import Consumer, ConsumerMessage
from kafka_once.core.events import Kind, Note, Outcome, Stall
from kafka_once.core.order import Order
from kafka_once.core.semantics import DoubtPolicy, FailurePolicy, HungPolicy, KeyPolicy, Semantics
from kafka_once.errors import (
    BrokerError,
    BrokerRefused,
    BrokerUnavailable,
    ConfigurationError,
    ConsumerStopped,
    InDoubt,
    KafkaOnceError,
    MessageError,
    MissingKey,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UndecodablePayload,
)
from kafka_once.health import Health, Problem
from kafka_once.keys import cloudevent, compose, coordinates, field, header, record_key
from kafka_once.log_lines import JsonFormatter
from kafka_once.message import Coordinates, Message, TopicPartition
from kafka_once.observers import Observer
from kafka_once.producing import Producer, Sending

__all__ = [
    "App",
    "BrokerError",
    "BrokerRefused",
    "BrokerUnavailable",
    "ConfigurationError",
    "Consumer",
    "ConsumerMessage",
    "ConsumerStopped",
    "Coordinates",
    "DoubtPolicy",
    "FailurePolicy",
    "Health",
    "HungPolicy",
    "InDoubt",
    "JsonFormatter",
    "KafkaOnceError",
    "KeyPolicy",
    "Kind",
    "Message",
    "MessageError",
    "MissingKey",
    "Note",
    "Observer",
    "Order",
    "Outcome",
    "Problem",
    "Producer",
    "Semantics",
    "Sending",
    "Stall",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "TopicPartition",
    "UndecodablePayload",
    "cloudevent",
    "compose",
    "coordinates",
    "field",
    "header",
    "record_key",
]
