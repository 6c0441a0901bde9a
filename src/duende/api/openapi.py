"""The OpenAPI 3.1 document, generated from the route table and the wire types."""

from __future__ import annotations

import re
from typing import Any

import duende
from duende.api.problems import CONTENT_TYPE
from duende.api.routes import ROUTES, Param, Route
from duende.api.schema import Schemas
from duende.api.types import ProblemDetails

__all__ = ["document"]

# Every route may answer these: not allowed here, bad request, too large, too many connections, our fault.
_ALWAYS = (400, 403, 500, 503)


def document() -> dict[str, Any]:
    """Describe the API; https://spec.openapis.org/oas/v3.1.0."""
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "duende",
            "version": duende.__version__,
            "summary": "Runs long-lived programs and keeps them running.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "http://localhost", "description": "over the stack's Unix socket"}],
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.named.items()))},
    }


def _operation(route: Route, schemas: Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{re.sub('[^a-z]+', '_', route.path.removeprefix('/v1/')).strip('_')}",
        "summary": route.summary,
        "responses": {"200": _answer(route, schemas)},
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    parameters += [_parameter(param, schemas) for param in route.params]
    if parameters:
        operation["parameters"] = parameters
    statuses = {*_ALWAYS, *route.may_fail_with}
    if route.request is not None:
        statuses |= {413, 422}
        operation["requestBody"] = {"content": {"application/json": {"schema": schemas.of(route.request)}}}
    problem = {"description": "An error.", "content": {CONTENT_TYPE: {"schema": schemas.of(ProblemDetails)}}}
    operation["responses"] |= {str(status): problem for status in sorted(statuses)}
    return operation


def _answer(route: Route, schemas: Schemas) -> dict[str, Any]:
    schema = schemas.of(route.answer)
    if route.stream is None:
        return {"description": "Done.", "content": {"application/json": {"schema": schema}}}
    # OpenAPI 3.1 has no word for the items of a stream.
    content = {route.stream.content_type: {"schema": schema}}
    return {"description": "A stream; the schema is one item's.", "content": content}


def _parameter(param: Param, schemas: Schemas) -> dict[str, Any]:
    schema = schemas.of(param.type)
    if param.many:
        schema = {"type": "array", "items": schema}
    return {"name": param.name, "in": param.place, "description": param.summary, "schema": schema}
