"""What each route does: translate between the wire and the manager, and nothing more.

A handler gets a `Call` whose body and parameters were checked; it returns a JSON value, or for a stream an async
generator of bytes. It raises what the manager raises: `problems.py` knows what that means on the wire. What can be
wrong with a stream's request is raised before the generator is made, while an error can still be the answer.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duende
from duende.api.facade import Events, Manager, Wire
from duende.api.http import unless_gone
from duende.api.logstream import followed_lines, past_lines
from duende.api.problems import HttpProblem
from duende.api.types import LogLine, ShutdownAnswer, VersionWire
from duende.model.signals import Signal
from duende.runtime.logs.place import Place

__all__ = [
    "Call",
    "chains",
    "events",
    "exec_environment",
    "explain",
    "graph",
    "hooks",
    "logs",
    "openapi",
    "processes",
    "reload",
    "restart",
    "shutdown",
    "signal",
    "start",
    "status",
    "stop",
    "test_hook",
    "version",
    "wait",
]

# Events replayed per read of the journal: some 200 KiB, so that a long past neither fills memory nor holds up the loop.
_REPLAY_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Call:
    """One request: `params` are already of the types the route says; those not given are absent."""

    manager: Manager
    path: Mapping[str, str]
    params: Mapping[str, Any]
    body: Mapping[str, Any]
    until_gone: Callable[[], Awaitable[None]]  # returns when nobody waits for the answer any more

    def names(self) -> list[str]:
        """The daemons that the request's names and globs mean; all when it has none. UnknownDaemon otherwise."""
        patterns: Sequence[str] = self.body.get("names") or self.params.get("name") or ()
        if patterns:
            return self.manager.match(patterns)
        return [daemon["name"] for daemon in self.manager.status()["daemons"]]  # also of a stack that has none


async def status(call: Call) -> Wire:
    if "name" in call.params:
        return call.manager.status(call.names())
    return call.manager.status()


async def processes(call: Call) -> Wire:
    return {"processes": list(call.manager.processes(call.names()))}


async def metrics(call: Call) -> Wire:
    return {"daemons": await call.manager.metrics(call.names())}


async def start(call: Call) -> Wire:
    names = call.names() if "names" in call.body else ()
    if not call.body.get("refuse_running"):
        return _results(await call.manager.start(names, **_waiting(call)))
    literal = frozenset(call.body.get("names", ())) & frozenset(names)  # a glob finds what runs and what does not
    return _results(await call.manager.start(names, **_waiting(call), refuse_running=literal))


async def stop(call: Call) -> Wire:
    return _results(await call.manager.stop(call.names(), **_waiting(call)))


async def restart(call: Call) -> Wire:
    return _results(await call.manager.restart(call.names(), **_waiting(call)))


async def reload(call: Call) -> Wire:
    return _results(await call.manager.reload(call.names()))


async def signal(call: Call) -> Wire:
    try:
        number = Signal.parse(call.body["signal"])
    except ValueError as error:
        raise HttpProblem(422, "invalid-request", str(error)) from None
    return _results(await call.manager.signal(call.names(), int(number), tree=call.body.get("tree", False)))


async def wait(call: Call) -> Wire:
    until, timeout_s = call.body.get("until", "ready"), _timeout_s(call)
    # Alone among the operations it changes nothing, so it ends with its client; the others are carried through.
    waiting = call.manager.wait(call.names(), until=until, timeout_s=timeout_s)
    return _results(await unless_gone(waiting, call.until_gone))


async def exec_environment(call: Call) -> Wire:
    return call.manager.exec_environment(_one_name(call))


async def explain(call: Call) -> Wire:
    return call.manager.explain(_one_name(call))


async def graph(call: Call) -> Wire:
    return call.manager.graph(call.names() if "name" in call.params else ())


async def chains(call: Call) -> Wire:
    return await call.manager.chains(call.names() if "name" in call.params else ())


def _one_name(call: Call) -> str:
    names = call.manager.match([call.path["name"]])
    if len(names) != 1:
        found = ", ".join(names) or "none"
        detail = f"{call.path['name']} must name one daemon, names {len(names)}: {found}"
        raise HttpProblem(409, "ambiguous-name", detail)
    return names[0]


async def hooks(call: Call) -> Wire:
    return {"hooks": list(call.manager.hook_report())}


async def test_hook(call: Call) -> Wire:
    return await call.manager.test_hook(call.path["name"])


