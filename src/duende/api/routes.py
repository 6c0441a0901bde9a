"""The route table: every path of the API, once. The server serves it and the OpenAPI document is generated from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from duende.api import handlers, types
from duende.api.handlers import Call
from duende.api.problems import HttpProblem

__all__ = ["ROUTES", "Param", "Route", "Stream", "find_route"]


@dataclass(frozen=True, slots=True)
class Param:
    """A query parameter, or a request header where `place` says so."""

    name: str
    summary: str
    type: Any = str
    many: bool = False
    place: str = "query"


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes on: its content type, what one item is, and the bytes that say «still here»."""

    content_type: str
    heartbeat: bytes


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `{x}` in the path is one segment. `answer` and `request` are wire types."""

    method: str
    path: str
    summary: str
    answer: Any
    handler: Callable[[Call], Awaitable[Any]]
    request: Any = None
    params: tuple[Param, ...] = ()
    stream: Stream | None = None
    may_fail_with: tuple[int, ...] = ()


_NAMES = Param("name", "a daemon's name or a glob; may be repeated; default: all", many=True)

# https://html.spec.whatwg.org/multipage/server-sent-events.html: a line that begins with a colon is a comment.
_EVENTS = Stream("text/event-stream", b":\n\n")
# An empty line is skipped by every reader of JSON lines that we know (jq, pandas, our own).
_LINES = Stream("application/jsonl", b"\n")

ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/status", "Where the daemons stand, and why.", types.StackStatus, handlers.status,
          params=(_NAMES,), may_fail_with=(404,)),
    Route("GET", "/v1/ps", "The processes of the daemons.", types.Processes, handlers.processes,
          params=(_NAMES,), may_fail_with=(404,)),
    Route("GET", "/v1/metrics", "What Python-class daemons say of themselves.", types.Metrics, handlers.metrics,
          params=(_NAMES,), may_fail_with=(404,)),
    Route("POST", "/v1/start", "Start daemons, each when what it comes after is there.", types.Operations,
          handlers.start,
          request=types.StartRequest, may_fail_with=(404, 409)),
    Route("POST", "/v1/stop", "Stop daemons; they stay stopped until they are started by name.", types.Operations,
          handlers.stop,
          request=types.OperationRequest, may_fail_with=(404, 409)),
    Route("POST", "/v1/restart", "Stop and start daemons.", types.Operations, handlers.restart,
          request=types.OperationRequest, may_fail_with=(404, 409)),
    Route("POST", "/v1/reload", "Ask daemons to read their configuration again.", types.Operations, handlers.reload,
          request=types.NamesRequest, may_fail_with=(404, 409)),
    Route("POST", "/v1/signal", "Send a signal to daemons.", types.Operations, handlers.signal,
          request=types.SignalRequest, may_fail_with=(404, 409)),
    Route("POST", "/v1/wait", "Answer when all the daemons have reached a state.", types.Operations, handlers.wait,
          request=types.WaitRequest, may_fail_with=(404, 409)),
    Route("GET", "/v1/daemons/{name}/exec-environment", "What a command needs to run like the daemon does.",
          types.ExecEnvironment, handlers.exec_environment, may_fail_with=(404,)),
    Route("GET", "/v1/daemons/{name}/explain", "Why a daemon is as it is, what led there, and what comes next.",
          types.Explanation, handlers.explain, may_fail_with=(404, 409)),
    Route("GET", "/v1/graph", "Who comes after whom; with names, those and what they need.", types.Graph,
          handlers.graph, params=(_NAMES,), may_fail_with=(404,)),
    Route("GET", "/v1/chains", "What the last starts were waiting for; without names, the start that took the longest.",
          types.Chains, handlers.chains, params=(_NAMES,), may_fail_with=(404,)),
    Route("GET", "/v1/events", "What happened, as server-sent events with the sequence number as id.", types.Event,
          handlers.events, stream=_EVENTS, params=(
              Param("after", "only events after this sequence number; default: all that are kept", int),
              Param("last", "only this many of the latest events", int),
              Param("follow", "1 (default) goes on with what happens, 0 ends after the past", int),
              Param("name", "only events of these daemons; may be repeated", many=True),
              Param("Last-Event-ID", "like `after`, as browsers send it on reconnection", int, place="header"),
          ), may_fail_with=(404,)),
    Route("GET", "/v1/hooks", "Who is told what happens, and whether that works.", types.Hooks, handlers.hooks),
    Route("POST", "/v1/hooks/{name}/test", "Send a test event to one hook, once and now.", types.HookTest,
          handlers.test_hook, may_fail_with=(404,)),
    Route("GET", "/v1/logs", "Captured output, one JSON record a line.", types.LogLine, handlers.logs,
          stream=_LINES, params=(
              _NAMES,
              Param("lines", "how many of the latest lines; default: all", int),
              Param("since", "only lines since this Unix time in seconds", float),
              Param("stream", "stdout or stderr; default: both", many=True),
              Param("follow", "1 goes on with new lines, 0 (default) ends after the past", int),
              Param("places", 'with follow, 1 adds lines `{"places": ["…"]}`: where in each log the reader is', int),
              Param("from", "go on at a place, the newest of each log; may be repeated", many=True),
          ), may_fail_with=(404,)),
    Route("POST", "/v1/shutdown", "End the manager, with its daemons or without.", types.ShutdownAnswer,
          handlers.shutdown, request=types.ShutdownRequest),
    Route("GET", "/v1/version", "Versions.", types.VersionWire, handlers.version),
    Route("GET", "/v1/openapi.json", "This description.", dict[str, Any], handlers.openapi),
)  # fmt: skip


def find_route(method: str, path: str) -> tuple[Route, Mapping[str, str]]:
    """The route of a request and what its `{x}` are. HttpProblem 404 or 405 where there is none."""
    allowed = []
    segments = path.split("/")
    for route in ROUTES:
        found = _match(route.path.split("/"), segments)
        if found is None:
            continue
        if route.method == method:
            return route, found
        allowed.append(route.method)
    if allowed:
        raise HttpProblem(
            405,
            "method-not-allowed",
            f"{method} {path}: allowed is {', '.join(allowed)}",
            headers=(("Allow", ", ".join(allowed)),),
        )
    raise HttpProblem(404, "unknown-route", f"{path}: no such path; GET /v1/openapi.json lists all (this is version 1)")


def _match(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(segments):
        return None
    found = {}
    for wanted, segment in zip(pattern, segments, strict=True):
        if wanted.startswith("{"):
            found[wanted[1:-1]] = segment
        elif wanted != segment:
            return None
    return found
