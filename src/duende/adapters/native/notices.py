"""What an instance says by sd_notify, and what the keeper says of one before the answer to its spawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from duende.adapters.base import (
    AdapterEvent,
    InstanceAlive,
    InstanceAsksTime,
    InstanceKey,
    InstanceNote,
    InstanceReady,
    InstanceWatchdog,
)

__all__ = ["Unanswered", "told_by"]

_USEC_DIGITS_MAX = 15  # 30 years: what is longer is no time


def told_by(key: InstanceKey, notices: Mapping[str, str], *, now_s: float) -> Iterator[AdapterEvent]:
    """What a message of sd_notify(3) means to us. `now_s` is the monotonic clock, on which the keeper has noted when
    those came that count from then (`WATCHDOG@`).
    """
    if notices.get("READY") == "1":
        yield InstanceReady(key)
    if "STATUS" in notices:
        yield InstanceNote(key, "status", notices["STATUS"])
    if (limit_s := _seconds(notices, "WATCHDOG_USEC")) is not None:
        yield InstanceWatchdog(key, limit_s)
    if notices.get("WATCHDOG") in ("1", "trigger"):
        yield InstanceAlive(key, _came_s(notices, "WATCHDOG", now_s), notices["WATCHDOG"] == "trigger")
    if left_s := _seconds(notices, "EXTEND_TIMEOUT_USEC"):
        left_s -= max(now_s - _came_s(notices, "EXTEND_TIMEOUT_USEC", now_s), 0.0)
        if left_s > 0:
            yield InstanceAsksTime(key, left_s)


def _seconds(notices: Mapping[str, str], name: str) -> float | None:
    """A number of microseconds; None where there is none that can be."""
    text = notices.get(name, "")
    usec = int(text) if text.isascii() and text.isdecimal() and len(text) <= _USEC_DIGITS_MAX else None
    return usec / 1e6 if usec is not None else None


def _came_s(notices: Mapping[str, str], name: str, now_s: float) -> float:
    return float(notices.get(f"{name}@", now_s))  # an older keeper notes no time


class Unanswered:
    """What was asked of the keeper and is not recorded yet (or never, where the caller was cancelled).

    `until_open` is True while an adapter has not taken over yet: then anything may be of an instance still to come.
    """

    def __init__(self) -> None:
        self.until_open = True
        self._keys: set[InstanceKey] = set()
        self._events: dict[InstanceKey, list[dict[str, Any]]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: InstanceKey) -> bool:
        return key in self._keys

    def ask(self, key: InstanceKey) -> None:
        """A spawn is on its way."""
        self._keys.add(key)

    def answered(self, key: InstanceKey) -> list[dict[str, Any]]:
        """It is settled; returns what the keeper said of the instance before."""
        self._keys.discard(key)
        return self.said_of(key)

    def said_of(self, key: InstanceKey) -> list[dict[str, Any]]:
        """Take the keeper's events out."""
        return self._events.pop(key, [])

    def keep_event(self, key: InstanceKey, message: dict[str, Any]) -> bool:
        """Keep it if it may be of an instance that is still to be recorded."""
        if key in self._keys or self.until_open:
            self._events.setdefault(key, []).append(message)
            return True
        return False
