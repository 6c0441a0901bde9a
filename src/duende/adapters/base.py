"""The contract between the manager and a platform.

An adapter makes, signals and watches instances; it decides nothing. What happens to an instance afterwards (ready,
exited, paused …) is reported through the sink given to `open`, as frozen values, in the order it happened, from the
event loop's thread. An exit is reported once and again to every later manager until it is taken by `release`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from duende.config.daemon import DaemonConfig
from duende.errors import NotSupported
from duende.model.exits import ExitInfo
from duende.model.handle import DaemonHandle
from duende.model.health import HealthStatus
from duende.model.ids import DaemonId
from duende.model.platform import Platform

__all__ = [
    "AdapterEvent",
    "AdapterTrouble",
    "Capabilities",
    "InstanceAlive",
    "InstanceAsksTime",
    "InstanceContinued",
    "InstanceExited",
    "InstanceKey",
    "InstanceNote",
    "InstancePaused",
    "InstanceReady",
    "InstanceReport",
    "InstanceWatchdog",
    "PlatformAdapter",
    "Probe",
    "Spawned",
    "Survey",
    "TracerHandle",
    "TracerType",
]


@dataclass(frozen=True, slots=True, order=True)
class InstanceKey:
    """Incarnation number `instance` of the daemon `name`; as text `web#7`."""

    name: str
    instance: int

    def __str__(self) -> str:
        return f"{self.name}#{self.instance}"

    @classmethod
    def parse(cls, text: str) -> InstanceKey:
        """Undo `str`; ValueError otherwise."""
        name, _, number = text.rpartition("#")
        return cls(name, int(number))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a platform can do; asking for what it can't raises NotSupported, never a silent no-op."""

    pause: bool = False
    signals: bool = False
    logs: bool = False  # hands us the output itself
    health: bool = False  # `check_health` of a Python class
    own_restarts: bool = False  # the platform restarts by itself
    limits: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether the platform is there, and if not, why not and what to do."""

    available: bool
    reason: str = ""


class TracerType:
    """The kinds of tracer that may be attached to an instance."""

    PTRACE = "ptrace"
    EBPF = "ebpf"
    REMOTE_VSOCK = "remote-vsock"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class TracerHandle:
    """An attached tracer."""

    kind: str
    target: DaemonHandle


@dataclass(frozen=True, slots=True)
class Spawned:
    """The answer to a spawn. `awaits_ready`: it will report readiness itself, by `InstanceReady`."""

    handle: DaemonHandle
    awaits_ready: bool
    limits_not_enforced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """How an instance is, as the platform says now."""

    running: bool
    paused: bool = False
    exit: ExitInfo | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """One instance that the platform still had when a new manager came."""

    key: InstanceKey
    handle: DaemonHandle
    note: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstanceReady:
    """It says it is ready."""

    key: InstanceKey


@dataclass(frozen=True, slots=True)
class InstanceExited:
    """It ended; unless its kill mode says otherwise, its tree too. `survivors` could not be killed, and why."""

    key: InstanceKey
    exit: ExitInfo
    survivors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InstancePaused:
    """Stopped by SIGSTOP."""

    key: InstanceKey


@dataclass(frozen=True, slots=True)
class InstanceContinued:
    """Goes on after SIGCONT."""

    key: InstanceKey


@dataclass(frozen=True, slots=True)
class InstanceNote:
    """It says something about itself: a status text, a failed init with its traceback."""

    key: InstanceKey
    kind: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstanceAlive:
    """It gave a sign of life (WATCHDOG=1) at `heard_s` on the monotonic clock; with `is_trouble` of the opposite."""

    key: InstanceKey
    heard_s: float
    is_trouble: bool = False


@dataclass(frozen=True, slots=True)
class InstanceWatchdog:
    """It wants another limit for its silence (WATCHDOG_USEC); 0: none."""

    key: InstanceKey
    limit_s: float


@dataclass(frozen=True, slots=True)
class InstanceAsksTime:
    """Its start or stop shall have so many seconds from now (EXTEND_TIMEOUT_USEC)."""

    key: InstanceKey
    left_s: float


@dataclass(frozen=True, slots=True)
class AdapterTrouble:
    """The platform itself is in trouble (`cleared` False) or well again; shown as an alert."""

    what: str
    cleared: bool = False


AdapterEvent = (
    InstanceReady | InstanceExited | InstancePaused | InstanceContinued | InstanceNote | InstanceAlive
    | InstanceWatchdog | InstanceAsksTime | AdapterTrouble
)  # fmt: skip
EventSink = Callable[[AdapterEvent], None]


class PlatformAdapter(abc.ABC):
    """One platform. All coroutines may be cancelled at any await without leaking an instance that was announced."""

    platform: Platform
    capabilities: Capabilities

    @abc.abstractmethod
    async def probe(self) -> Probe:
        """Say whether this platform can be used here, and why not."""

    @abc.abstractmethod
    async def open(self, sink: EventSink) -> list[Survey]:
        """Connect; return the instances that are there already. What happens to them from now on goes to `sink`."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Disconnect; instances go on."""

    @abc.abstractmethod
    async def spawn(self, config: DaemonConfig, id: DaemonId, instance: int = 1) -> Spawned:
        """Make an instance and wait until the program is executed. Idempotent by name and `instance`.

        Raises SpawnFailed (with errno, stage, path), ResourceLimit when it may work later, ConfigError when the
        configuration can't be expressed here.
        """

    @abc.abstractmethod
    async def signal(self, handle: DaemonHandle, signal: int, *, tree: bool = False) -> None:
        """Send a signal by its Linux number. NotFound if the instance has ended, SignalFailed otherwise."""

    @abc.abstractmethod
    async def status(self, handle: DaemonHandle) -> InstanceReport:
        """Ask the platform now."""

    @abc.abstractmethod
    async def kill(self, handle: DaemonHandle, *, leader_only: bool = False) -> None:
        """SIGKILL the whole tree. The end is reported by InstanceExited."""

    @abc.abstractmethod
    async def release(self, key: InstanceKey) -> None:
        """The exit of this instance has been taken and recorded: the platform may forget it."""

    async def stop(self, handle: DaemonHandle, signal: int = 15) -> None:
        """Ask it to end; escalation is the manager's."""
        await self.signal(handle, signal)

    async def pause(self, handle: DaemonHandle) -> None:
        """Freeze it."""
        raise NotSupported(self.platform, "pause")

    async def resume(self, handle: DaemonHandle) -> None:
        """Undo `pause`."""
        raise NotSupported(self.platform, "resume")

    async def attach_tracer(self, handle: DaemonHandle, tracer: str) -> TracerHandle:
        """Attach a tracer (see TracerType)."""
        raise NotSupported(self.platform, f"attach_tracer({tracer})")

    async def check_health(self, handle: DaemonHandle, timeout_s: float) -> HealthStatus:
        """Ask the instance itself. NotSupported where it can't be asked."""
        raise NotSupported(self.platform, "check_health")

    async def metrics(self, handle: DaemonHandle, timeout_s: float) -> dict[str, Any]:
        """Ask the instance for its metrics."""
        raise NotSupported(self.platform, "metrics")
