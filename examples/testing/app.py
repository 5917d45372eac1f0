"""The app that is tested: orders become shipments, once each; where a customer lives is only kept."""

import os

from pydantic import BaseModel, PositiveInt

from kafka_once import App, Message, field

app = App(
    os.environ.get("KAFKA_BOOTSTRAP", "localhost:9092"),
    group="shipping",
    store=os.environ.get("REDIS_URL", "redis://localhost:6379/0"),
    dead_letter_topic="orders-dead",
)


class Order(BaseModel):
    id: str
    items: PositiveInt


class Carrier:
    """What the handler calls. Tests put another one in its place."""

    def pick_up(self, order_id: str, items: int, reference: bytes | None) -> None:
        print(f"carrier: {items} items for {order_id}, reference {reference!r}")


carrier = Carrier()


@app.handler("orders", key=field("id"))
def ship(order: Order, message: Message) -> None:
    carrier.pick_up(order.id, order.items, message.idempotency_key)


class Address(BaseModel):
    customer: str
    street: str


addresses: dict[str, str] = {}


@app.handler("addresses", idempotent=True)
def keep(address: Address) -> None:
    addresses[address.customer] = address.street
