"""How a captured line is shown: with the daemon's name in front, in a colour of its own, and made harmless."""

from __future__ import annotations

from duende.cli.output import Paint, printable

__all__ = ["LinePrinter"]

_COLORS = ("cyan", "yellow", "green", "magenta", "blue")
_WORST_PRIORITY_SHOWN_PLAIN = 4  # warning, syslog(3); error and worse are red


class LinePrinter:
    """Turns lines into text; names are padded to the longest that was seen, or `width` if that is known before."""

    def __init__(self, paint: Paint, *, with_name: bool = True, width: int = 0) -> None:
        self._paint = paint
        self._with_name = with_name
        self.width = width
        self._colors: dict[str, str] = {}

    def text(self, daemon: str, message: bytes, priority: int | None = None, time: str = "") -> str:
        """The line as it is shown, without its end."""
        parts = [time] if time else []
        if self._with_name:
            name = printable(daemon)
            self.width = max(self.width, len(name))
            color = self._colors.setdefault(daemon, _COLORS[len(self._colors) % len(_COLORS)])
            parts.append(self._paint(f"{name.ljust(self.width)} |", color))
        words = printable(message.decode("utf-8", "backslashreplace"))
        if priority is not None and priority < _WORST_PRIORITY_SHOWN_PLAIN:
            words = self._paint(words, "red")
        return " ".join([*parts, words])
