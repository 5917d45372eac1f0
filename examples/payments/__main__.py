"""Consume payments until SIGTERM or Ctrl-C."""

import logging

from examples.payments.app import app

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
app.run()
