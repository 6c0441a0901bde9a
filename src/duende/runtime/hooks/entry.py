"""Hooks that are Python functions, by the entry point group `duende.hooks`; called in a thread with the event."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from duende.config.hook import HookConfig
from duende.runtime.hooks.retry import Outcome
from duende.runtime.hooks.threads import in_thread

__all__ = ["GROUP", "EntryPoints"]

GROUP = "duende.hooks"


class EntryPoints:
    """Calls them, each never twice at once: a thread can't be killed, so one that hangs is the only one."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Future[Any]] = {}

    async def send(self, hook: HookConfig, event: Mapping[str, Any]) -> Outcome:
        """Call it; what it returns means nothing, what it raises is the failure."""
        before = self._running.get(hook.name)
        if before is not None and not before.done():
            return Outcome(False, "an earlier call still runs: its thread can't be ended from outside")
        future = in_thread(lambda: _call(hook.entry_point or "", dict(event)), f"duende-hook-{hook.name}")
        self._running[hook.name] = future
        # Shielded: on a time-out the future must go on, to tell when the thread has come back.
        done, _ = await asyncio.wait((future,), timeout=hook.timeout)
        if not done:
            future.add_done_callback(_look_away)
            return Outcome(False, f"did not return within {hook.timeout:g} s; its thread goes on")
        error = future.exception()
        if error is None:
            return Outcome(True, "returned")
        return Outcome(False, f"{type(error).__name__}: {error}", is_final=isinstance(error, LookupError))


def _look_away(future: asyncio.Future[Any]) -> None:
    """Its failure has been told as a time-out; asyncio shall not report it once more."""
    if not future.cancelled():
        future.exception()


def _call(name: str, event: dict[str, Any]) -> None:
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise LookupError(f"no installed package has the entry point {name!r} in {GROUP} (there are: {known})")
    found[name].load()(event)
