"""A handle names one instance on its platform; it is JSON, and it outlives the manager that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from duende.model.ids import DaemonId
from duende.model.platform import Platform

__all__ = ["DaemonHandle"]


@dataclass(frozen=True, slots=True)
class DaemonHandle:
    """`data` holds what the platform needs to find the instance again; make one by the named constructors."""

    id: DaemonId
    platform: Platform
    data: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def native(cls, id: DaemonId, pid: int, **data: Any) -> DaemonHandle:
        """A process on this machine. With `start_ticks` and `boot_id` in `data` it can't be confused with another."""
        return cls(id, Platform.NATIVE, {"pid": pid, **data})

    @classmethod
    def systemd(cls, id: DaemonId, unit_name: str) -> DaemonHandle:
        """A unit of systemd."""
        return cls(id, Platform.LINUX, {"unit": unit_name})

    @classmethod
    def launchd(cls, id: DaemonId, label: str) -> DaemonHandle:
        """A job of launchd."""
        return cls(id, Platform.MACOS, {"label": label})

    @classmethod
    def container(cls, id: DaemonId, runtime: str, container_id: str) -> DaemonHandle:
        """A container of `runtime` (docker, podman, containerd)."""
        return cls(id, Platform.CONTAINER, {"runtime": runtime, "container_id": container_id})

    @classmethod
    def pepita(cls, id: DaemonId, vm_id: str, vsock_cid: int) -> DaemonHandle:
        """A microVM with its vsock context id."""
        return cls(id, Platform.PEPITA_MICROVM, {"vm_id": vm_id, "vsock_cid": vsock_cid})

    @classmethod
    def wos(cls, id: DaemonId, pid: int) -> DaemonHandle:
        """A process of the WASM runtime."""
        return cls(id, Platform.WOS, {"pid": pid})

    @property
    def pid(self) -> int | None:
        """The process id, on platforms whose instances are one."""
        return self.data.get("pid")

    @property
    def systemd_unit(self) -> str | None:
        """The unit's name under systemd."""
        return self.data.get("unit")

    @property
    def launchd_label(self) -> str | None:
        """The job's label under launchd."""
        return self.data.get("label")

    @property
    def container_id(self) -> str | None:
        """The container's id."""
        return self.data.get("container_id")

    @property
    def vsock_cid(self) -> int | None:
        """The VM's vsock context id."""
        return self.data.get("vsock_cid")

    def to_json(self) -> dict[str, Any]:
        """The stored form."""
        return {"id": str(self.id), "platform": self.platform.value, "data": dict(self.data)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DaemonHandle:
        """Undo `to_json`."""
        return cls(DaemonId.parse(data["id"]), Platform(data["platform"]), dict(data["data"]))

    def __str__(self) -> str:
        match self.platform:
            case Platform.LINUX:
                return f"systemd:{self.systemd_unit}"
            case Platform.MACOS:
                return f"launchd:{self.launchd_label}"
            case Platform.CONTAINER:
                return f"{self.data.get('runtime')}:{self.container_id}"
            case Platform.PEPITA_MICROVM:
                return f"pepita:{self.data.get('vm_id')}@cid{self.vsock_cid}"
            case Platform.WOS:
                return f"wos:pid{self.pid}"
            case Platform.NATIVE:
                return f"native:pid{self.pid}"
