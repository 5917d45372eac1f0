"""Which topics can be consumed: what an app's handlers and a loop's `subscribe` name."""

import re
from collections.abc import Sequence

from kafka_once.errors import ConfigurationError

__all__ = ["check_topics"]


def check_topics(dead_letter_topic: str | None, topics: Sequence[object]) -> None:
    """See `Settings.check_topics`."""
    if not topics:
        raise ConfigurationError("topics", topics, "name at least one topic to consume")
    if isinstance(topics, str):  # else its letters would be the topics
        raise ConfigurationError("topics", topics, f'write a list: ["{topics}"]')
    for topic in topics:
        if not isinstance(topic, str):  # the handler itself, where the decorator was not called
            remedy = 'a topic is text; write @app.handler("payments", key=…) above the handler'
            raise ConfigurationError("topics", getattr(topic, "__name__", topic), remedy)
        if dead_letter_topic is not None and _subscribes(topic, dead_letter_topic):
            remedy = f"it is consumed here ({topic!r}), so its messages would go round for ever; name another topic"
            raise ConfigurationError("dead_letter_topic", dead_letter_topic, remedy)


def _subscribes(topic: str, name: str) -> bool:
    if not topic.startswith("^"):
        return topic == name
    try:
        return "[:" not in topic and re.search(topic, name) is not None
    except re.error:  # librdkafka's patterns are POSIX ones: not every one can be read here
        return False
