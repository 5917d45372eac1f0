"""Moves money between accounts: nothing that may happen twice for one payment."""

import os
from decimal import Decimal

from pydantic import BaseModel

from examples.payments.ledger import open_ledger
from kafka_once import App, Message, field

app = App(
    os.environ.get("KAFKA_BOOTSTRAP", "localhost:9092"),
    group="payments",
    store=os.environ.get("REDIS_URL", "redis://localhost:6379/0"),
    kafka={"session.timeout.ms": 6000},  # others go on 6 s after a process was killed; Kafka's default is 45 s
)


class Payment(BaseModel):
    id: str
    amount: Decimal
    from_account: str
    to_account: str


@app.handler("payments", key=field("id"))  # one transfer per id, however often it arrives
def transfer(payment: Payment, message: Message) -> None:
    cents = int(payment.amount * 100)
    with open_ledger() as ledger:
        ledger.add(payment.from_account, -cents)
        ledger.add(payment.to_account, cents)
        ledger.note_run(payment.id, message)
