"""What has happened to one daemon (past tense), as frozen values. Everything the core ever learns comes through these.

`instance` is the number of the incarnation the event speaks of; events of an older incarnation are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass

from duende.core.policy import LifecyclePolicy
from duende.model.exits import ExitInfo
from duende.model.schedule import Moment

__all__ = [
    "BecameReady",
    "BecameUnhealthy",
    "BecameUnready",
    "Continued",
    "DependenciesMet",
    "Event",
    "Exited",
    "KillRequested",
    "Paused",
    "PolicyChanged",
    "RestartRequested",
    "RunDue",
    "SaidReady",
    "ScheduleResumed",
    "SlotPassed",
    "SpawnFailed",
    "Spawned",
    "StartRequested",
    "StopRequested",
    "StopStepFailed",
    "TimeAskedFor",
    "TimerFired",
]


@dataclass(frozen=True, slots=True)
class StartRequested:
    """Somebody wants it to run. With `blocked`, not before `DependenciesMet`."""

    blocked: bool = False


@dataclass(frozen=True, slots=True)
class DependenciesMet:
    """What it waited for is there."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody wants it to stop and stay stopped; `for_now`, only until the next `up`: what is wanted stays wanted."""

    for_now: bool = False


@dataclass(frozen=True, slots=True)
class RestartRequested:
    """Somebody wants a new incarnation."""


@dataclass(frozen=True, slots=True)
class KillRequested:
    """Somebody wants the whole tree gone at once, and stopped."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """The platform has the instance: for a command, execve(2) succeeded."""

    instance: int
    awaits_ready: bool  # False: ready as soon as it was executed


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The platform could not make the instance; nothing of it is left."""

    instance: int
    exit: ExitInfo


@dataclass(frozen=True, slots=True)
class BecameReady:
    """It reported readiness, or its readiness check passed."""

    instance: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The leader ended and, unless its kill mode says otherwise, nothing of its tree is left."""

    instance: int
    exit: ExitInfo


@dataclass(frozen=True, slots=True)
class Paused:
    """It was stopped by SIGSTOP, whoever sent it."""

    instance: int


@dataclass(frozen=True, slots=True)
class Continued:
    """It goes on after SIGCONT."""

    instance: int


@dataclass(frozen=True, slots=True)
class SaidReady:
    """It says that it is ready; that counts once its probes agree."""

    instance: int


@dataclass(frozen=True, slots=True)
class BecameUnready:
    """Its readiness probe failed often enough; it runs on."""

    instance: int
    reason: str


@dataclass(frozen=True, slots=True)
class BecameUnhealthy:
    """A probe or its watchdog says that it must be dealt with: by a restart, or by nothing but a signal."""

    instance: int
    reason: str
    signal: int | None = None


@dataclass(frozen=True, slots=True)
class TimeAskedFor:
    """It wants its start or stop to have time until then, on the boot-time clock."""

    instance: int
    until_s: float


@dataclass(frozen=True, slots=True)
class StopStepFailed:
    """The command of that step of the stop ladder could not be run, or failed."""

    instance: int
    step: int
    reason: str


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The timer armed with `token` is due."""

    token: int


@dataclass(frozen=True, slots=True)
class ScheduleResumed:
    """Its schedule counts from now on; nothing is started before the next slot."""


@dataclass(frozen=True, slots=True)
class RunDue:
    """A slot of its schedule has come, the next one `after` the last that was dealt with."""

    after: Moment | None  # told again, or overtaken by another, it means nothing
    slot: Moment
    label: str  # the slot's time, for people
    text: str = ""  # what else this run makes up for
    blocked: bool = False  # not before `DependenciesMet`


@dataclass(frozen=True, slots=True)
class SlotPassed:
    """Slots up to this one are dealt with, without a run: they were missed (`text`), or counting begins here."""

    after: Moment | None
    slot: Moment
    text: str = ""


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """Other rules hold from now on; running timers keep their deadlines."""

    policy: LifecyclePolicy


Event = (
    StartRequested
    | DependenciesMet
    | StopRequested
    | RestartRequested
    | KillRequested
    | Spawned
    | SpawnFailed
    | BecameReady
    | Exited
    | Paused
    | Continued
    | SaidReady
    | BecameUnready
    | BecameUnhealthy
    | TimeAskedFor
    | StopStepFailed
    | TimerFired
    | ScheduleResumed
    | RunDue
    | SlotPassed
    | PolicyChanged
)
