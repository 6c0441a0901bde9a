"""What the answers of probes mean: is it started, is it ready, is it alive? Pure: values in, values out.

Theory of operation. A daemon has up to three probes, in Kubernetes' words. *Startup* is asked until it has passed, and
then never again; while it has not, the others are not asked, so that a slow start is not taken for a failed one.
*Readiness* says whether work may be sent to it, and may be lost and had again; nobody is killed for that. *Liveness*
says whether it must be dealt with.

One answer decides nothing. A probe *passes* after `success_threshold` passes in a row, and *fails* after
`failure_threshold` failures in a row, or, with a `window`, after that many among the last `window` answers. When its
verdict changes the answers before are forgotten: the other verdict needs its own row.

A daemon that says itself that it is ready (sd_notify, a descriptor, a line of its log, a class's `init`) must be *told*
of besides. It is ready once it was told of, has passed startup, and passes readiness.

The watchdog is the liveness probe turned round: the daemon says, unasked, that it is alive. Whoever listens may himself
have been away (stopped, suspended, replaced); a silence that he notices late is his own until proven otherwise.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace

__all__ = [
    "Change", "ProbeKind", "Rule", "Rules", "Standing", "Tally", "Verdict", "Watchdog", "answered", "began", "changes",
    "count", "look", "may_ask", "next_at_s", "resumed", "told",
]  # fmt: skip

# A timer of a manager that does its work is not later than this; systemd's accuracy of timers is 1 s, too.
LATE_S = 1.0


class ProbeKind(enum.Enum):
    """What a probe is asked for."""

    STARTUP = "startup"
    READINESS = "readiness"
    LIVENESS = "liveness"


class Verdict(enum.Enum):
    """What the answers so far say."""

    UNKNOWN = "unknown"
    PASSING = "passing"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Rule:
    """When answers become a verdict. Without a `failure_threshold` failures never do; without a `window` rows count."""

    failure_threshold: int = 3
    success_threshold: int = 1
    window: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """The verdict, and what counts of the answers since it was reached."""

    verdict: Verdict = Verdict.UNKNOWN
    row: int = 0  # passes in a row, or as a negative number failures in a row
    recent: tuple[bool, ...] = ()  # the last answers, with a window only


def count(tally: Tally, rule: Rule, passed: bool) -> Tally:
    """One more answer."""
    row = (max(tally.row, 0) + 1) if passed else (min(tally.row, 0) - 1)
    recent = (*tally.recent, passed)[-rule.window :] if rule.window else ()
    failures = recent.count(False) if rule.window else -row
    if passed and tally.verdict is not Verdict.PASSING and row >= rule.success_threshold:
        return Tally(Verdict.PASSING)
    if not passed and tally.verdict is not Verdict.FAILING and 0 < rule.failure_threshold <= failures:
        return Tally(Verdict.FAILING)
    return Tally(tally.verdict, row, recent)


@dataclass(frozen=True, slots=True)
class Rules:
    """The probes that a daemon has. `waits_to_be_told`: it says itself that it is ready."""

    startup: Rule | None = None
    readiness: Rule | None = None
    liveness: Rule | None = None
    waits_to_be_told: bool = False

    def of(self, kind: ProbeKind) -> Rule | None:
        """The rule of one probe."""
        match kind:
            case ProbeKind.STARTUP:
                return self.startup
            case ProbeKind.READINESS:
                return self.readiness
            case ProbeKind.LIVENESS:
                return self.liveness


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one incarnation."""

    was_told: bool = False
    tallies: dict[ProbeKind, Tally] = field(default_factory=dict)  # never changed: replaced

    def verdict(self, kind: ProbeKind) -> Verdict:
        """What the answers of that probe say."""
        return self.tallies.get(kind, _NOTHING).verdict


_NOTHING = Tally()


class Change(enum.Enum):
    """What one more answer has brought about."""

    READY = "ready"
    UNREADY = "unready"  # it was ready
    START_FAILED = "start failed"
    ALIVE = "alive"  # the first verdict, or after `DEAD`
    DEAD = "dead"


