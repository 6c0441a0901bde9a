"""The foreground's view: each line with its daemon's name before it, and what happens between them."""

from __future__ import annotations

import sys

from duende.cli.lines import LinePrinter
from duende.cli.output import Paint, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from duende.runtime.logs.record import LogRecord

__all__ = ["Foreground"]


class Foreground:
    """Prints to stdout; colours only on a terminal. A terminal that went away is no reason to stop supervising."""

    def __init__(self, *, no_color: bool) -> None:
        self._paint = Paint(no_color=no_color)
        self._lines = LinePrinter(self._paint, width=len("duende"))

    def show(self, record: LogRecord) -> None:
        """One line of a daemon."""
        self._write(self._lines.text(record.daemon, record.message, record.priority) + "\n")

    def say(self, text: str) -> None:
        """What duende itself has to say."""
        self._write(self._paint(f"{'duende'.ljust(self._lines.width)} * {printable(text)}", "dim") + "\n")

    def _write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except (OSError, ValueError):
            return  # nobody looks any more (a closed terminal or pipe); the log files have it
