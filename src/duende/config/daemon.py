"""What a daemon and a stack are configured to be: plain frozen values, already validated and with defaults filled in.

Durations are float seconds, sizes are bytes. `schema.py` says how each field is written in `duende.toml`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from duende.config.hook import HookConfig, OnFailureConfig
from duende.model.condition import Condition
from duende.model.limits import ResourceConfig
from duende.model.restart import RestartConfig
from duende.model.schedule import ScheduleConfig
from duende.model.signals import Signal
from duende.model.stop import StopStep
from duende.model.thresholds import ThresholdConfig

__all__ = [
    "Condition",
    "DaemonConfig",
    "HealthCheckConfig",
    "KillMode",
    "LivenessConfig",
    "LogConfig",
    "LogFormat",
    "ProbeAction",
    "ProbeConfig",
    "ProbesConfig",
    "ReadyConfig",
    "ScheduleConfig",
    "StackConfig",
    "StartupConfig",
    "WatchdogConfig",
]

def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


class KillMode(enum.Enum):
    """What is signalled at a stop, in systemd's words (systemd.kill(5))."""

    CONTROL_GROUP = "control-group"  # the stop signal goes to the whole tree, and so does SIGKILL
    MIXED = "mixed"  # the stop signal goes to the leader, SIGKILL to the whole tree (default)
    PROCESS = "process"  # only the leader is ever signalled; what it leaves behind goes on


class LogFormat(enum.Enum):
    """How a captured line is written."""

    TEXT = "text"  # `TIMESTAMP STREAM TAG content`, as container runtimes write it (CRI)
    RAW = "raw"  # the bytes as they came, one file per stream
    LOGFMT = "logfmt"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Where output goes and how it is rotated. 0 switches a bound off."""

    format: LogFormat = LogFormat.TEXT
    directory: Path | None = None  # default: the stack's log directory
    max_size: int = 10 * 1024 * 1024
    max_age: float = 7 * 86400.0  # an active file older than this is rotated at its next line
    keep: int = 5  # archives
    total_size: int = 0  # bytes of all archives together
    compress: bool = True


class ProbeAction(enum.Enum):
    """What a failed liveness probe or watchdog leads to, besides being told. In its place may stand a signal."""

    RESTART = "restart"
    TELL = "tell"


@dataclass(frozen=True, slots=True)
class HealthCheckConfig:
    """A periodic check, the short form of a liveness probe. At most one of the first is set; none means the class's
    `health_check`.
    """

    http: str | None = None
    tcp: str | None = None
    unix: str | None = None
    log_age: float | None = None  # seconds in which it must have written a line
    exec: tuple[str, ...] | None = None
    interval: float = 10.0
    timeout: float = 1.0
    retries: int = 3  # failures in a row before unhealthy
    enabled: bool = True
    restart: bool = False  # whether unhealthy means restart


@dataclass(frozen=True, slots=True)
class ReadyConfig:
    """When a command counts as ready. Exactly one of the first is set; none means as soon as it is executed."""

    notify: bool = False  # sd_notify(3) READY=1
    fd: int | None = None  # it writes a newline to this descriptor, as s6 has it
    log: str | None = None  # a line of its output matches this regular expression
    tcp: str | None = None  # HOST:PORT accepts
    http: str | None = None  # answers 2xx or 3xx
    unix: str | None = None  # path accepts; `@name` is an abstract socket
    exec: tuple[str, ...] | None = None  # exits 0
    interval: float = 0.1  # between tries of the polled kinds, which offer no event to wait for

    @property
    def is_told(self) -> bool:
        """Whether it is an event, and not asked for."""
        return self.notify or self.fd is not None or self.log is not None


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """One probe. At most one of the first is set; none means the class's `health_check`."""

    http: str | None = None
    tcp: str | None = None
    unix: str | None = None
    exec: tuple[str, ...] | None = None
    initial_delay: float = 0.0  # from the moment it could be asked
    interval: float = 10.0
    timeout: float = 1.0
    failure_threshold: int = 3  # 0: failures never count
    success_threshold: int = 1
    window: int = 0  # 0: failures count in a row; otherwise among so many answers


@dataclass(frozen=True, slots=True)
class StartupConfig(ProbeConfig):
    """Asked more often, and never taken for failed before `start_timeout`, unless a threshold says so."""

    interval: float = 1.0
    failure_threshold: int = 0


@dataclass(frozen=True, slots=True)
class LivenessConfig(ProbeConfig):
    """`log_age` is one more question: seconds in which it must have written a line."""

    log_age: float | None = None
    action: ProbeAction | Signal = ProbeAction.RESTART


@dataclass(frozen=True, slots=True)
class ProbesConfig:
    """The probes in full, in Kubernetes' words (core/probe.py says what they mean)."""

    startup: StartupConfig | None = None
    readiness: ProbeConfig | None = None
    liveness: LivenessConfig | None = None