def began(*, was_ready: bool = False, is_ready: bool = False) -> Standing:
    """A new incarnation; or one that an earlier manager has seen ready, which is not asked twice whether it started."""
    if not was_ready:
        return Standing()
    readiness = Tally(Verdict.PASSING if is_ready else Verdict.FAILING)
    return Standing(True, {ProbeKind.STARTUP: Tally(Verdict.PASSING), ProbeKind.READINESS: readiness})


def told(standing: Standing) -> Standing:
    """It has said that it is ready."""
    return replace(standing, was_told=True)


def resumed(standing: Standing) -> Standing:
    """It was paused and goes on: what its liveness said before is forgotten, since nobody has acted on it meanwhile."""
    return replace(standing, tallies={**standing.tallies, ProbeKind.LIVENESS: _NOTHING})


def answered(standing: Standing, rules: Rules, kind: ProbeKind, passed: bool) -> Standing:
    """One more answer of one probe; one that may not be asked (any more) counts for nothing."""
    rule = rules.of(kind)
    if rule is None or not may_ask(standing, rules, kind):
        return standing
    tally = count(standing.tallies.get(kind, _NOTHING), rule, passed)
    return replace(standing, tallies={**standing.tallies, kind: tally})


def may_ask(standing: Standing, rules: Rules, kind: ProbeKind) -> bool:
    """Whether that probe is asked now."""
    if rules.of(kind) is None:
        return False
    if kind is ProbeKind.STARTUP:
        return standing.verdict(kind) is Verdict.UNKNOWN
    return has_started(standing, rules)


def has_started(standing: Standing, rules: Rules) -> bool:
    """Whether its start is over, ready or not."""
    passed = rules.startup is None or standing.verdict(ProbeKind.STARTUP) is Verdict.PASSING
    return passed and (standing.was_told or not rules.waits_to_be_told)


def is_ready(standing: Standing, rules: Rules) -> bool:
    """Whether all that was asked for is there."""
    passes = rules.readiness is None or standing.verdict(ProbeKind.READINESS) is Verdict.PASSING
    return has_started(standing, rules) and passes


def changes(before: Standing, after: Standing, rules: Rules) -> tuple[Change, ...]:
    """What has become different."""
    found = []
    if is_ready(after, rules) is not is_ready(before, rules):
        found.append(Change.READY if is_ready(after, rules) else Change.UNREADY)
    for kind, verdict, change in _TURNS:
        if after.verdict(kind) is verdict and before.verdict(kind) is not verdict:
            found.append(change)
    return tuple(found)


_TURNS = (
    (ProbeKind.STARTUP, Verdict.FAILING, Change.START_FAILED),
    (ProbeKind.LIVENESS, Verdict.PASSING, Change.ALIVE),
    (ProbeKind.LIVENESS, Verdict.FAILING, Change.DEAD),
)


def next_at_s(began_s: float, ended_s: float, interval_s: float) -> float:
    """When to ask next: in step with the interval, and never before the last answer; what was missed is left out."""
    steps = max(math.ceil((ended_s - began_s) / interval_s), 1)
    return max(began_s + steps * interval_s, ended_s)


@dataclass(frozen=True, slots=True)
class Watchdog:
    """`heard_s`: its last sign of life, or when listening began. Seconds on the monotonic clock."""

    limit_s: float
    heard_s: float
    excused_until_s: float = 0.0

    @property
    def due_s(self) -> float:
        """When its silence is too long."""
        return max(self.heard_s + self.limit_s, self.excused_until_s)


def look(dog: Watchdog, now_s: float) -> tuple[Watchdog, bool]:
    """Whether it has been silent for too long.

    Who looks later than he meant to was away himself: then the signs of life of that time may only now be on their way,
    and it gets the whole limit once more.
    """
    if now_s < dog.due_s:
        return dog, False
    if now_s > dog.due_s + LATE_S:
        return replace(dog, excused_until_s=now_s + dog.limit_s), False
    return dog, True
