"""What is decided. Pure: standard library only; no I/O, clock, randomness, threads or logging."""
