"""The rules one daemon lives by, as far as the core decides: restarts, stop, deadlines."""

from __future__ import annotations

from dataclasses import dataclass, field

from duende.model.restart import RestartConfig
from duende.model.signals import Signal

__all__ = ["LifecyclePolicy"]


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    """Seconds throughout; `start_timeout_s` of 0 waits for readiness without limit."""

    restart: RestartConfig = field(default_factory=RestartConfig)
    start_timeout_s: float = 60.0
    shutdown_timeout_s: float = 10.0
    stop_signal: int = int(Signal.TERM)
    stop_tree: bool = False  # the stop signal goes to the whole tree (kill mode control-group)
    kill_leader_only: bool = False  # kill mode process
    platform_restarts: bool = False  # the platform owns restarts; duende only observes
