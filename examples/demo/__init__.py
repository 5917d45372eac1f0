"""The three semantics side by side under kill -9: `make demo`."""
