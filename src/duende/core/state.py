"""What is known of one daemon: a frozen value that is stored after every step and read back by the next manager."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from duende.core.policy import LifecyclePolicy
from duende.model.exits import ExitInfo
from duende.model.schedule import Moment
from duende.model.status import DaemonStatus, FailureReason

__all__ = ["DaemonState", "Timer", "TimerKind", "has_ended_for_good"]


class TimerKind(enum.Enum):
    """What a deadline is for; a daemon has at most one of each."""

    START = "start"  # until ready
    STOP = "stop"  # until the stop signal must have worked
    KILL = "kill"  # until SIGKILL must have worked
    BACKOFF = "backoff"  # until the next start
    RETRY = "retry"  # until one that was given up is tried again


@dataclass(frozen=True, slots=True)
class Timer:
    """A deadline on the boot-time clock, which goes on over suspend and means the same to the next manager."""

    kind: TimerKind
    token: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class DaemonState:
    """One daemon. Times are seconds on the boot-time clock; None where it has not happened in this incarnation."""

    policy: LifecyclePolicy = field(default_factory=LifecyclePolicy)
    status: DaemonStatus = DaemonStatus.CREATED
    wanted: bool = False  # what the user last asked for
    waiting: bool = False  # wanted, but what it comes after is not there yet
    instance: int = 0  # the number of the present or last incarnation
    executed: bool = False  # the platform has confirmed this incarnation
    ready: bool = False
    completed: bool = False  # ended by itself, with success, and not to be started again
    start_again: bool = False  # the stop under way is half of a restart
    kill_asked: bool = False  # no grace
    escalated: bool = False  # SIGKILL was needed
    said_ready: bool = False  # kept for a manager that comes before its probes agree
    unready_cause: str = ""  # why a daemon that was ready is not
    struck: tuple[int, str] | None = None  # a signal that a failed probe has sent it, and why
    stop_step: int = 0  # the rung of the stop ladder that it stands on
    stop_cause: str = ""  # why duende itself stops it (unhealthy, never ready): then its end counts as a failure
    attempt: int = 0  # restarts in this row of unstable runs
    failures_s: tuple[float, ...] = ()  # inside the crash window
    restarts: int = 0  # ever, by duende itself; those by hand are not counted, as in systemd's NRestarts
    started_s: float | None = None
    ready_s: float | None = None
    exit: ExitInfo | None = None
    failure: FailureReason | None = None
    slot: Moment | None = None  # of its schedule: all up to this one are dealt with; None: counting has not begun
    queued: bool = False  # another run follows at once when this one has ended
    timers: tuple[Timer, ...] = ()
    next_token: int = 1

    def timer(self, kind: TimerKind) -> Timer | None:
        """The live timer of that kind."""
        return next((timer for timer in self.timers if timer.kind is kind), None)

    @property
    def next_start_s(self) -> float | None:
        """When the next try comes, in backoff."""
        timer = self.timer(TimerKind.BACKOFF) or self.timer(TimerKind.RETRY)
        return timer.deadline_s if timer else None

    @property
    def cause(self) -> str:
        """Why it has this status, where that needs saying."""
        match self.status:
            case DaemonStatus.BACKOFF | DaemonStatus.FAILED | DaemonStatus.STOPPED if self.exit is not None:
                return self.exit.message
            case DaemonStatus.STOPPING if self.stop_cause:
                return self.stop_cause
            case DaemonStatus.STARTING:
                return f"incarnation {self.instance}"
            case _:
                return ""

    def to_json(self) -> dict[str, Any]:
        """Everything but the policy, which comes from the configuration."""
        return {
            "status": self.status.value,
            "wanted": self.wanted,
            "waiting": self.waiting,
            "instance": self.instance,
            "executed": self.executed,
            "ready": self.ready,
            "completed": self.completed,
            "start_again": self.start_again,
            "kill_asked": self.kill_asked,
            "escalated": self.escalated,
            "said_ready": self.said_ready,
            "unready_cause": self.unready_cause,
            "struck": list(self.struck) if self.struck else None,
            "stop_step": self.stop_step,
            "stop_cause": self.stop_cause,
            "attempt": self.attempt,
            "failures_s": list(self.failures_s),
            "restarts": self.restarts,
            "started_s": self.started_s,
            "ready_s": self.ready_s,
            "exit": self.exit.to_json() if self.exit else None,
            "failure": self.failure.value if self.failure else None,
            "slot": [self.slot.wall_s, self.slot.boot_s] if self.slot else None,
            "queued": self.queued,
            "timers": [[timer.kind.value, timer.token, timer.deadline_s] for timer in self.timers],
            "next_token": self.next_token,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any], policy: LifecyclePolicy) -> DaemonState:
        """Undo `to_json`. The slot of a schedule that it no longer has is forgotten."""
        slot = data.get("slot") if policy.overlap is not None else None
        return cls(
            policy=policy,
            status=DaemonStatus(data["status"]),
            wanted=data["wanted"],
            waiting=data["waiting"],
            instance=data["instance"],
            executed=data["executed"],
            ready=data["ready"],
            completed=data["completed"],
            start_again=data["start_again"],
            kill_asked=data["kill_asked"],
            escalated=data["escalated"],
            said_ready=data.get("said_ready", False),
            unready_cause=data.get("unready_cause", ""),
            struck=(struck[0], struck[1]) if (struck := data.get("struck")) else None,
            stop_step=data.get("stop_step", 0),
            stop_cause=data["stop_cause"],
            attempt=data["attempt"],
            failures_s=tuple(data["failures_s"]),
            restarts=data["restarts"],
            started_s=data["started_s"],
            ready_s=data["ready_s"],
            exit=ExitInfo.from_json(data["exit"]) if data["exit"] else None,
            failure=FailureReason(data["failure"]) if data["failure"] else None,
            slot=Moment(*slot) if slot else None,
            queued=bool(slot and data["queued"]),
            timers=tuple(Timer(TimerKind(kind), token, deadline_s) for kind, token, deadline_s in data["timers"]),
            next_token=data["next_token"],
        )


def has_ended_for_good(state: DaemonState) -> bool:
    """It has completed or was given up, and nothing of duende's will start it again; not one stopped on request."""
    if state.status is DaemonStatus.FAILED:
        return state.next_start_s is None
    return state.status is DaemonStatus.STOPPED and state.completed
