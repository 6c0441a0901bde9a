"""What happens in a run: a stack and a list of steps, both made from a seed, or written by hand.

Steps have their own times and behaviours their own chance, so a plan with a step left out is mostly the same story:
that is what makes shrinking work.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from duende.config.daemon import DaemonConfig, HealthCheckConfig, KillMode, ReadyConfig, StackConfig
from duende.model.condition import Condition
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy

from .kernel import Behaviour

__all__ = ["Plan", "Step", "behaviour", "make_plan"]

_FIRST_S = 1000.5
_VERBS = {
    "start": 6, "stop": 6, "restart": 5, "kill": 1, "signal": 4, "reload": 1, "up": 4, "down": 2,
    "kill-manager": 5, "kill-manager-at": 10, "kill-keeper": 4, "kill-both": 3, "kill-both-at": 3, "reboot": 1,
    "disk-full": 2, "no-forks": 1, "end": 5, "suspend": 1, "set-clock": 1, "status": 1,
    "drop": 1, "take-back": 1,
}  # fmt: skip
_SIGNALS = (1, 9, 10, 15, 18, 19, 19)


@dataclass(frozen=True, slots=True)
class Step:
    """At `at_s` of the world. `number` is a signal, a duration, an exit code or a count of boundaries."""

    at_s: float
    verb: str
    names: tuple[str, ...] = ()
    number: float = 0.0

    def __str__(self) -> str:
        words = " ".join([self.verb, *self.names, *([f"{self.number:g}"] if self.number else [])])
        return f"{self.at_s:10.3f} {words}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. With a `behaviour` all instances have that one, and only the steps say what happens; `insists`: a user
    whose request got no answer asks again.
    """

    seed: int
    stack: StackConfig
    steps: tuple[Step, ...]
    restarter: bool = True
    behaviour: Behaviour | None = None
    insists: bool = False

    def without(self, first: int, last: int) -> Plan:
        """With some of the steps left out."""
        return replace(self, steps=self.steps[:first] + self.steps[last:])

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, {'with' if self.restarter else 'no'} restarter"]
        lines += [f"  {_describe(config)}" for config in self.stack.daemons.values()]
        return "\n".join([*lines, *(f"  {step}" for step in self.steps)])


def make_plan(seed: int) -> Plan:
    """The stack and the steps of a seed."""
    rng = random.Random(f"{seed}/plan")
    names = "abcd"[: rng.choice((1, 2, 2, 3, 4))]
    daemons = {name: _daemon(name, names[:n], rng) for n, name in enumerate(names)}
    steps = _steps(rng, tuple(names))
    return Plan(seed, StackConfig("sim", daemons, Path("/")), steps, restarter=rng.random() < 0.6)


def behaviour(seed: int, name: str, instance: int, again: int) -> Behaviour:
    """What that incarnation does; `again` counts how often this number has been made."""
    rng = random.Random(f"{seed}/{name}/{instance}/{again}")

    def often(share: float) -> bool:
        return rng.random() < share

    return Behaviour(
        exec_errno=rng.choice((2, 11, 11)) if often(0.06) else 0,
        exec_s=rng.choice((0.0005, 0.003, 0.003, 0.3)),
        ready_s=None if often(0.05) else rng.choice((0.0, 0.001, 0.05, 2.0)),
        lives_s=rng.choice((0.0001, 0.01, 0.5, 3.0, 20.0, 90.0)) if often(0.4) else None,
        exit_code=rng.choice((0, 0, 1, 3, 125)),
        exit_signal=rng.choice((0, 0, 6, 9, 11)),
        obeys_s=None if often(0.15) else rng.choice((0.0001, 0.01, 0.4, 1.5)),
        obeys_with=rng.choice((None, None, 0, 143)),
        children=rng.choice((0, 0, 0, 1, 2)),
        dies_s=rng.choice((0.0001, 0.0005, 0.02, 2.0)) if often(0.3) else 0.0005,
        healthy=not often(0.1),
    )  # fmt: skip