async def shutdown(call: Call) -> ShutdownAnswer:
    await call.manager.shutdown(stop_daemons=call.body.get("stop_daemons", True))
    return {"pid": os.getpid()}


async def version(call: Call) -> VersionWire:
    del call
    return {"version": duende.__version__, "api": ["v1"], "python": platform.python_version(), "pid": os.getpid()}


async def openapi(call: Call) -> dict[str, Any]:
    del call
    from duende.api.openapi import document  # here: it imports the route table, which imports this module

    return document()


async def events(call: Call) -> AsyncGenerator[bytes, None]:
    log = call.manager.events
    wanted = frozenset(call.names()) if "name" in call.params else None
    after = call.params.get("after", call.params.get("Last-Event-ID", 0))
    if "last" in call.params:
        after = max(after, log.last_seq - call.params["last"])
    if call.params.get("follow", 1):
        return _followed_events(log, after, wanted)
    return _past_events(log, after, wanted)


async def _followed_events(log: Events, after: int, wanted: frozenset[str] | None) -> AsyncGenerator[bytes, None]:
    async for event in log.follow(after):
        if wanted is None or event["daemon"] in wanted:
            yield _server_sent(event)


async def _past_events(log: Events, after: int, wanted: frozenset[str] | None) -> AsyncGenerator[bytes, None]:
    end = log.last_seq  # what happens while we replay is not the past
    while after < end:
        chunk = [event for event in log.since(after, _REPLAY_CHUNK) if event["seq"] <= end]
        if not chunk:
            return
        after = chunk[-1]["seq"]
        yield b"".join(_server_sent(event) for event in chunk if wanted is None or event["daemon"] in wanted)


async def logs(call: Call) -> AsyncGenerator[bytes, None]:
    streams = call.params.get("stream", ["stdout", "stderr"])
    for stream in streams:
        if stream not in ("stdout", "stderr"):
            raise HttpProblem(422, "invalid-request", f"stream: expected stdout or stderr, found {stream!r}")
    if call.params.get("follow", 0):
        return _followed_lines(call, call.names(), streams, _places(call))
    return _past_lines(call, call.names(), streams)


def _places(call: Call) -> list[Place] | None:
    try:
        return [Place.parse(text) for text in call.params["from"]] if "from" in call.params else None
    except ValueError as error:
        raise HttpProblem(422, "invalid-request", f"from: {error}") from None


async def _past_lines(call: Call, names: list[str], streams: Sequence[str]) -> AsyncGenerator[bytes, None]:
    lines, since_s = call.params.get("lines"), call.params.get("since")
    batches = past_lines(call.manager.log_store, names, lines=lines, since_s=since_s, streams=streams)
    async with contextlib.aclosing(batches):
        async for batch in batches:
            yield b"".join(_json_line(line) for line in batch)


async def _followed_lines(
    call: Call, names: list[str], streams: Sequence[str], places: list[Place] | None
) -> AsyncGenerator[bytes, None]:
    lines, since_s = call.params.get("lines"), call.params.get("since")
    batches = followed_lines(
        call.manager.log_store, names, lines=lines, since_s=since_s, streams=streams, places=places
    )
    async with contextlib.aclosing(batches):
        async for batch, news in batches:
            told = _json_line({"places": news}) if news and call.params.get("places", 0) else b""
            yield b"".join(_json_line(line) for line in batch) + told


def _waiting(call: Call) -> dict[str, Any]:
    return {"wait": call.body.get("wait", True), "timeout_s": _timeout_s(call)}


def _timeout_s(call: Call) -> float | None:
    timeout_s: float | None = call.body.get("timeout_s")
    if timeout_s is not None and not 0.0 <= timeout_s < math.inf:
        raise HttpProblem(422, "invalid-request", f"timeout_s: must be finite and not negative, found {timeout_s:g}")
    return timeout_s


def _results(results: Sequence[Wire]) -> Wire:
    return {"ok": all(result["ok"] for result in results), "results": list(results)}


def _server_sent(event: Wire) -> bytes:
    # json.dumps writes no raw line breaks, so one data line is enough; kinds are identifiers.
    return b"id: %d\nevent: %s\ndata: %s\n" % (event["seq"], event["kind"].encode(), _json_line(event))


def _json_line(value: Wire | LogLine) -> bytes:
    # What backslashreplace makes of a lone surrogate is its JSON escape.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
