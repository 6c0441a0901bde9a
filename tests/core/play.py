"""A daemon's life told as a list of events, for tests that read like the incident they are about."""

from __future__ import annotations

from dataclasses import replace

from duende.core.effects import ArmTimer, Effect, KillTree, Note, NoteKind, SendSignal, Spawn
from duende.core.events import BecameReady, Event, Exited, Paused, Spawned, StartRequested, TimerFired
from duende.core.lifecycle import step
from duende.core.policy import LifecyclePolicy
from duende.core.state import DaemonState, TimerKind
from duende.model.exits import ExitInfo
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy

STEADY = BackoffConfig(initial_delay=1.0, max_delay=8.0, multiplier=2.0, jitter=0.0)


def policy(
    restart: RestartPolicy = RestartPolicy.ON_FAILURE, backoff: BackoffConfig = STEADY, **rules: object
) -> LifecyclePolicy:
    """Rules with figures that are easy to follow; `rules` of RestartConfig and of LifecyclePolicy may be mixed."""
    of_restart = {key: value for key, value in rules.items() if key in RestartConfig.__slots__}
    others = {key: value for key, value in rules.items() if key not in of_restart}
    base = LifecyclePolicy(restart=replace(RestartConfig(policy=restart, backoff=backoff), **of_restart))
    return replace(base, **others)


class Play:
    """The state, the time, and all effects so far; `effects` are those of the last event."""

    def __init__(self, rules: LifecyclePolicy | None = None, *, uniform: float = 0.5) -> None:
        self.state = DaemonState(policy=rules or policy())
        self.now_s = 1000.0
        self.uniform = uniform
        self.effects: tuple[Effect, ...] = ()
        self.history: list[Effect] = []

    def tell(self, event: Event, *, after_s: float = 0.0) -> Play:
        """Let `event` happen `after_s` seconds later."""
        self.now_s += after_s
        self.state, self.effects = step(self.state, event, now_s=self.now_s, uniform=self.uniform)
        self.history.extend(self.effects)
        return self

    def starting(self) -> Play:
        """Asked for and executed, not ready."""
        self.tell(StartRequested())
        return self.tell(Spawned(self.state.instance, awaits_ready=True))

    def running(self) -> Play:
        """Ready."""
        self.starting()
        return self.tell(BecameReady(self.state.instance))

    def paused(self) -> Play:
        """Ready and held."""
        self.running()
        return self.tell(Paused(self.state.instance))

    def spawned(self, *, awaits_ready: bool = False) -> Play:
        """The platform answers for the present incarnation."""
        return self.tell(Spawned(self.state.instance, awaits_ready))

    def exits(self, exit: int | ExitInfo = 1, *, after_s: float = 0.0) -> Play:
        """The present incarnation ends."""
        info = ExitInfo.from_code(exit) if isinstance(exit, int) else exit
        return self.tell(Exited(self.state.instance, info), after_s=after_s)

    def fires(self, kind: TimerKind) -> Play:
        """Wait for the live timer of that kind, and let it fire."""
        timer = self.state.timer(kind)
        assert timer is not None, f"no {kind.value} timer in {self.state}"
        return self.tell(TimerFired(timer.token), after_s=max(0.0, timer.deadline_s - self.now_s))

    def fails_and_returns(self) -> float:
        """Fail, wait out the backoff, run again; the delay that was waited."""
        self.exits(1)
        timer = self.state.timer(TimerKind.BACKOFF)
        delay_s = timer.deadline_s - self.now_s if timer else 0.0
        if timer:
            self.fires(TimerKind.BACKOFF)
        self.spawned()
        return delay_s

    def of(self, kind: type[Effect]) -> list[Effect]:
        """The last event's effects of one type."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def count(self, kind: type[Effect]) -> int:
        """How many effects of one type there were in all."""
        return sum(isinstance(effect, kind) for effect in self.history)

    def notes(self, kind: NoteKind) -> list[str]:
        """The texts of the last event's notes of one kind."""
        return [effect.text for effect in self.effects if isinstance(effect, Note) and effect.kind is kind]


__all__ = ["STEADY", "ArmTimer", "KillTree", "Play", "SendSignal", "Spawn", "policy"]
