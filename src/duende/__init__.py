"""duende runs long-lived programs, *daemons*, and keeps them running.

The public names are imported when they are first used (PEP 562), so that `import duende` itself costs next to nothing.
"""

TYPE_CHECKING = False  # type checkers know the name; importing it from `typing` would cost milliseconds

if TYPE_CHECKING:
    from duende.config.daemon import DaemonConfig, HealthCheckConfig, LogConfig, ReadyConfig
    from duende.errors import ConfigurationError, DaemonError, DuendeError
    from duende.model.exits import ExitReason
    from duende.model.health import HealthStatus
    from duende.model.ids import DaemonId
    from duende.model.limits import ResourceConfig
    from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy
    from duende.model.signals import Signal
    from duende.model.status import DaemonStatus, FailureReason
    from duende.runtime.manager import DaemonManager
    from duende.worker.context import DaemonContext
    from duende.worker.daemon import Daemon
    from duende.worker.foreground import run
    from duende.worker.metrics import DaemonMetrics

__version__ = "0.1.0"

__all__ = [
    # what a daemon is made of
    "Daemon",
    "DaemonContext",
    "DaemonMetrics",
    "HealthStatus",
    "Signal",
    "run",
    # how it is configured
    "BackoffConfig",
    "DaemonConfig",
    "HealthCheckConfig",
    "LogConfig",
    "ReadyConfig",
    "ResourceConfig",
    "RestartConfig",
    "RestartPolicy",
    # who keeps it running, and what is known of it
    "DaemonId",
    "DaemonManager",
    "DaemonStatus",
    "ExitReason",
    "FailureReason",
    # what can go wrong
    "ConfigurationError",
    "DaemonError",
    "DuendeError",
]

_HOME = {
    "BackoffConfig": "duende.model.restart",
    "ConfigurationError": "duende.errors",
    "Daemon": "duende.worker.daemon",
    "DaemonConfig": "duende.config.daemon",
    "DaemonContext": "duende.worker.context",
    "DaemonError": "duende.errors",
    "DaemonId": "duende.model.ids",
    "DaemonManager": "duende.runtime.manager",
    "DaemonMetrics": "duende.worker.metrics",
    "DaemonStatus": "duende.model.status",
    "DuendeError": "duende.errors",
    "ExitReason": "duende.model.exits",
    "FailureReason": "duende.model.status",
    "HealthCheckConfig": "duende.config.daemon",
    "HealthStatus": "duende.model.health",
    "LogConfig": "duende.config.daemon",
    "ReadyConfig": "duende.config.daemon",
    "ResourceConfig": "duende.model.limits",
    "RestartConfig": "duende.model.restart",
    "RestartPolicy": "duende.model.restart",
    "Signal": "duende.model.signals",
    "run": "duende.worker.foreground",
}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'duende' has no attribute {name!r}")
    from importlib import import_module  # here: `import duende` alone imports nothing else

    value: object = getattr(import_module(home), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
