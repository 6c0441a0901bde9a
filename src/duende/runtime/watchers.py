"""One watcher per running incarnation: asks its probes, listens for its watchdog, and tells the core what that means.

A watcher is a task that lives no longer than its incarnation, with everything that it has started. A probe is never
asked twice at once; what takes longer than its timeout is ended, and what was missed meanwhile is left out. A paused
daemon is not asked, so that a SIGSTOP is not taken for illness. What answers mean is decided in core/probe.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from duende.adapters.base import InstanceKey
from duende.config.daemon import DaemonConfig, LivenessConfig, ProbeAction, ProbeConfig
from duende.config.probes import is_told, liveness_of, readiness_of, startup_of
from duende.core import probe as core
from duende.core.events import BecameReady, BecameUnhealthy, BecameUnready, Event, SaidReady
from duende.core.probe import Change, ProbeKind, Rule, Rules, Verdict, Watchdog
from duende.errors import NotSupported, OperationTimeout, PlatformError
from duende.model.health import HealthStatus
from duende.model.signals import Signal
from duende.model.status import DaemonStatus
from duende.runtime import probes
from duende.runtime.driver import Slot

__all__ = ["Services", "Watchers"]

_NEVER_S = 1e9  # a watchdog that the daemon has switched off


@dataclass(frozen=True, slots=True)
class Services:
    """What watchers need of the manager."""

    post: Callable[[str, Event], None]
    report: Callable[[Slot, HealthStatus, bool], None]  # (slot, health, is it news)
    run_for: Callable[[Slot, Sequence[str]], Awaitable[None]]  # a command as the daemon runs
    subscribe: Callable[[str, Callable[[], None]], Callable[[], None]]  # to the daemon's output; returns how to stop
    trouble: Callable[[str, str], None]  # (name, what): a bug of ours


class Watchers:
    """Started and ended by the manager as incarnations come and go."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tasks: dict[str, tuple[_Watch, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._limits: dict[InstanceKey, float] = {}  # of watchdogs, by the daemons' own wish

    def follow(self, slot: Slot) -> None:
        """Make the watcher fit the slot's state."""
        name, state = slot.config.name, slot.state
        present = self._tasks.get(name)
        wanted = state.executed and state.status in (DaemonStatus.STARTING, DaemonStatus.RUNNING, DaemonStatus.PAUSED)
        if present is not None and (not wanted or present[0].instance != state.instance):
            present[1].cancel()
            del self._tasks[name]
            present = None
        if present is not None:
            present[0].note_pause()
        elif wanted and _has_work(slot.config):
            watch = _Watch(slot, self._services, self._limits.get(slot.key))
            task = asyncio.create_task(watch.run(), name=f"probes of {slot.key}")
            self._tasks[name] = (watch, task)
            self._ending.add(task)
            task.add_done_callback(lambda task: self._ended(name, task))
        if not state.executed:
            self._limits.pop(slot.key, None)

    def told(self, key: InstanceKey, slot: Slot | None) -> None:
        """It says that it is ready."""
        if slot is None or not _is_gated(slot.config):
            self._services.post(key.name, BecameReady(key.instance))
        else:
            self._services.post(key.name, SaidReady(key.instance))
        if (watch := self._watch_of(key)) is not None:
            watch.told()

    def heard(self, key: InstanceKey, heard_s: float, *, is_trouble: bool) -> None:
        """It gives a sign of life, or says itself that it must be dealt with."""
        if (watch := self._watch_of(key)) is not None:
            watch.heard(heard_s, is_trouble=is_trouble)

    def limit(self, key: InstanceKey, limit_s: float) -> None:
        """It wants another limit for its watchdog. Kept also for a watcher that is still to come."""
        self._limits[key] = limit_s or _NEVER_S
        if (watch := self._watch_of(key)) is not None:
            watch.change_limit(self._limits[key])

    async def close(self) -> None:
        """End all watchers."""
        self._tasks.clear()
        tasks = list(self._ending)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _watch_of(self, key: InstanceKey) -> _Watch | None:
        watch, _ = self._tasks.get(key.name, (None, None))
        return watch if watch is not None and watch.instance == key.instance else None

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._services.trouble(name, f"internal error: its probes have ended: {error!r}")
            asyncio.get_running_loop().call_exception_handler({"message": f"probes of {name}", "exception": error})


def _has_work(config: DaemonConfig) -> bool:
    return bool(config.watchdog or startup_of(config) or readiness_of(config) or liveness_of(config))


def _is_gated(config: DaemonConfig) -> bool:
    """Whether its own word is not enough to be ready."""
    return startup_of(config) is not None or readiness_of(config) is not None


