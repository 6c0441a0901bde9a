"""Instances that nobody waits for any more: their start was given up while it was under way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from duende.adapters.base import InstanceKey
from duende.adapters.native.client import KeeperInstance
from duende.adapters.native.tree import Tree, is_marked_alive, kill_marked
from duende.errors import PlatformError
from duende.system.cgroup import Cgroup

__all__ = ["Strays", "end_remains"]

_DEATH_S = 5.0  # as long as a tree whose leader has ended may take to die
_LOOK_S = 0.01


class Strays:
    """Ends them, and clears away what is left. `release` tells the keeper, `trouble` tells people."""

    def __init__(
        self, release: Callable[[str], None], trouble: Callable[[str], None], is_ours: Callable[[InstanceKey], bool]
    ) -> None:
        self._is_ours = is_ours
        self._release = release
        self._trouble = trouble
        self._trees: dict[InstanceKey, Tree] = {}  # being killed
        self._claimed: set[InstanceKey] = set()
        self._held: dict[InstanceKey, KeeperInstance] | None = {}  # until it is known whose they are

    def __contains__(self, key: InstanceKey) -> bool:
        return key in self._trees

    @property
    def are_held(self) -> bool:
        """Whether a takeover is not settled yet."""
        return self._held is not None

    @contextlib.contextmanager
    def claim(self, key: InstanceKey) -> Iterator[None]:
        """While it is asked for it is no stray, though its answer may have been meant for a manager that is gone."""
        self._claimed.add(key)
        if self._held and (found := self._held.pop(key, None)) is not None:
            found.close()  # the answer brings its descriptors again
        try:
            yield
        finally:
            self._claimed.discard(key)

    def reported(self, found: KeeperInstance) -> None:
        """The keeper says that one has come to be which no living connection had asked for.

        Just after a takeover its start may be about to be repeated: it is held until `settle`.
        """
        key = InstanceKey.parse(found.key)
        if key in self._claimed:
            found.close()
        elif self._held is not None:
            self._held[key] = found
        else:
            self.end(found)

    def settle(self) -> None:
        """Whatever was to be asked for again has been: what is still held, and what comes later, is a stray."""
        held, self._held = self._held or {}, None
        for found in held.values():
            self.end(found)

    def abandon(self, marker: str, cgroup: Cgroup | None) -> None:
        """Nothing of a start whose answer was lost may live: the next incarnation would be the second.

        Without its cgroup a child that has not executed yet fails to join it and ends. Where there is none, one that
        comes to be later is reported by the keeper as a stray.
        """
        if cgroup is not None:
            cgroup.kill()
            self.remove_cgroup(cgroup)
        else:
            kill_marked(marker)

    def end(self, found: KeeperInstance) -> None:
        """An instance whose start had been given up while the keeper was still at it."""
        key = InstanceKey.parse(found.key)
        found.close()
        if self._is_ours(key):
            return  # told twice: once as it came to be, once more in the list of all
        cgroup = Cgroup.from_json(found.note["cgroup"]) if found.note.get("cgroup") else None
        tree = self._trees[key] = Tree(found.pid, found.note["marker"], cgroup)
        tree.kill()
        if found.exit is not None:
            self.ended(key)

    def ended(self, key: InstanceKey) -> None:
        tree = self._trees.pop(key, None)
        if tree is not None:
            tree.kill()
            self.remove_cgroup(tree.cgroup)
        self._release(str(key))

    def remove_cgroup(self, cgroup: Cgroup | None, *, quiet: bool = False) -> None:
        if cgroup is None:
            return
        try:
            cgroup.remove()
        except PlatformError as error:
            if not quiet:
                self._trouble(str(error))


async def end_remains(data: Mapping[str, Any]) -> None:
    """Nobody was there when the leader of `data` (a handle's) ended: what it left behind is to end before it is started
    again. The leader's number may be a stranger's by now, so only its cgroup or its marker says what is meant.
    """
    cgroup = Cgroup.from_json(data["cgroup"]) if data.get("cgroup") else None
    deadline_s = time.monotonic() + _DEATH_S
    while time.monotonic() < deadline_s:
        if cgroup is not None:
            cgroup.kill()
            if cgroup.is_empty():
                return
        else:
            kill_marked(data["marker"])
            if not is_marked_alive(data["marker"]):
                return
        await asyncio.sleep(_LOOK_S)
