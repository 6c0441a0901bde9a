"""What users ask for: start, stop, restart, signal, wait. Each is posted to the core, then its outcome is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from duende.core.events import KillRequested, RestartRequested, StartRequested, StopRequested
from duende.errors import PlatformError, ShuttingDown
from duende.model.status import DaemonStatus
from duende.runtime import report, waiting
from duende.runtime.commands import CommandFailed
from duende.runtime.driver import Driver, Slot
from duende.runtime.inquiries import Inquiries

__all__ = ["Operations"]


class Operations(Inquiries):
    """The part of the manager that acts on daemons by name."""

    _driver: Driver

    async def start(
        self,
        names: Sequence[str] = (),
        *,
        wait: bool = True,
        timeout_s: float | None = None,
        refuse_running: Collection[str] = (),
    ) -> list[dict[str, Any]]:
        """Start daemons (all that are not stopped by hand, if none is named) and wait until each is ready or has
        failed. Those of `refuse_running` that have an instance already are answered with an error and left alone.
        """

        def one(slot: Slot, named: bool) -> tuple[bool, waiting.Verdict]:
            if slot.config.name in refuse_running and _has_come_up(slot):
                why = _runs_already(slot)
                return False, lambda slot: (False, why)
            return self._start_one(slot, named)

        return await self._operate(names, one, wait, timeout_s, starts=True)

    async def stop(
        self, names: Sequence[str] = (), *, wait: bool = True, timeout_s: float | None = None
    ) -> list[dict[str, Any]]:
        """Stop daemons and keep them stopped. Stopping what is stopped is no error."""
        return await self._operate(names, self._stop_one, wait, timeout_s)

    async def kill(
        self, names: Sequence[str] = (), *, wait: bool = True, timeout_s: float | None = None
    ) -> list[dict[str, Any]]:
        """SIGKILL whole trees at once, and keep them stopped."""
        return await self._operate(names, self._kill_one, wait, timeout_s)

    async def restart(
        self, names: Sequence[str] = (), *, wait: bool = True, timeout_s: float | None = None
    ) -> list[dict[str, Any]]:
        """A new incarnation of each; one that did not run is started."""
        return await self._operate(names, self._restart_one, wait, timeout_s, starts=True)

    async def reload(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Send each its reload signal (SIGHUP unless configured), or run its reload command."""
        return list(await asyncio.gather(*(self._reload_one(self.slots[name]) for name in self._chosen(names))))

    async def _reload_one(self, slot: Slot) -> dict[str, Any]:
        config = slot.config
        if config.reload_command is None or slot.handle is None or not slot.state.executed:
            return await self._signal_one(slot, int(config.reload_signal))
        try:
            async with asyncio.timeout(config.reload_timeout or None):
                await self.run_for(slot, config.reload_command)
        except TimeoutError:
            why = f"{config.reload_command[0]} did not end within {config.reload_timeout:g} s"
        except (CommandFailed, PlatformError) as error:
            why = str(error)
        else:
            return report.result(slot, True, True)
        return report.result(slot, False, False, why)

    async def signal(self, names: Sequence[str], signal: int, *, tree: bool = False) -> list[dict[str, Any]]:
        """Send a signal by its Linux number."""
        return [await self._signal_one(self.slots[name], signal, tree) for name in self._chosen(names)]

    async def wait(
        self, names: Sequence[str], *, until: str = "ready", timeout_s: float | None = None
    ) -> list[dict[str, Any]]:
        """Wait until each is `ready`, `running`, `stopped`, `exited` (its present incarnation), `healthy` or `settled`.

        Settled is ready, or failed at least once, or not to be started.
        """
        await self._driver.idle.wait()

        def judge(slot: Slot) -> waiting.Verdict:
            match until:
                case "settled":
                    return self._or_blocked(waiting.settled)
                case "ready":
                    return waiting.ready(slot.state.attempt)
                case "running":
                    return waiting.running
                case "stopped":
                    return waiting.gone
                case "exited":
                    return waiting.exited(slot.state.instance)
                case "healthy":
                    return self._is_healthy
                case _:
                    known = "ready, running, stopped, exited, healthy, settled"
                    raise ValueError(f"cannot wait for {until!r}; known are {known}")

        slots = [self.slots[name] for name in self._chosen(names)]
        judges = [(slot, judge(slot)) for slot in slots]
        fresh = until == "settled"
        results = await asyncio.gather(*(waiting.until(slot, j, timeout_s, changed=fresh) for slot, j in judges))
        return await waiting.started(slots, list(results)) if fresh else list(results)

    async def start_for_hook(self, name: str, why: str) -> tuple[bool, str]:
        """Start what a hook or `on_failure` names, save what somebody has stopped by hand. `why` goes into the log."""
        stopped = [
            slot.config.name
            for slot in (self.slots[one] for one in self.match([name]))
            if slot.state.status is DaemonStatus.STOPPED and not slot.state.wanted and not slot.state.completed
        ]
        wanted = [one for one in self.match([name]) if one not in stopped]
        if not wanted:
            return False, f"{name} was stopped by hand and is left so"
        for one in wanted:
            self.events.record(one, "asked", "a hook asks for its start", cause=why)
        results = await self.start(wanted, wait=False)
        return True, ", ".join(f"{one['name']} {one['status']}" for one in results)

    # --- operations on one daemon

    async def _operate(
        self, names: Sequence[str], one: Any, wait: bool, timeout_s: float | None, *, starts: bool = False
    ) -> list[dict[str, Any]]:
        while not self._driver.idle.is_set():  # again: of two that waited, the second shall see what the first posted
            await self._driver.idle.wait()
        if starts and self.is_shutting_down:
            text = "it is being stopped (`duende down`)"
            raise ShuttingDown(f"cannot start anything in stack {self.stack_name!r}: {text}")
        planned = [(self.slots[name], *one(self.slots[name], bool(names))) for name in self._chosen(names)]
        await self._driver.idle.wait()
        trouble = self._driver.store_trouble  # as the user's word was written, or not; it may be over when we answer
        results = await self._results(planned, wait, timeout_s, starts)
        if trouble:
            text = f"not on record ({trouble}): a manager that is killed before it is would not know of it"
            for one in results:
                one["message"] = "; ".join(filter(None, (one["message"], text)))
        return results

    async def _results(
        self, planned: list[tuple[Slot, bool, waiting.Verdict]], wait: bool, timeout_s: float | None, starts: bool
    ) -> list[dict[str, Any]]:
        if not wait:
            refused = [(judge(slot) or (True, "")) if not changed else (True, "") for slot, changed, judge in planned]
            return [
                report.result(slot, ok, changed, message if not ok else "")
                for (slot, changed, _), (ok, message) in zip(planned, refused, strict=True)
            ]
        results = await asyncio.gather(
            *(waiting.until(slot, judge, timeout_s, changed=changed) for slot, changed, judge in planned)
        )
        if starts:
            return await waiting.started([slot for slot, _, _ in planned], list(results))
        return list(results)

    def _start_one(self, slot: Slot, named: bool) -> tuple[bool, waiting.Verdict]:
        state = slot.state
        attempt = 0 if state.status is DaemonStatus.BACKOFF else state.attempt
        judge = self._or_blocked(waiting.ready(attempt))
        changed = not (state.status.has_instance and state.status is not DaemonStatus.STOPPING)
        if not named and not state.wanted:
            return False, lambda slot: (True, "stopped by hand, left so")
        if not named and waiting.is_between_runs(slot):
            return False, waiting.settled
        self._driver.post(slot.config.name, StartRequested(blocked=bool(self._unmet(slot))), durable=True)
        return changed, judge

    def _stop_one(self, slot: Slot, named: bool) -> tuple[bool, waiting.Verdict]:
        changed = slot.state.status.has_instance or slot.state.status is DaemonStatus.BACKOFF
        self._driver.post(slot.config.name, StopRequested(), durable=True)
        return changed, waiting.gone_or_again(slot.state.instance)

    def _kill_one(self, slot: Slot, named: bool) -> tuple[bool, waiting.Verdict]:
        changed = slot.state.status.has_instance or slot.state.status is DaemonStatus.BACKOFF
        self._driver.post(slot.config.name, KillRequested(), durable=True)
        return changed, waiting.gone_or_again(slot.state.instance)

    def _restart_one(self, slot: Slot, named: bool) -> tuple[bool, waiting.Verdict]:
        if not named and waiting.is_between_runs(slot):
            return False, waiting.settled
        before = slot.state.instance
        judge = self._or_blocked(waiting.ready(0))
        unmet = bool(self._unmet(slot)) and not slot.state.status.has_instance
        self._driver.post(slot.config.name, StartRequested(blocked=True) if unmet else RestartRequested(), durable=True)

        def judge_new(slot: Slot) -> tuple[bool, str] | None:
            if slot.state.instance > before or slot.state.waiting:
                return judge(slot)
            if slot.state.status.has_instance:
                return None  # the former incarnation still has to end
            return False, "was not started again: somebody has asked for a stop meanwhile"

        return True, judge_new

    def _or_blocked(self, judge: waiting.Verdict) -> waiting.Verdict:
        """A daemon that waits for one that failed would be waited for in vain: say so; it still starts when that one
        comes.
        """

        def judge_both(slot: Slot) -> tuple[bool, str] | None:
            if slot.state.waiting:
                for name in self._unmet(slot):
                    other = self.slots.get(name)
                    if other is not None and waiting.is_hopeless(other):
                        why = other.state.exit.message if other.state.exit else other.state.status.value
                        return False, f"waits for {name}, which is {other.state.status.value} ({why})"
            return judge(slot)

        return judge_both

    async def _signal_one(self, slot: Slot, number: int, tree: bool = False) -> dict[str, Any]:
        if slot.handle is None or not slot.state.executed:
            return report.result(slot, False, False, f"does not run ({slot.state.status.value})")
        try:
            await slot.adapter.signal(slot.handle, number, tree=tree)
        except PlatformError as error:
            return report.result(slot, False, False, str(error))
        return report.result(slot, True, True)

    def _chosen(self, names: Sequence[str]) -> list[str]:
        return self.match(names) if names else list(self.slots)

    async def _settled(self, slot: Slot) -> None:
        await self._driver.idle.wait()
        await waiting.until(slot, waiting.gone, None, changed=True)

    def _is_healthy(self, slot: Slot) -> tuple[bool, str] | None:
        health = self.health.get(slot.config.name)
        if slot.state.status is DaemonStatus.FAILED:
            return False, slot.state.exit.message if slot.state.exit else ""
        return (True, "") if slot.state.ready and health is not None and health.is_healthy else None


def _has_come_up(slot: Slot) -> bool:
    """Whether a start would find an instance, or one on its way; one that is on its way out may be asked for again."""
    return slot.state.status.has_instance and slot.state.status is not DaemonStatus.STOPPING


def _runs_already(slot: Slot) -> str:
    if not slot.state.executed or slot.handle is None:
        return "is being started already"
    return f"is {slot.state.status.value} already ({slot.handle}); `duende restart {slot.config.name}` starts it anew"
