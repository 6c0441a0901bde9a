"""One watcher per running incarnation: waits for readiness where that must be polled, then checks health.

A watcher is a task that lives no longer than its incarnation; checks never overlap, and a paused daemon is not
checked, so that a SIGSTOP is not taken for illness.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from duende.config.daemon import HealthCheckConfig
from duende.core.events import BecameReady, BecameUnhealthy, Event
from duende.errors import NotSupported, OperationTimeout, PlatformError
from duende.model.health import HealthStatus
from duende.model.status import DaemonStatus
from duende.runtime import probes
from duende.runtime.driver import Slot

__all__ = ["Watchers"]

Report = Callable[[Slot, HealthStatus, bool], None]
"""(slot, health, is it news)"""


class Watchers:
    """Started and ended by the manager as incarnations come and go."""

    def __init__(
        self, post: Callable[[str, Event], None], report: Report, environment_of: Callable[[Slot], Mapping[str, str]]
    ) -> None:
        self._post = post
        self._report = report
        self._environment_of = environment_of
        self._tasks: dict[str, tuple[int, asyncio.Task[None]]] = {}

    def follow(self, slot: Slot) -> None:
        """Make the watcher fit the slot's state."""
        name, state = slot.config.name, slot.state
        present = self._tasks.get(name)
        wanted = state.executed and state.status in (DaemonStatus.STARTING, DaemonStatus.RUNNING, DaemonStatus.PAUSED)
        if present is not None and (not wanted or present[0] != state.instance):
            present[1].cancel()
            del self._tasks[name]
            present = None
        if wanted and present is None and self._has_work(slot):
            self._tasks[name] = (state.instance, asyncio.create_task(self._watch(slot, state.instance)))

    async def close(self) -> None:
        """End all watchers."""
        tasks = [task for _, task in self._tasks.values()]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _has_work(self, slot: Slot) -> bool:
        config = slot.config
        polled = config.ready.tcp or config.ready.http or config.ready.unix or config.ready.exec
        return bool((polled and not slot.state.ready) or _is_checked(slot))

    async def _watch(self, slot: Slot, instance: int) -> None:
        env, cwd = self._environment_of(slot), str(slot.config.working_dir or "/")
        ready = probes.ready_probe(slot.config.ready, env, cwd)
        if ready is not None and not slot.state.ready:
            while not (await probes.measured(ready, max(slot.config.ready.interval, 1.0))).is_healthy:  # noqa: ASYNC110
                await asyncio.sleep(slot.config.ready.interval)
            self._post(slot.config.name, BecameReady(instance))
        if not _is_checked(slot):
            return
        while not slot.state.ready:
            await slot.changed.wait()
        await self._check(slot, instance, env, cwd)

    async def _check(self, slot: Slot, instance: int, env: Mapping[str, str], cwd: str) -> None:
        check = slot.config.health_check
        failures, last_healthy = 0, None
        lenient_until_s = 0.0
        loop = asyncio.get_running_loop()
        while True:
            unchanged = slot.changed
            while _is_paused(slot):
                await slot.changed.wait()
            health = await self._ask(slot, check, env, cwd)
            if health is None:
                return
            if _is_paused(slot):
                continue  # it was stopped while it was asked: that answer says nothing
            if unchanged.is_set():  # it was stopped and went on: it may still be busy with what was asked before
                lenient_until_s = loop.time() + check.timeout
            if not health.is_healthy and loop.time() < lenient_until_s:
                await asyncio.sleep(check.interval)
                continue
            failures = 0 if health.is_healthy else failures + 1
            settled = health.is_healthy or failures >= check.retries
            if settled or last_healthy is None:
                news = (
                    settled and health.is_healthy != last_healthy and not (last_healthy is None and health.is_healthy)
                )
                self._report(slot, health, news)
            if settled:
                last_healthy = health.is_healthy
            if not health.is_healthy and failures == check.retries and check.restart:
                self._post(slot.config.name, BecameUnhealthy(instance, health.reason))
            await asyncio.sleep(check.interval)

    async def _ask(self, slot: Slot, check: HealthCheckConfig, env: Mapping[str, str], cwd: str) -> HealthStatus | None:
        """One answer, or None when this daemon can't be asked at all."""
        probe = probes.health_probe(check, env, cwd)
        if probe is not None:
            return await probes.measured(probe, check.timeout)
        if slot.handle is None:
            return None
        try:
            return await slot.adapter.check_health(slot.handle, check.timeout)
        except NotSupported:
            return None
        except OperationTimeout as error:
            return HealthStatus.unhealthy(f"health_check: {error}", check.timeout * 1000.0)
        except PlatformError as error:
            return HealthStatus.unhealthy(str(error))


def _is_paused(slot: Slot) -> bool:
    return slot.state.status is DaemonStatus.PAUSED


def _is_checked(slot: Slot) -> bool:
    check = slot.config.health_check
    return check.enabled and bool(check.http or check.tcp or check.exec or slot.config.daemon)
