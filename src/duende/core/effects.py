"""What the shell shall do (imperative), as frozen values. A failed effect comes back as an event."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["ArmTimer", "Effect", "KillTree", "Note", "NoteKind", "RunStopCommand", "SendSignal", "Spawn"]


@dataclass(frozen=True, slots=True)
class Spawn:
    """Make incarnation number `instance`; answered by `Spawned` or `SpawnFailed`. Idempotent by that number."""

    instance: int


@dataclass(frozen=True, slots=True)
class SendSignal:
    """Send the signal by number: to the leader, or with `tree` to every process of the instance."""

    instance: int
    signal: int
    tree: bool


@dataclass(frozen=True, slots=True)
class RunStopCommand:
    """Run what asks it to end, for at most `limit_s`; `StopStepFailed` when that can't be done or fails."""

    instance: int
    step: int
    command: tuple[str, ...]
    limit_s: float


@dataclass(frozen=True, slots=True)
class KillTree:
    """SIGKILL the instance; everything of it, save with `leader_only`. Its end is reported by `Exited`."""

    instance: int
    leader_only: bool


@dataclass(frozen=True, slots=True)
class ArmTimer:
    """Answer with `TimerFired(token)` at `deadline_s` on the boot-time clock. A superseded one is ignored by token."""

    token: int
    deadline_s: float


class NoteKind(enum.Enum):
    """What is worth a numbered event for people and hooks."""

    STATUS = "status"
    ESCALATED = "escalated"  # the stop signal was not obeyed in time; SIGKILL followed
    STOP_STEP = "stop-step"  # the next rung of the stop ladder
    FAILED = "failed"  # finally
    CRASH_LOOP = "crash-loop"
    OOM = "oom"
    RECOVERED = "recovered"
    UNHEALTHY = "unhealthy"
    UNREADY = "unready"  # it runs on
    READY = "ready"  # again
    START_TIMEOUT = "start-timeout"
    MISSED = "missed"  # slots of its schedule passed while nobody could act
    OVERLAP = "overlap"  # a slot came while the run before it was not over


@dataclass(frozen=True, slots=True)
class Note:
    """Record this in the event log, with its cause in words."""

    kind: NoteKind
    text: str


Effect = Spawn | SendSignal | RunStopCommand | KillTree | ArmTimer | Note
