"""What an instance says by sd_notify, and what the keeper says of one before the answer to its spawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from duende.adapters.base import AdapterEvent, InstanceKey, InstanceNote, InstanceReady

__all__ = ["Unanswered", "told_by"]


def told_by(key: InstanceKey, notices: Mapping[str, str]) -> Iterator[AdapterEvent]:
    """What a message of sd_notify(3) means to us: READY=1 and STATUS=."""
    if notices.get("READY") == "1":
        yield InstanceReady(key)
    if "STATUS" in notices:
        yield InstanceNote(key, "status", notices["STATUS"])


class Unanswered:
    """What was asked of the keeper and is not recorded yet (or never, where the caller was cancelled).

    `until_open` is True while an adapter has not taken over yet: then anything may be of an instance still to come.
    """

    def __init__(self) -> None:
        self.until_open = True
        self._keys: set[InstanceKey] = set()
        self._events: dict[InstanceKey, list[dict[str, Any]]] = {}

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
