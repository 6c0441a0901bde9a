"""What users ask without changing anything: how it is, which processes, which metrics, what happened."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import difflib
import fnmatch
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

from duende.adapters.native.adapter import NativeAdapter
from duende.adapters.native.render import environment
from duende.adapters.native.users import look_up
from duende.errors import NotFound, PlatformError, UnknownDaemon
from duende.model.handle import DaemonHandle
from duende.model.health import HealthStatus
from duende.runtime import processes, report, why
from duende.runtime.commands import run_command, running_commands
from duende.runtime.driver import Slot
from duende.runtime.eventlog import EventLog
from duende.runtime.hooks.hooks import Hooks
from duende.runtime.logs import LogStore
from duende.system.clock import Clock

__all__ = ["Inquiries"]


class Inquiries(abc.ABC):
    """The part of the manager that answers questions."""

    clock: Clock
    health: dict[str, HealthStatus]
    events: EventLog
    log_store: LogStore
    hooks: Hooks
    _opened_s: float

    @property
    @abc.abstractmethod
    def stack_name(self) -> str:
        """The stack's name."""

    @property
    @abc.abstractmethod
    def slots(self) -> dict[str, Slot]:
        """The daemons by name, in the order of the file."""

    @property
    @abc.abstractmethod
    def native(self) -> NativeAdapter | None:
        """The native adapter, if any daemon uses it."""

    @property
    @abc.abstractmethod
    def is_shutting_down(self) -> bool:
        """Whether `shutdown` has begun."""

    @abc.abstractmethod
    def _unmet(self, slot: Slot) -> tuple[str, ...]:
        """What it still waits for."""

    def own_children(self) -> set[int]:
        """The children of this process that somebody here waits for (see runtime/reaper.py)."""
        pids = {
            slot.handle.pid for slot in self.slots.values() if slot.handle is not None and slot.handle.pid is not None
        }
        return pids | running_commands() | ({self.native.keeper_pid or 0} if self.native else set())

    def match(self, patterns: Sequence[str]) -> list[str]:
        """Names and globs to names, in the order of the file. UnknownDaemon for one that matches nothing."""
        chosen: set[str] = set()
        for pattern in patterns:
            if pattern in self.slots:  # a whole stack by its names must not cost its size squared
                chosen.add(pattern)
                continue
            hits = fnmatch.filter(self.slots, pattern) or fnmatch.filter(self.slots, f"{pattern}.[0-9]*")
            if not hits:
                near = difflib.get_close_matches(pattern, self.slots, n=1)
                hint = (
                    f"did you mean {near[0]!r}?" if near else f"this stack has: {', '.join(self.slots) or 'no daemons'}"
                )
                raise UnknownDaemon(f"no daemon {pattern!r} in stack {self.stack_name!r}; {hint}")
            chosen.update(hits)
        return [name for name in self.slots if name in chosen]

    def status(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """How the stack is, in the wire form."""
        now_s = self.clock.boottime_s()
        daemons = [
            report.daemon_status(
                slot, now_s=now_s, health=self.health.get(slot.config.name), waiting_for=self._unmet(slot),
                log_tail=lambda name, lines: report.tail_of(self.log_store.read, name, lines),
            )
            for slot in report.by_name(self.slots, names)
        ]  # fmt: skip
        keeper_pid = self.native.keeper_pid if self.native else None
        failing = self.hooks.report(only_in_trouble=True)
        return report.stack_status(self.stack_name, keeper_pid, now_s - self._opened_s, daemons, failing)

    def hook_report(self) -> list[dict[str, Any]]:
        """Who is told what happens, and whether that works."""
        return self.hooks.report()

    async def test_hook(self, name: str) -> dict[str, Any]:
        """Send a test event to one hook. UnknownHook for one that is not there."""
        outcome = await self.hooks.test(name)
        return {"name": name, "ok": outcome.ok, "message": outcome.text}

    def explain(self, name: str) -> dict[str, Any]:
        """Why that daemon is as it is, what led there, what comes next, and what one can do."""
        now_s, is_shutting_down = self.clock.boottime_s(), self.is_shutting_down
        return why.explanation(
            name, self.slots, self.health, self.events, now_s=now_s, is_shutting_down=is_shutting_down
        )

    def graph(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """Who comes after whom, and how they stand: all, or these and what they need."""
        return why.graph(self.stack_name, names, self.slots, self.health)

    async def chains(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """What the last starts of these were waiting for; without names, the start that took the longest."""
        unmet = {name: self._unmet(slot) for name, slot in self.slots.items()}
        return await why.chains(self.stack_name, names, self.events, unmet)

    def processes(self, names: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Every process of the trees of these daemons."""
        found: list[dict[str, Any]] = []
        for slot in report.by_name(self.slots, names):
            if slot.handle is not None and slot.state.executed and isinstance(slot.adapter, NativeAdapter):
                with contextlib.suppress(NotFound):  # it has just ended
                    found += processes.describe(slot.config.name, slot.adapter.tree_of(slot.handle).pids())
        return found

    def exec_environment(self, name: str) -> dict[str, Any]:
        """What a command needs to run as this daemon does."""
        slot = self.slots[self.match([name])[0]]
        config = slot.config
        return {
            "argv": list(config.command or ()), "env": self._probe_environment(slot),
            "cwd": str(config.working_dir or "/"), "user": config.user, "group": config.group, "umask": config.umask,
        }  # fmt: skip

    async def metrics(self, names: Sequence[str] = (), timeout_s: float = 1.0) -> list[Any]:
        """Ask Python-class daemons for their metrics, all at once; {"name", "metrics", "error"} for each that runs."""

        async def ask(slot: Slot, handle: DaemonHandle) -> dict[str, Any]:
            try:
                found = await slot.adapter.metrics(handle, timeout_s)
            except PlatformError as error:
                return {"name": slot.config.name, "metrics": None, "error": str(error)}
            return {"name": slot.config.name, "metrics": found, "error": ""}

        asked = [
            ask(slot, slot.handle)
            for slot in report.by_name(self.slots, names)
            if slot.config.daemon is not None and slot.handle is not None and slot.state.executed
        ]
        return list(await asyncio.gather(*asked))

    def follow_events(self, after: int = 0) -> AsyncIterator[dict[str, Any]]:
        """All events after that number, and new ones as they come."""
        return self.events.follow(after)

    async def run_for(self, slot: Slot, command: Sequence[str]) -> None:
        """Run a command of a daemon's configuration as the daemon runs: its user, folder, environment, and its process
        id in MAINPID. CommandFailed, or PlatformError for a user that does not exist.
        """
        config = slot.config
        env = self._probe_environment(slot)
        if slot.handle is not None and slot.handle.pid is not None:
            env["MAINPID"] = str(slot.handle.pid)  # systemd.service(5)'s name
        account = look_up(config.user, config.group)
        await run_command(command, env, str(config.working_dir or "/"), account=account)

    def _probe_environment(self, slot: Slot) -> dict[str, str]:
        config = slot.config
        base = self.native.base_environment if self.native else os.environ
        account = look_up(config.user, config.group)
        return environment(config, slot.id, slot.state.instance, base, account, None)
