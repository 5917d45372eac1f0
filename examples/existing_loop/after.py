import json
import os

from kafka_once import Consumer, header

conf = {
    "bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP", "localhost:9092"),
    "group.id": "charges",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
}


def charge(order: dict) -> None:
    print(f"charged {order['amount']} for {order['id']}", flush=True)


consumer = Consumer(conf, store=os.environ.get("REDIS_URL", "redis://localhost:6379/0"), key=header("idempotency-key"))
consumer.subscribe(["orders"])
try:
    while True:
        msg = consumer.poll(1.0)
        if msg is None:
            continue
        if msg.error():
            raise RuntimeError(msg.error())
        charge(json.loads(msg.value()))
        consumer.commit(message=msg)
except KeyboardInterrupt:
    pass
finally:
    consumer.close()
