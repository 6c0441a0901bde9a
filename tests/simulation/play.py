"""Plays a plan: the steps at their times, then quiet, then the last look. And makes a failing plan small.

During the quiet nothing goes wrong any more: daemons behave, the disk has room, somebody says `up`. What is wanted must
then run, and all else must not.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from duende.adapters.registry import select_adapter
from duende.model.exits import ExitInfo
from duende.runtime.logs import LogPump
from duende.system.process import boot_id

from .checks import Checks
from .disk import connector
from .kernel import Behaviour
from .plan import Plan, Step, behaviour
from .world import Life, Violation, World

__all__ = ["Played", "play", "report", "shrink"]

QUIET_S = 400.0  # of simulated time; the longest backoff is 20 s, the longest death 5 s
_MARGIN_S = 5.0
_RESTARTER_S = 0.2
_AGAIN_S = 0.5
_HISTORY_LINES = 200
_RAM = Path("/dev/shm")  # tmpfs on Linux


@dataclass(slots=True)
class Played:
    """How a run ended."""

    plan: Plan
    world: World
    violation: Violation | None
    was: list[str]  # who lived before the quiet
    boundaries: int  # until then

    @property
    def history(self) -> str:
        return "\n".join(self.world.trace)


def play(plan: Plan, *, kill_at: int | None = None, kill_keeper_too: bool = False) -> Played:
    """One run. With `kill_at` the manager dies at that boundary."""
    root = tempfile.mkdtemp(prefix="duende-simulation-", dir=_RAM if _RAM.is_dir() else None)
    try:
        random.seed(f"{plan.seed}/core")
        world = World(plan.seed, plan.stack, Path(root))
        world.kill_at, world.kill_keeper_too = kill_at, kill_keeper_too
        with _seams(world):
            player = _Player(plan, world)
            player.schedule()
            try:
                world.run()
            except Violation as violation:
                return Played(plan, world, violation, player.was, player.boundaries)
        return Played(plan, world, None, player.was, player.boundaries)
    finally:
        shutil.rmtree(root)


def shrink(plan: Plan, still_fails: Callable[[Plan], bool]) -> Plan:
    """Leave out what does not matter: halves, quarters … single steps, as long as the same invariant breaks."""
    size = len(plan.steps)
    while size:
        at = 0
        while at < len(plan.steps):
            smaller = plan.without(at, at + size)
            if smaller.steps != plan.steps and still_fails(smaller):
                plan = smaller
            else:
                at += size
        size //= 2
    for name in list(plan.stack.daemons)[::-1]:
        rest = {one: config for one, config in plan.stack.daemons.items() if one != name}
        if rest and not any(name in config.after for config in rest.values()):
            smaller = replace(plan, stack=replace(plan.stack, daemons=rest),
                              steps=tuple(step for step in plan.steps if name not in step.names))  # fmt: skip
            if still_fails(smaller):
                plan = smaller
    return plan


def report(told: Played) -> str:
    """Of a run that failed: the seed, the smallest plan that fails alike, and the end of its history."""
    violation = told.violation
    assert violation is not None

    def fails_alike(plan: Plan) -> bool:
        other = play(plan).violation
        return other is not None and other.name == violation.name

    small = play(shrink(told.plan, fails_alike))
    lines = small.world.trace[-_HISTORY_LINES:]
    return f"seed {told.plan.seed}: {violation}\n\n{small.plan}\n\n{small.violation}\n\n" + "\n".join(lines)


class _Player:
    """Carries out the steps of one plan in one world."""

    def __init__(self, plan: Plan, world: World) -> None:
        self.plan = plan
        self.world = world
        self.checks = Checks(world)
        self.was: list[str] = []  # who lived before the quiet
        self.boundaries = 0
        self._made: Counter[tuple[str, int]] = Counter()
        self._is_quiet = False
        self._was_up = False
        world.behaviour_for = self._behaviour
        world.on_life_over = self._life_over  # type: ignore[method-assign]

    def schedule(self) -> None:
        world = self.world
        world.start_manager(resume=False)
        for step in self.plan.steps:
            world.after(step.at_s - world.now_s, lambda step=step: self._do(step))  # type: ignore[misc]
        last_s = max([world.now_s, *(step.at_s + (step.number if step.verb in ("disk-full", "no-forks") else 0.0)
                                     for step in self.plan.steps)])  # fmt: skip
        world.after(last_s + _MARGIN_S - world.now_s, self._begin_quiet)

    def _behaviour(self, name: str, instance: int) -> Behaviour:
        if self._is_quiet:
            return Behaviour(ready_s=0.01)
        if self.plan.behaviour is not None:
            return self.plan.behaviour
        self._made[name, instance] += 1
        return behaviour(self.plan.seed, name, instance, self._made[name, instance])

    def _life_over(self, life: Life, ended: bool) -> None:
        """The restarter brings back what has once been up; what never was, its user tries again."""
        world = self.world
        self._was_up = (self._was_up and life.resumes) or life.was_up
        if self._is_quiet or (not ended and (self.plan.restarter or not self._was_up)):
            resume = self._was_up and not self._is_quiet
            world.after(_RESTARTER_S, lambda: world.start_manager(resume=resume))
        for operation in life.operations if self.plan.insists else ():
            if operation.ended_s is None:
                self._again(operation.step)

    def _again(self, step: Step) -> None:
        if not self._is_quiet:
            self.world.after(_AGAIN_S, lambda: self._do(step))

    def _begin_quiet(self) -> None:
        world = self.world
        world.log("quiet")
        self.boundaries = world.boundaries
        self.was = sorted(str(one) for one in world.kernel.living())
        self._is_quiet = world.kernel.calm = True
        world.disk_full = world.no_forks = False
        world.kill_at = None
        for process in world.kernel.living():
            world.kernel.signal(process, 18)
        for call in world.when_quiet:
            call()
        world.start_manager(resume=False)
        world.after(QUIET_S, self._look)

    def _look(self) -> None:
        self.checks.at_rest()
        self.world.over = True

    def _do(self, step: Step) -> None:
        self.world.log(f"--- {step.verb} {' '.join(step.names)} {step.number:g}")
        if step.verb in ("start", "stop", "restart", "kill", "signal", "reload", "down", "status"):
            self._ask(step)
        else:
            self._accident(step)

    def _ask(self, step: Step) -> None:
        life = self.world.life
        if life is None or not life.listening or not life.alive:
            self.world.log("no manager answers")
            if self.plan.insists and (step.verb != "down" or self.world.expects_manager):
                self._again(step)
            return
        manager, names = life.manager, step.names
        if names and not all(name in manager.slots for name in names):
            return
        timeout_s = step.number or None
        self.checks.asked(step.verb, names or tuple(manager.slots), named=bool(names))
        work: Any
        match step.verb:
            case "start":
                work = manager.start(names, timeout_s=timeout_s)
            case "stop":
                work = manager.stop(names, timeout_s=timeout_s)
            case "restart":
                work = manager.restart(names, timeout_s=timeout_s)
            case "kill":
                work = manager.kill(names, timeout_s=timeout_s)
            case "signal":
                work = manager.signal(names, int(step.number), tree=int(step.number) in (18, 19))
            case "reload":
                work = manager.reload(names)
            case "status":
                self.checks.status(manager.status())
                return
            case _:
                work = manager.shutdown()
        life.ask(step, names or tuple(manager.slots), work)

    def _edit(self, *, has_last: bool) -> None:
        """The configuration without its last daemon, on which none depends, or with it; for managers to come."""
        daemons = self.plan.stack.daemons
        if len(daemons) > 1:
            last = list(daemons)[-1]
            kept = {name: config for name, config in daemons.items() if has_last or name != last}
            self.world.stack = replace(self.plan.stack, daemons=kept)
            self.checks.edited(last)

    def _accident(self, step: Step) -> None:
        world = self.world
        match step.verb:
            case "up":
                world.start_manager(resume=False)
            case "kill-manager" | "kill-both":
                world.kill_manager(keeper_too=step.verb == "kill-both")
            case "kill-manager-at" | "kill-both-at":
                world.kill_at = world.boundaries + int(step.number)
                world.kill_keeper_too = step.verb == "kill-both-at"
            case "kill-keeper":
                world.kill_keeper()
            case "reboot":
                self.checks.rebooted()
                world.reboot()
            case "disk-full":
                world.disk_full = True
                world.after(step.number, lambda: setattr(world, "disk_full", False))
            case "no-forks":
                world.no_forks = True
                world.after(step.number, lambda: setattr(world, "no_forks", False))
            case "end":
                for process in world.kernel.living(step.names[0] if step.names else ""):
                    if process.leader is None and process.executed:
                        world.kernel.end(process, ExitInfo.from_code(int(step.number)))
            case "drop" | "take-back":
                self._edit(has_last=step.verb == "take-back")
            case "suspend":
                self.checks.slept()
                world.slept_s += step.number
            case "set-clock":
                world.set_by_s += step.number
            case other:
                raise ValueError(f"no step {other!r}")


class _NoPump:
    """The log pump: a thread that has nothing to do here, since no output is given to it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def start(self) -> None:
        """There is no thread."""

    def subscribe(self, name: str, notify: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def close(self, timeout_s: float = 5.0) -> bool:
        return True


@contextlib.contextmanager
def _seams(world: World) -> Iterator[None]:
    """Put the models where the manager would meet the machine, wherever in the runtime they are imported."""

    def adapter(platform: Any, **options: Any) -> Any:
        assert world.life is not None
        return world.life.adapter

    with pytest.MonkeyPatch.context() as patch:
        for original, model in (
            (select_adapter, adapter), (LogPump, _NoPump), (boot_id, lambda: world.kernel.boot_id),
        ):  # fmt: skip
            for name, module in list(sys.modules.items()):
                if name.startswith("duende.runtime"):
                    for attribute, value in list(vars(module).items()):
                        if value is original:
                            patch.setattr(module, attribute, model)
        patch.setattr(sqlite3, "connect", connector(world))
        yield
