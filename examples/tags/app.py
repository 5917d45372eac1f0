"""Adds tags to articles. Adding a tag twice is adding it once, so nothing needs to be remembered, and no Redis."""

import os
from collections import defaultdict

from pydantic import BaseModel

from kafka_once import App

app = App(os.environ.get("KAFKA_BOOTSTRAP", "localhost:9092"), group="tags", semantics="at_least_once")

tags: dict[str, set[str]] = defaultdict(set)


class Tagging(BaseModel):
    article: str
    tag: str


@app.handler("tags", idempotent=True)
def add_tag(tagging: Tagging) -> None:
    tags[tagging.article].add(tagging.tag)
