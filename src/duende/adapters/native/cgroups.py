"""One cgroup for each instance, where we may make one."""

from __future__ import annotations

from duende.config.daemon import DaemonConfig
from duende.errors import InvalidState
from duende.system.cgroup import Cgroup, CgroupBase

__all__ = ["InstanceCgroups"]


class InstanceCgroups:
    """`base` is None where no cgroup can be made, and `reason` says why."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.base: CgroupBase | None = None
        self.reason = ""

    def detect(self) -> None:
        """Look what this process may do."""
        self.base, self.reason = CgroupBase.detect()

    def make(self, config: DaemonConfig, instance: int, *, keep: bool) -> tuple[Cgroup | None, list[str]]:
        """Its cgroup with the limits set (one that is there is kept with `keep`), and what is not enforced and why."""
        if self.base is None:
            wanted = [
                name for name in ("memory_bytes", "cpu_quota_percent", "pids_max") if getattr(config.resources, name)
            ]
            return None, [f"{name}: {self.reason}" for name in wanted]
        try:
            cgroup = self.base.create(self.name, config.name, instance, config.resources)
        except InvalidState:  # left by a spawn that failed, or by a state that was deleted: nothing of ours lives in it
            for left in self.base.list_existing(self.name):
                if left.name == config.name and left.instance == instance:
                    if keep:
                        return left, left.apply_limits(config.resources)
                    left.kill()
                    left.remove()
            cgroup = self.base.create(self.name, config.name, instance, config.resources)
        return cgroup, cgroup.apply_limits(config.resources)
