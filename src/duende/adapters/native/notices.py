"""What is heard of an instance before the answer to its spawn: events of the keeper, messages of sd_notify."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from duende.adapters.base import AdapterEvent, InstanceKey, InstanceNote, InstanceReady
from duende.adapters.native.tree import Tree, marker_of

__all__ = ["EarlyNotices", "Unanswered", "told_by"]

Message = dict[str, list[str]]

# A message a start is usual; one that floods before it is known pushes out what others have said.
_KEPT_MAX = 1024


def told_by(key: InstanceKey, message: Message) -> Iterator[AdapterEvent]:
    """What a message of sd_notify(3) means to us: READY=1 and STATUS=."""
    if "1" in message.get("READY", []):
        yield InstanceReady(key)
    for text in message.get("STATUS", []):
        yield InstanceNote(key, "status", text)


class EarlyNotices:
    """Keeps them until the sender is known. The pid comes from the kernel (SCM_CREDENTIALS), so it can't be forged."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, str | None, Message]] = deque(maxlen=_KEPT_MAX)

    def keep(self, pid: int, message: Message) -> None:
        """From a process that is not known yet."""
        self._kept.append((pid, marker_of(pid), message))

    def take(self, tree: Tree) -> list[Message]:
        """What the processes of this tree have said."""
        mine = [one for one in self._kept if one[0] == tree.leader or one[1] == tree.marker]
        for one in mine:
            self._kept.remove(one)
        return [message for _, _, message in mine]

    def clear(self) -> None:
        """Nobody is being started: what is left is from strangers."""
        self._kept.clear()


class Unanswered:
    """What was asked of the keeper and is not recorded yet (or never, where the caller was cancelled).

    `until_open` is True while an adapter has not taken over yet: then anything may be of an instance still to come.
    """

    def __init__(self) -> None:
        self.notices = EarlyNotices()
        self.until_open = True
        self._keys: set[InstanceKey] = set()
        self._events: dict[InstanceKey, list[dict[str, Any]]] = {}

    def __contains__(self, key: InstanceKey) -> bool:
        return key in self._keys

    def ask(self, key: InstanceKey) -> None:
        """A spawn is on its way."""
        self._keys.add(key)

    def answered(self, key: InstanceKey, later: Callable[[Callable[[], None]], object]) -> list[dict[str, Any]]:
        """It is settled; returns what the keeper said of the instance before. `later` runs a call after our caller."""
        self._keys.discard(key)
        if not self._keys:
            later(self.notices.clear)
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

    def keep_notice(self, pid: int, message: Message) -> None:
        """Likewise for sd_notify, whose sender is not known; with no question open it is a stranger's."""
        if self._keys or self.until_open:
            self.notices.keep(pid, message)
