"""Hooks that are commands: the event as JSON on standard input and in `DUENDE_EVENT_*`; what they say to our log."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from duende.config.hook import HookConfig
from duende.runtime.commands import CommandFailed, tell_command
from duende.runtime.hooks.retry import Outcome
from duende.runtime.hooks.threads import in_thread

__all__ = ["Commands", "environment"]

_AT_ONCE = 4  # commands that run at the same time; a broken stack must not become a fork bomb
_OUTPUT_BYTES = 16384  # of one run, into the manager's log
_SAID_CHARS = 200  # of that, in a message
_VALUE_BYTES = 32768  # of one variable; the kernel takes 128 KiB (MAX_ARG_STRLEN)
_VARIABLES = ("id", "seq", "time", "stack", "hook", "daemon", "kind", "status", "cause", "message")


def environment(event: Mapping[str, Any], base: Mapping[str, str]) -> dict[str, str]:
    """The manager's environment without its own variables, and the event's text in `DUENDE_EVENT_KIND` and so on."""
    env = {key: value for key, value in base.items() if not key.startswith("DUENDE_")}
    for key in _VARIABLES:
        value = event.get(key)
        text = "" if value is None else str(value)
        kept = text.replace("\0", "").encode("utf-8", "backslashreplace")[:_VALUE_BYTES]
        env[f"DUENDE_EVENT_{key.upper()}"] = kept.decode(errors="ignore")
    return env


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Commands:
    """Runs them, a few at once. `say` writes to the manager's log; it may block, and is called in a thread."""

    def __init__(self, directory: str, say: Callable[[str], None] = _to_stderr) -> None:
        self._directory = directory
        self._say = say
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def send(self, hook: HookConfig, event: Mapping[str, Any]) -> Outcome:
        """Run it once. Its time counts from when there was room for it."""
        assert hook.command is not None
        body = json.dumps(event, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        async with self._room:
            try:
                async with asyncio.timeout(hook.timeout):
                    code, output = await tell_command(
                        hook.command, environment(event, os.environ), self._directory, said=body,
                        output_max_bytes=_OUTPUT_BYTES,
                    )  # fmt: skip
            except TimeoutError:
                return Outcome(False, f"{hook.command[0]} did not end within {hook.timeout:g} s and was killed")
            except CommandFailed as error:
                return Outcome(False, str(error))
        said = output.decode(errors="backslashreplace").strip()
        if said:
            await in_thread(lambda: self._say(_indented(hook.name, said)), f"duende-hook-{hook.name}")
        if code == 0:
            return Outcome(True, "exited with code 0")
        ended = f"exited with {code}" if code > 0 else f"was killed by signal {-code}"
        return Outcome(False, f"{hook.command[0]} {ended}" + (f": {said[-_SAID_CHARS:]}" if said else ""))


def _indented(name: str, said: str) -> str:
    """Each line with the hook's name, and nothing in it that a terminal obeys."""
    lines = ("".join(char if char.isprintable() or char == "\t" else "?" for char in line) for line in said.split("\n"))
    return "\n".join(f"hook {name}: {line}" for line in lines)
