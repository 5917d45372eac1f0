"""Where claims are held: in this process (`memory`), or in a Redis server (`redis`).

Both give the same answers, which `kafka_once.testing.store_conformance` checks.
"""
