"""A wall clock that a test moves, for processes that it starts."""