def _daemon(name: str, before: str, rng: random.Random) -> DaemonConfig:
    backoff = BackoffConfig(
        initial_delay=rng.choice((0.0, 0.1, 2.0, 10.0)), max_delay=20.0, multiplier=2.0,
        max_retries=rng.choice((None, None, 3)), jitter=rng.choice((0.0, 0.1)),
    )  # fmt: skip
    restart = RestartConfig(
        rng.choice(list(RestartPolicy)), backoff, reset_after=rng.choice((5.0, 60.0)),
        crash_limit=rng.choice((0, 0, 4)), crash_window=30.0,
    )  # fmt: skip
    after = {other: rng.choice((Condition.STARTED, Condition.READY, Condition.READY)) for other in before
             if rng.random() < 0.4}  # fmt: skip
    fields: dict[str, Any] = {
        "restart": restart, "after": after, "shutdown_timeout": rng.choice((0.5, 2.0, 5.0)),
        "start_timeout": rng.choice((1.0, 5.0, 0.0)), "autostart": rng.random() < 0.85,
        "kill_mode": rng.choice((KillMode.MIXED, KillMode.MIXED, KillMode.CONTROL_GROUP)),
    }  # fmt: skip
    kind = rng.randrange(3)
    if kind == 0:
        check = HealthCheckConfig(interval=2.0, timeout=0.5, retries=2, restart=rng.random() < 0.7)
        return DaemonConfig(name, daemon="pkg.mod:Class", health_check=check, **fields)
    return DaemonConfig(name, command=("x",), ready=ReadyConfig(notify=kind == 1), **fields)


def _steps(rng: random.Random, names: tuple[str, ...]) -> tuple[Step, ...]:
    at_s = _FIRST_S
    steps = []
    for _ in range(rng.randint(4, 24)):
        at_s += rng.choice((0.0, 0.001, 0.02, 0.3, 0.3, 2.0, 2.0, 8.0, 40.0)) * rng.uniform(0.5, 1.5)
        verb = rng.choices(list(_VERBS), list(_VERBS.values()))[0]
        chosen = (rng.choice(names),) if rng.random() < 0.8 else ()
        steps.append(Step(at_s, verb, chosen if verb in _NAMED else (), _number(verb, rng)))
    return tuple(steps)


_NAMED = frozenset({"start", "stop", "restart", "kill", "signal", "reload", "end"})


def _number(verb: str, rng: random.Random) -> float:
    match verb:
        case "signal":
            return rng.choice(_SIGNALS)
        case "kill-manager-at" | "kill-both-at":
            return rng.randint(1, 12)
        case "disk-full" | "no-forks":
            return rng.choice((0.5, 3.0, 20.0))
        case "end":
            return rng.choice((0, 1, 3, 125))
        case "suspend":
            return rng.choice((5.0, 3600.0))
        case "set-clock":
            return rng.choice((-86400.0, 86400.0))
        case "start" | "stop" | "restart" | "kill":
            return rng.choice((0.0, 0.0, 3.0))  # time-out
        case _:
            return 0.0


def _describe(config: DaemonConfig) -> str:
    rules = config.restart
    after = ", ".join(f"{name}: {condition.value}" for name, condition in config.after.items())
    return (
        f"{config.name}: {'class' if config.daemon else 'notify' if config.ready.notify else 'plain'}, "
        f"{rules.policy.value}, backoff {rules.backoff.initial_delay:g} s x{rules.backoff.multiplier:g}, "
        f"retries {rules.backoff.max_retries}, crash limit {rules.crash_limit}, "
        f"start {config.start_timeout:g} s, stop {config.shutdown_timeout:g} s, {config.kill_mode.value}"
        f"{', after ' + after if after else ''}{'' if config.autostart else ', no autostart'}"
    )
