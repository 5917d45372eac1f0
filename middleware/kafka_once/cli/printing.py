"""Where commands print for people."""

from rich.console import Console

__all__ = ["wide_console"]

_WIDTH_OF_A_FILE = 200


def wide_console() -> Console:
    """Standard output; where that is no terminal, so wide that tables keep one line for each row."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH_OF_A_FILE)
