"""sd_notify messages that come before the answer to the spawn of whoever sends them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from duende.adapters.base import AdapterEvent, InstanceKey, InstanceNote, InstanceReady
from duende.adapters.native.tree import Tree, marker_of

__all__ = ["EarlyNotices", "told_by"]

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
