"""The rules one daemon lives by, as far as the core decides: restarts, stop, deadlines."""

from __future__ import annotations

from dataclasses import dataclass, field

from duende.model.exits import ExitInfo, ExitReason
from duende.model.restart import RestartConfig, RestartPolicy
from duende.model.schedule import Overlap
from duende.model.signals import Signal
from duende.model.status import FailureReason
from duende.model.stop import StopStep

__all__ = ["LifecyclePolicy"]


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    """Seconds throughout; `start_timeout_s` of 0 waits for readiness without limit."""

    restart: RestartConfig = field(default_factory=RestartConfig)
    start_timeout_s: float = 60.0
    shutdown_timeout_s: float = 10.0
    stop_signal: int = int(Signal.TERM)
    stop: tuple[StopStep, ...] = ()  # a ladder in place of the two above
    stop_tree: bool = False  # the stop signal goes to the whole tree (kill mode control-group)
    kill_leader_only: bool = False  # kill mode process
    overlap: Overlap | None = None  # set: a run per slot of its schedule, and none when the stack starts

    @property
    def ladder(self) -> tuple[StopStep, ...]:
        """What is done to end it, in order; SIGKILL comes after the last, whether it is written or not."""
        return self.stop or (StopStep(Signal(self.stop_signal), wait_s=self.shutdown_timeout_s),)

    @property
    def stop_limit_s(self) -> float:
        """How long it may take to stop before SIGKILL."""
        return sum(step.wait_s for step in self.ladder if step.signal is not Signal.KILL)

    def reason_to_give_up(self, exit_info: ExitInfo, *, success: bool) -> FailureReason | None:
        """Why no restart could mend what this exit tells, or none is wanted; None where one may be tried."""
        if exit_info.reason is ExitReason.POLICY_VIOLATION and exit_info.code is None and exit_info.signal is None:
            return FailureReason.REFUSED
        if exit_info.errno is not None and not exit_info.transient:
            return FailureReason.NOT_EXECUTABLE
        if exit_info.code in self.restart.permanent_exit_codes:
            return FailureReason.PERMANENT_EXIT
        if self.restart.policy is RestartPolicy.NEVER and not success:
            return FailureReason.EXITED
        return None