@dataclass(frozen=True, slots=True)
class WatchdogConfig:
    """How long a daemon may say nothing (WATCHDOG=1 of sd_notify), and what happens then."""

    timeout: float
    action: ProbeAction | Signal = ProbeAction.RESTART


_THRESHOLDS = ThresholdConfig()
_RESOURCES, _HEALTH_CHECK, _READY, _PROBES, _RESTART, _LOG = (
    ResourceConfig(),
    HealthCheckConfig(),
    ReadyConfig(),
    ProbesConfig(),
    RestartConfig(),
    LogConfig(),
)


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """One daemon. Either `command` (argv) or `daemon` (`pkg.mod:Class` or `path.py:Class`) is set."""

    name: str
    version: str = "0.0.0"
    description: str = ""
    command: tuple[str, ...] | None = None
    daemon: str | None = None
    settings: Mapping[str, Any] = field(default_factory=_nothing)
    binary_path: Path | None = None  # the seed's spelling of command[0]; folded into `command` together with `args`
    config_path: Path | None = None  # passed to the class as `config.config_path`; reread on SIGHUP by the daemon
    args: tuple[str, ...] = ()  # of a command: already at the end of `command` after loading; of a class: for its init
    env: Mapping[str, str] = field(default_factory=_nothing)  # with env files folded in
    clean_env: bool = False
    user: str | None = None
    group: str | None = None
    umask: int | None = None
    nice: int | None = None
    working_dir: Path | None = None  # absolute after loading; default: the folder of the configuration file
    resources: ResourceConfig = _RESOURCES  # frozen, so that all daemons may share the defaults
    health_check: HealthCheckConfig = _HEALTH_CHECK
    ready: ReadyConfig = _READY
    probe: ProbesConfig = _PROBES
    watchdog: WatchdogConfig | None = None
    restart: RestartConfig = _RESTART
    restart_when: ThresholdConfig = _THRESHOLDS
    start_timeout: float = 60.0  # from the start until ready; 0 is no limit
    shutdown_timeout: float = 10.0
    stop_signal: Signal = Signal.TERM
    stop: tuple[StopStep, ...] | None = None  # a ladder in place of the two above
    reload_signal: Signal = Signal.HUP
    reload_command: tuple[str, ...] | None = None  # in place of the signal
    reload_timeout: float = 60.0
    kill_mode: KillMode = KillMode.MIXED
    on_failure: OnFailureConfig | None = None
    pid_file: Path | None = None
    autostart: bool = True
    essential: bool = False
    schedule: ScheduleConfig | None = None  # it runs once per slot, and not when the stack starts
    after: Mapping[str, Condition] = field(default_factory=_nothing)
    log: LogConfig = _LOG
    platform: str = "native"
    replicas: int = 1
    instance: int = 0  # 1..replicas in an expanded configuration, 0 otherwise
    source: str = ""  # file:line of the table, for messages

    def __post_init__(self) -> None:
        if self.command is None and self.daemon is None and self.binary_path is not None:
            object.__setattr__(self, "command", (str(self.binary_path), *self.args))

    @property
    def stop_limit(self) -> float:
        """Seconds from the first request to end until SIGKILL."""
        return sum(step.wait_s for step in self.stop) if self.stop else self.shutdown_timeout

    @property
    def awaits_ready(self) -> bool:
        """Whether it is ready later than it is executed."""
        asked = self.probe.startup is not None or self.probe.readiness is not None
        return self.daemon is not None or self.ready != _READY or asked

    @property
    def may_notify(self) -> bool:
        """Whether it gets a socket for sd_notify(3)."""
        return self.ready.notify or self.watchdog is not None

    @classmethod
    def load(cls, path: str | Path) -> DaemonConfig:
        """Read a file that describes one daemon (either shape). ConfigurationError lists all that is wrong."""
        from duende.config.load import load_stack  # here: the loader imports this module

        stack = load_stack(path)
        if len(stack.daemons) != 1:
            from duende.errors import ConfigurationError, Problem

            names = ", ".join(stack.daemons) or "none"
            reason = f"describes {len(stack.daemons)} daemons ({names}), not one"
            raise ConfigurationError([Problem(reason, file=str(path))])
        return next(iter(stack.daemons.values()))

    def validate(self) -> None:
        """Raise ConfigurationError with everything that is wrong in a configuration built by hand."""
        from duende.config.check import problems_of  # here: it imports this module
        from duende.errors import ConfigurationError

        problems = problems_of(self)
        if problems:
            raise ConfigurationError(problems)


@dataclass(frozen=True, slots=True)
class StackConfig:
    """The daemons of one `duende.toml` with its layers applied."""

    name: str
    daemons: Mapping[str, DaemonConfig]
    directory: Path  # relative paths are resolved from here
    path: Path | None = None  # None for a stack made in memory
    hooks: tuple[HookConfig, ...] = ()
