"""Durations and sizes with units: text and numbers in, float seconds and whole bytes out, and back to text.

Durations: `"500ms"`, `"1m30s"`, `"1.5h"`, or a number of seconds (as the seed wrote them).
Units go from large to small, each once.
Sizes: `"512MiB"`, `"10MB"`, `"64K"`, or a number of bytes. `KB MB …` count in thousands (SI), `KiB MiB …` and the bare
letters `K M G T` in 1024s, as systemd and container runtimes read them. Case does not matter in sizes.
A number in quotes without a unit is refused: it is the commonest way to be wrong by a factor of a thousand.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

__all__ = ["DURATION_PATTERN", "SIZE_PATTERN", "format_duration", "format_size", "parse_duration", "parse_size"]

# Unit -> (numerator, denominator) in seconds: dividing by a whole number rounds right, multiplying by 0.001 does not.
_DURATION_UNITS = {
    "w": (604800, 1),
    "d": (86400, 1),
    "h": (3600, 1),
    "m": (60, 1),
    "s": (1, 1),
    "ms": (1, 1000),
    "us": (1, 1000000),
}
_DURATION_ORDER = list(_DURATION_UNITS)
_SIZE_UNITS = {
    "b": 1,
    **{f"{letter}b": 1000**n for n, letter in enumerate("kmgtp", 1)},
    **{f"{letter}ib": 1024**n for n, letter in enumerate("kmgtp", 1)},
    **{letter: 1024**n for n, letter in enumerate("kmgtp", 1)},
}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"

# For JSON Schema (ECMA 262 syntax). The order and uniqueness of units is in the pattern itself.
DURATION_PATTERN = r"^(?=.)" + "".join(f"({_NUMBER}{unit})?" for unit in _DURATION_ORDER) + "$"
SIZE_PATTERN = rf"^{_NUMBER} ?([kKmMgGtTpP]([iI]?[bB])?|[bB])(/s)?$"

_DURATION_PART = re.compile(rf"({_NUMBER})([a-zµ]+)")
_SIZE = re.compile(rf"({_NUMBER}) ?([a-z]+)(?:/s)?", re.ASCII)

_DURATION_MAX_S = 100 * 366 * 86400.0  # a century: beyond it, timers of every platform lose precision or overflow
_SIZE_MAX_BYTES = 2**63 - 1  # rlim_t and the cgroup files hold signed 64 bits
_TEXT_MAX_CHARS = 64  # longer than any sensible quantity; keeps the regular expressions' work bounded


def parse_duration(value: object) -> float:
    """Read a duration as float seconds; ValueError says what is wrong, TypeError that it is not a duration at all."""
    if isinstance(value, str):
        seconds = _duration_of_text(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if value != value or value in (math.inf, -math.inf):
            raise ValueError("must be finite")
        if value < 0:
            raise ValueError(f"must not be negative, found {value}")
        if value > _DURATION_MAX_S:
            raise ValueError("is longer than 100 years")
        seconds = float(value)
    else:
        raise TypeError
    if seconds > _DURATION_MAX_S:
        raise ValueError("is longer than 100 years")
    return seconds


def _duration_of_text(text: str) -> float:
    if len(text) > _TEXT_MAX_CHARS:
        raise ValueError(f"{text[:20]!r}… is too long for a duration")
    total_s = 0.0
    position = 0
    last_unit = -1
    while position < len(text):
        part = _DURATION_PART.match(text, position)
        if part is None:
            raise ValueError(_why_no_duration(text))
        number, unit = part.groups()
        if unit not in _DURATION_UNITS:
            raise ValueError(f"unknown unit {unit!r} in {text!r}; known are {', '.join(_DURATION_UNITS)}")
        rank = _DURATION_ORDER.index(unit)
        if rank <= last_unit:
            raise ValueError(f"units of {text!r} must go from large to small, each once")
        last_unit = rank
        numerator, denominator = _DURATION_UNITS[unit]
        total_s += float(number) * numerator / denominator
        position = part.end()
    if last_unit < 0:
        raise ValueError('is empty; write "0s" for none')
    return total_s


def _why_no_duration(text: str) -> str:
    if re.fullmatch(_NUMBER, text, re.ASCII):
        return f'{text!r} has no unit; write "{text}s", "{text}ms" …, or the number without quotes for seconds'
    if text.startswith("-"):
        return f"must not be negative, found {text!r}"
    return f'{text!r} is not a duration; write for example "500ms", "30s" or "1m30s"'


def parse_size(value: object) -> int:
    """Read a size as whole bytes; ValueError says what is wrong, TypeError that it is not a size at all."""
    if isinstance(value, str):
        size_bytes = _size_of_text(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"must not be negative, found {value}")
        size_bytes = value
    else:
        raise TypeError
    if size_bytes > _SIZE_MAX_BYTES:
        raise ValueError("is larger than 8 EiB")
    return size_bytes


def _size_of_text(text: str) -> int:
    if len(text) > _TEXT_MAX_CHARS:
        raise ValueError(f"{text[:20]!r}… is too long for a size")
    if re.fullmatch(_NUMBER, text, re.ASCII):
        raise ValueError(f'{text!r} has no unit; write "{text}MiB" …, or the number without quotes for bytes')
    match = _SIZE.fullmatch(text.lower()) if text.isascii() else None
    if match is None:
        raise ValueError(f'{text!r} is not a size; write for example "512MiB", "10MB" or "64K"')
    number, unit = match.groups()
    if unit not in _SIZE_UNITS:
        raise ValueError(f"unknown unit {unit!r} in {text!r}; known are B, KB, MB, GB, TB, PB, KiB, MiB, GiB, TiB, PiB")
    size_bytes = Decimal(number) * _SIZE_UNITS[unit]
    if size_bytes != int(size_bytes):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size_bytes)


def format_duration(seconds: float) -> str:
    """Write seconds the way `parse_duration` reads them, exactly: `1m30s`, `500ms`; below a nanosecond `0s`."""
    if seconds < 0 or not math.isfinite(seconds):
        raise ValueError(f"no duration: {seconds}")
    if seconds < 1e-9:
        return "0s"
    left_us = round(seconds * 1e6)
    parts = []
    for unit in _DURATION_ORDER:
        numerator, denominator = _DURATION_UNITS[unit]
        count, left_us = divmod(left_us, numerator * 1000000 // denominator)
        if count:
            parts.append(f"{count}{unit}")
    text = "".join(parts) or "0s"
    if _duration_of_text(text) == seconds:
        return text
    return f"{Decimal(repr(seconds)):f}s"  # repr(float) is exact, and `f` never writes an exponent


def format_size(size_bytes: int) -> str:
    """Write bytes the way `parse_size` reads them, in the largest unit that is exact: `512MiB`, `10MB`, `1500B`."""
    if size_bytes < 0:
        raise ValueError(f"no size: {size_bytes}")
    if size_bytes == 0:
        return "0B"
    for power in range(5, 0, -1):
        for base, suffix in ((1024, "iB"), (1000, "B")):
            count, rest = divmod(size_bytes, base**power)
            if count and not rest:
                return f"{count}{' KMGTP'[power]}{suffix}"
    return f"{size_bytes}B"
