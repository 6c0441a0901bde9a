"""The application: from a request to an answer by the route table. It knows nothing of sockets."""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from duende.api.facade import Manager
from duende.api.handlers import Call
from duende.api.http import ClientGone, Reply, Request, StreamReply
from duende.api.problems import CONTENT_TYPE, HttpProblem, problem_of
from duende.api.routes import Route, find_route
from duende.api.schema import problems_in

__all__ = ["Application", "reply_of_problem"]

# Names in a query: more than any stack has daemons, few enough to be parsed in a blink.
_QUERY_FIELDS_MAX = 10_000


class Application:
    """Answers requests for one manager."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    async def respond(self, request: Request) -> Reply | StreamReply:
        """Answer; every exception but ClientGone becomes problem details."""
        path = ""
        try:
            path, query = _split_target(request.target)
            route, found = find_route(request.method, path)
            _require_same_stack(request.headers, self._manager.config_path)
            call = Call(
                manager=self._manager,
                path={name: unquote(segment) for name, segment in found.items()},
                params=_params(route, query, request.headers),
                body=_body(route, request.body),
                until_gone=request.until_gone,
            )
            answer = await route.handler(call)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: what it was is told to the client, and logged if ours
            return reply_of_problem(problem_of(error), path)
        if route.stream is not None:
            return StreamReply(route.stream.content_type, answer, route.stream.heartbeat)
        return Reply(200, "application/json", _encode(answer))


def _require_same_stack(headers: Mapping[str, str], own: str | None) -> None:
    """Two folders of one name are two stacks: whoever came by a file must not command the daemons of another."""
    theirs = headers.get("duende-config")
    if theirs is None or own is None:
        return
    try:
        path = os.fsdecode(bytes.fromhex(theirs))
    except ValueError:
        raise HttpProblem(400, "invalid-request", "the header Duende-Config is not hexadecimal") from None
    if os.path.realpath(path) != os.path.realpath(own):
        detail = f"the manager that runs is of {own}, not of {path}: two stacks can't have one name"
        hint = "give one of them another (`[stack] name`), or use -s for that one"
        raise HttpProblem(409, "other-stack", f"{detail}; {hint}")


def reply_of_problem(problem: HttpProblem, path: str = "") -> Reply:
    """The answer that tells a problem."""
    body = _encode(problem.details(path))
    return Reply(problem.status, CONTENT_TYPE, body, headers=problem.headers, closes=problem.closes)


def _encode(value: object) -> bytes:
    # What backslashreplace makes of a lone surrogate is its JSON escape.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"


def _split_target(target: str) -> tuple[str, str]:
    try:
        parts = urlsplit(target)  # also of the absolute form `http://localhost/v1/…` (RFC 9112, 3.2.2)
    except ValueError as error:
        raise HttpProblem(400, "invalid-request", f"not a path: {target[:200]!r}: {error}") from None
    return parts.path, parts.query


def _params(route: Route, query: str, headers: Mapping[str, str]) -> dict[str, Any]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_QUERY_FIELDS_MAX, errors="strict")
    except ValueError as error:
        raise HttpProblem(400, "invalid-request", f"cannot read the query: {error}") from None
    known = {param.name: param for param in route.params if param.place == "query"}
    problems: list[str] = []
    params: dict[str, Any] = {}
    pairs += [
        (param.name, headers[param.name.lower()])
        for param in route.params
        if param.place == "header" and param.name.lower() in headers
    ]
    by_header = {param.name: param for param in route.params if param.place == "header"}
    for name, text in pairs:
        param = known.get(name) or by_header.get(name)
        if param is None:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known) or 'none'}"
            problems.append(f"{name}: unknown parameter ({hint})")
        elif param.many:
            params.setdefault(name, []).append(text)
        elif name in params:
            problems.append(f"{name}: given twice")
        else:
            try:
                params[name] = _converted(param.type, text)
            except ValueError as error:
                problems.append(f"{name}: {error}")
    if problems:
        raise HttpProblem(422, "invalid-request", "; ".join(problems), problems=tuple(problems))
    return params


def _converted(to: Any, text: str) -> Any:
    if to is str:
        return text
    try:
        number = to(text)
    except ValueError:
        number = -1
    if not 0 <= number < math.inf or not text.isascii():
        raise ValueError(f"expected a number that is not negative, found {text[:40]!r}")
    return number


def _body(route: Route, body: bytes) -> dict[str, Any]:
    if route.request is None:
        return {}
    try:
        value = json.loads(body or b"{}", parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise HttpProblem(400, "invalid-json", f"the body is not JSON: {why}") from None
    problems = problems_in(route.request, value)
    if problems:
        raise HttpProblem(422, "invalid-request", "; ".join(problems), problems=tuple(problems))
    assert isinstance(value, dict)
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON (RFC 8259)")
