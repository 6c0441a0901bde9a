"""What the terminal gets: tables, colours, durations, and text made harmless.

A daemon's output, and whatever a stranger made it write, must not move the cursor, retitle the window or fake a prompt:
every control character is shown as an escape. `logs --raw` alone passes bytes through.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["STATUS_COLORS", "Paint", "duration_text", "printable", "size_text", "table", "write", "write_json"]

# C0 but for the tab, DEL, C1 (which some terminals obey: 0x9b is CSI), line separators, and the bidirectional controls
# that make text read other than it is (CVE-2021-42574).
_ESCAPES = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for codes in (
        range(9),
        range(10, 32),
        range(127, 160),
        (0x061C, 0x200E, 0x200F, 0x2028, 0x2029),
        range(0x202A, 0x202F),
        range(0x2066, 0x206A),
    )
    for code in codes
}

_COLORS = {
    "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36"
}  # fmt: skip
STATUS_COLORS = {"running": "green", "failed": "red", "backoff": "yellow", "starting": "cyan", "stopping": "cyan"}


def printable(text: str) -> str:
    """`text` with every character that a terminal obeys replaced by an escape; tabs stay."""
    return text if text.isprintable() else text.translate(_ESCAPES)


def write(text: str) -> None:
    """Write lines to stdout; a closed one is nobody's fault (`>&-`)."""
    if sys.stdout is not None:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")


def write_json(value: Any, *, indent: int | None = 2) -> None:
    """Write one JSON document; `indent` None keeps it on one line."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    write(json.dumps(value, indent=indent, ensure_ascii=encoding not in ("utf-8", "utf8")))


class Paint:
    """Colours, where they are wanted: a terminal, without NO_COLOR (no-color.org) and --no-color."""

    def __init__(self, *, no_color: bool = False) -> None:
        wanted = not no_color and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.is_on = wanted and sys.stdout is not None and sys.stdout.isatty()

    def __call__(self, text: str, color: str) -> str:
        return f"\x1b[{_COLORS[color]}m{text}\x1b[0m" if self.is_on and color else text

    def status(self, status: str) -> str:
        """A status in its colour."""
        return self(status, STATUS_COLORS.get(status, ""))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], paint: Paint, colors: Sequence[str] = ()) -> str:
    """Columns as wide as they need; `colors` is one per row and paints its second column."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in [list(head), *cells]) for n in range(len(head))]
    lines = [paint("  ".join(cell.ljust(width) for cell, width in zip(head, widths, strict=True)).rstrip(), "bold")]
    for number, row in enumerate(cells):
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        padded[-1] = row[-1]
        if colors:
            padded[1] = paint(padded[1], colors[number])
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def duration_text(seconds: float) -> str:
    """The two largest units: `4.2s`, `3m12s`, `2h05m`, `12d03h`."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def size_text(size_bytes: float) -> str:
    """Three figures and a binary unit: `512 B`, `1.2 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024 or unit == "GiB":
            break
        size_bytes /= 1024
    return f"{size_bytes:.0f} {unit}" if unit == "B" or size_bytes >= 99.5 else f"{size_bytes:.1f} {unit}"
