"""What the shell shall do (imperative), as frozen values. A failed effect comes back as an event."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["ArmTimer", "Effect", "KillTree", "Note", "NoteKind", "SendSignal", "Spawn"]


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
    GAVE_UP = "gave-up"
    UNHEALTHY = "unhealthy"
    START_TIMEOUT = "start-timeout"


@dataclass(frozen=True, slots=True)
class Note:
    """Record this in the event log, with its cause in words."""

    kind: NoteKind
    text: str


Effect = Spawn | SendSignal | KillTree | ArmTimer | Note
