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

from duende.model.condition import Condition
from duende.model.limits import ResourceConfig
from duende.model.restart import RestartConfig
from duende.model.signals import Signal

__all__ = [
    "Condition",
    "DaemonConfig",
    "HealthCheckConfig",
    "KillMode",
    "LogConfig",
    "LogFormat",
    "ReadyConfig",
    "StackConfig",
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


@dataclass(frozen=True, slots=True)
class HealthCheckConfig:
    """A periodic check. Exactly one of `http`, `tcp`, `exec` is set; none means the class's `health_check`."""

    http: str | None = None
    tcp: str | None = None
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
    tcp: str | None = None  # HOST:PORT accepts
    http: str | None = None  # answers 2xx or 3xx
    unix: str | None = None  # path accepts
    exec: tuple[str, ...] | None = None  # exits 0
    interval: float = 0.1  # between tries of the polled kinds, which offer no event to wait for


_RESOURCES, _HEALTH_CHECK, _READY, _RESTART, _LOG = (
    ResourceConfig(),
    HealthCheckConfig(),
    ReadyConfig(),
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
    restart: RestartConfig = _RESTART
    start_timeout: float = 60.0  # from the start until ready; 0 is no limit
    shutdown_timeout: float = 10.0
    stop_signal: Signal = Signal.TERM
    reload_signal: Signal = Signal.HUP
    kill_mode: KillMode = KillMode.MIXED
    pid_file: Path | None = None
    autostart: bool = True
    after: Mapping[str, Condition] = field(default_factory=_nothing)
    log: LogConfig = _LOG
    platform: str = "native"
    replicas: int = 1
    instance: int = 0  # 1..replicas in an expanded configuration, 0 otherwise
    source: str = ""  # file:line of the table, for messages

    def __post_init__(self) -> None:
        if self.command is None and self.daemon is None and self.binary_path is not None:
            object.__setattr__(self, "command", (str(self.binary_path), *self.args))

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
