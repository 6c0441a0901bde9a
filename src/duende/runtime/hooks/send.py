"""One attempt to tell a hook, by whatever way it has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from duende.config.hook import HookConfig
from duende.errors import DaemonError
from duende.runtime.hooks.command import Commands
from duende.runtime.hooks.entry import EntryPoints
from duende.runtime.hooks.retry import Outcome
from duende.runtime.hooks.webhook import post, shown_url

__all__ = ["Sender"]


class Sender:
    """The ways of one manager. `start` starts a daemon by name, because of what is said, and says what became of it."""

    def __init__(self, directory: str, start: Callable[[str, str], Awaitable[tuple[bool, str]]]) -> None:
        self._commands = Commands(directory)
        self._entry_points = EntryPoints()
        self._start = start

    async def __call__(self, hook: HookConfig, event: Mapping[str, Any]) -> Outcome:
        if hook.command is not None:
            return await self._commands.send(hook, event)
        if hook.entry_point is not None:
            return await self._entry_points.send(hook, event)
        if hook.webhook is not None:
            try:
                async with asyncio.timeout(hook.timeout):
                    return await post(hook, event)
            except TimeoutError:
                return Outcome(False, f"{shown_url(hook.webhook)}: no answer within {hook.timeout:g} s")
        try:
            why = f"hook {hook.name}: {event['kind']} of {event['daemon'] or 'the manager'}, event {event['seq']}"
            return Outcome(*await self._start(hook.start or "", why))
        except DaemonError as error:
            return Outcome(False, str(error))
