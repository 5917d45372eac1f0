"""An idempotent operation, declared so: no store, and repeats do no harm."""
