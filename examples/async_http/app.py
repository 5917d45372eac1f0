"""Charges cards by calling a service, which is given the key that is the same in every attempt."""

import os
from decimal import Decimal

import httpx
from pydantic import BaseModel

from kafka_once import App, Message, field

app = App(
    os.environ.get("KAFKA_BOOTSTRAP", "localhost:9092"),
    group=os.environ.get("GROUP", "charges"),
    store=os.environ.get("REDIS_URL", "redis://localhost:6379/0"),
    instance_id="charges-0",  # after a crash the restarted process goes on at once
    kafka={"session.timeout.ms": 6000},
)
service = httpx.AsyncClient(base_url=os.environ.get("SERVICE", "http://127.0.0.1:8000"), timeout=5)


class Charge(BaseModel):
    id: str
    amount: Decimal


@app.handler(os.environ.get("TOPIC", "charges"), key=field("id"))
async def charge(charge: Charge, message: Message) -> None:
    assert message.idempotency_key is not None
    headers = {"Idempotency-Key": message.idempotency_key.hex(), "In-Doubt": str(message.in_doubt).lower()}
    answer = await service.post("/charges", content=charge.model_dump_json(), headers=headers)
    answer.raise_for_status()  # raises before its effect, or the service knows the key: run me again
