"""An async handler that hands its idempotency key on to a service; see README.md."""