def rules_of(config: DaemonConfig) -> Rules:
    """The thresholds of a configuration as the core wants them."""
    return Rules(
        _rule(startup_of(config)), _rule(readiness_of(config)), _rule(liveness_of(config)),
        waits_to_be_told=is_told(config),
    )  # fmt: skip


def _rule(probe: ProbeConfig | None) -> Rule | None:
    return Rule(probe.failure_threshold, probe.success_threshold, probe.window) if probe is not None else None


class _Watch:
    """The probes and the watchdog of one incarnation."""

    def __init__(self, slot: Slot, services: Services, limit_s: float | None) -> None:
        self.instance = slot.state.instance
        self._slot = slot
        self._services = services
        self._rules = rules_of(slot.config)
        self._standing = core.began(was_ready=slot.state.ready_s is not None, is_ready=slot.state.ready)
        if slot.state.said_ready:
            self._standing = core.told(self._standing)
        self._moved = asyncio.Event()  # set, and replaced, when the standing changes
        self._is_paused = slot.state.status is DaemonStatus.PAUSED
        self._pauses = 0
        self._resumed_s = 0.0
        self._wrote_s = 0.0
        self._dog_limit_s = limit_s
        self._dog: Watchdog | None = None
        self._dog_changed = asyncio.Event()
        self._silence = ""  # what the watchdog has told, until the next sign of life

    async def run(self) -> None:
        """Until it is cancelled, or nothing is left to ask."""
        config = self._slot.config
        kinds = {
            ProbeKind.STARTUP: startup_of(config),
            ProbeKind.READINESS: readiness_of(config),
            ProbeKind.LIVENESS: liveness_of(config),
        }
        with contextlib.ExitStack() as undo:
            if (liveness := liveness_of(config)) is not None and liveness.log_age:
                self._wrote_s = asyncio.get_running_loop().time()
                undo.callback(self._services.subscribe(config.name, self._note_output))
            async with asyncio.TaskGroup() as group:
                for kind, probe in kinds.items():
                    if probe is not None:
                        group.create_task(self._probe(kind, probe))
                if config.watchdog is not None:
                    group.create_task(self._watch_dog(self._dog_limit_s or config.watchdog.timeout))

    # --- what is told from outside

    def note_pause(self) -> None:
        """Its state has changed; was it paused, does it go on?"""
        was_paused, self._is_paused = self._is_paused, self._slot.state.status is DaemonStatus.PAUSED
        if self._is_paused and not was_paused:
            self._pauses += 1
        elif was_paused and not self._is_paused:
            self._resumed_s = asyncio.get_running_loop().time()
            self._standing = core.resumed(self._standing)
            self._move()

    def told(self) -> None:
        """It says that it is ready."""
        self._become(core.told(self._standing), "")

    def heard(self, heard_s: float, *, is_trouble: bool) -> None:
        """A sign of life."""
        if self._dog is None:
            return  # before its start is over nobody listens
        if is_trouble:
            self._be_silent("it says itself that it is in trouble (WATCHDOG=trigger)")
            return
        self._dog = replace(self._dog, heard_s=max(self._dog.heard_s, heard_s))
        if self._silence:
            self._silence = ""
            self._services.report(self._slot, HealthStatus.healthy(), True)

    def change_limit(self, limit_s: float) -> None:
        """Another limit from now on."""
        self._dog_limit_s = limit_s
        if self._dog is not None:
            self._dog = Watchdog(limit_s, asyncio.get_running_loop().time())
            self._dog_changed.set()

    def _note_output(self) -> None:
        """From the log pump's thread."""
        self._wrote_s = time.monotonic()  # the event loop's clock

    # --- probes

    async def _probe(self, kind: ProbeKind, probe: ProbeConfig) -> None:
        while not core.may_ask(self._standing, self._rules, kind):
            if kind is ProbeKind.STARTUP:
                return  # an earlier manager has seen it pass
            await self._moved.wait()
        loop = asyncio.get_running_loop()
        question = probes.probe_of(
            probe, lambda argv: self._services.run_for(self._slot, argv), lambda: loop.time() - self._wrote_s
        )
        await asyncio.sleep(probe.initial_delay)
        while True:
            while self._is_paused:
                await self._moved.wait()
            began_s, pauses = loop.time(), self._pauses
            health = await self._ask(probe, question)
            if health is None:
                return
            ended_s = loop.time()
            if self._pauses != pauses:
                continue  # it was stopped while it was asked: that answer says nothing
            # It was stopped and went on: it may still be busy with what was asked before.
            is_excused = not health.is_healthy and ended_s < self._resumed_s + probe.timeout
            if not is_excused and not self._take(kind, probe, health):
                return
            await asyncio.sleep(max(core.next_at_s(began_s, ended_s, probe.interval) - ended_s, 0.0))

    async def _ask(self, probe: ProbeConfig, question: probes.Probe | None) -> HealthStatus | None:
        """One answer, or None when this daemon can't be asked at all."""
        if question is not None:
            return await probes.measured(question, probe.timeout)
        if self._slot.handle is None:
            return None
        try:
            return await self._slot.adapter.check_health(self._slot.handle, probe.timeout)
        except NotSupported:
            return None
        except OperationTimeout as error:
            return HealthStatus.unhealthy(f"health_check: {error}", probe.timeout * 1000.0)
        except PlatformError as error:
            return HealthStatus.unhealthy(str(error))

    def _take(self, kind: ProbeKind, probe: ProbeConfig, health: HealthStatus) -> bool:
        """One answer; False when there is nothing more to ask."""
        before = self._standing
        if kind is ProbeKind.LIVENESS:
            self._become(core.answered(before, self._rules, kind, health.is_healthy), health.reason)
            self._tell_health(before.verdict(kind), health)
            if before.verdict(kind) is not Verdict.FAILING and self._standing.verdict(kind) is Verdict.FAILING:
                assert isinstance(probe, LivenessConfig)
                self._act(probe.action, health.reason)
            return True
        reason = "" if health.is_healthy else f"{kind.value} probe: {health.reason}"
        self._slot.probe_text = reason
        self._become(core.answered(before, self._rules, kind, health.is_healthy), reason)
        return core.may_ask(self._standing, self._rules, kind)

    def _become(self, after: core.Standing, reason: str) -> None:
        before, self._standing = self._standing, after
        if after == before:
            return
        name = self._slot.config.name
        for change in core.changes(before, after, self._rules):
            match change:
                case Change.READY:
                    self._services.post(name, BecameReady(self.instance))
                case Change.UNREADY:
                    self._services.post(name, BecameUnready(self.instance, reason))
                case Change.START_FAILED:
                    self._services.post(name, BecameUnhealthy(self.instance, reason))
                case Change.ALIVE | Change.DEAD:
                    pass  # `_take` has the rest of the answer, and tells it
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def _tell_health(self, before: Verdict, health: HealthStatus) -> None:
        after = self._standing.verdict(ProbeKind.LIVENESS)
        is_settled = after is (Verdict.PASSING if health.is_healthy else Verdict.FAILING)
        if not is_settled and after is not Verdict.UNKNOWN:
            return
        if self._silence:
            health = HealthStatus.unhealthy(self._silence, health.latency_ms)
        is_first_and_fine = before is Verdict.UNKNOWN and health.is_healthy
        self._services.report(self._slot, health, is_settled and after is not before and not is_first_and_fine)

    def _act(self, action: ProbeAction | Signal, reason: str) -> None:
        name = self._slot.config.name
        if isinstance(action, Signal):
            self._services.post(name, BecameUnhealthy(self.instance, reason, int(action)))
        elif action is ProbeAction.RESTART:
            self._services.post(name, BecameUnhealthy(self.instance, reason))

    # --- the watchdog

    async def _watch_dog(self, limit_s: float) -> None:
        while not core.has_started(self._standing, self._rules):
            await self._moved.wait()
        loop = asyncio.get_running_loop()
        self._dog = Watchdog(self._dog_limit_s or limit_s, loop.time())
        while True:
            self._dog_changed.clear()
            with contextlib.suppress(TimeoutError):  # it is due, and nobody has changed its limit
                async with asyncio.timeout(max(self._dog.due_s - loop.time(), 0.0)):
                    await self._dog_changed.wait()
            await asyncio.sleep(0)  # what has come meanwhile is read first
            if self._is_paused:
                await self._until_resumed()
                self._dog = Watchdog(self._dog.limit_s, loop.time())
            self._dog, is_silent = core.look(self._dog, loop.time())
            if is_silent:
                self._be_silent(f"no sign of life (WATCHDOG=1) for {self._dog.limit_s:g} s")

    async def _until_resumed(self) -> None:
        while self._is_paused:
            await self._moved.wait()

    def _be_silent(self, reason: str) -> None:
        assert self._dog is not None
        assert self._slot.config.watchdog is not None
        self._silence = reason
        self._dog = replace(self._dog, heard_s=asyncio.get_running_loop().time())
        self._services.report(self._slot, HealthStatus.unhealthy(reason), True)
        self._act(self._slot.config.watchdog.action, reason)
