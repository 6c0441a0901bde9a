"""Instances that nobody waits for any more: their start was given up while it was under way."""

from __future__ import annotations

from collections.abc import Callable

from duende.adapters.base import InstanceKey
from duende.adapters.native.client import KeeperInstance
from duende.adapters.native.tree import Tree, kill_marked
from duende.errors import PlatformError
from duende.system.cgroup import Cgroup

__all__ = ["Strays"]


class Strays:
    """Ends them, and clears away what is left. `release` tells the keeper, `trouble` tells people."""

    def __init__(
        self, release: Callable[[str], None], trouble: Callable[[str], None], is_ours: Callable[[InstanceKey], bool]
    ) -> None:
        self._is_ours = is_ours
        self._release = release
        self._trouble = trouble
        self._trees: dict[InstanceKey, Tree] = {}  # being killed

    def __contains__(self, key: InstanceKey) -> bool:
        return key in self._trees

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
