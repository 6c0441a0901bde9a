"""The OpenAPI document: valid, complete, and true of what the server answers."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from duende.api.client import Client
from duende.api.openapi import document
from duende.api.routes import ROUTES
from duende.api.schema import problems_in
from duende.api.types import ProblemDetails, StackStatus
from tests.api.fake import Served, daemon_status


def answer_schema(path: str, method: str = "get", status: str = "200") -> dict[str, Any]:
    described = document()
    (content,) = described["paths"][path][method]["responses"][status]["content"].values()
    return {**content["schema"], "components": described["components"]}


def test_it_is_valid_openapi() -> None:
    import openapi_spec_validator  # takes longer to import than all other tests of this file take to run

    openapi_spec_validator.validate(document())


def test_it_has_every_route_and_nothing_else() -> None:
    described = {(method.upper(), path) for path, methods in document()["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for methods in document()["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)


def test_it_is_served(api: Served) -> None:
    assert Client(api.path).get("/v1/openapi.json") == document()


@pytest.mark.parametrize("path", ["/v1/status", "/v1/ps", "/v1/version"])
def test_answers_are_as_described(api: Served, path: str) -> None:
    jsonschema.validate(Client(api.path).get(path), answer_schema(path))


def test_a_status_with_everything_is_as_described(api: Served) -> None:
    exit_info = {"reason": "error", "message": "exited with code 1", "code": 1, "signal": None, "at_s": 1.5}
    health = {"healthy": False, "latency_ms": 1.0, "reason": "no"}
    api.manager.daemons["web"] = daemon_status("web", "backoff", exit=exit_info, health=health, next_start_s=4)
    answer = Client(api.path).get("/v1/status")
    jsonschema.validate(answer, answer_schema("/v1/status"))
    assert problems_in(StackStatus, answer) == []
    answer["daemons"][1]["status"] = "confused"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(answer, answer_schema("/v1/status"))


def test_operations_are_as_described(api: Served) -> None:
    answer = Client(api.path).post("/v1/stop", {"names": ["*"]})
    jsonschema.validate(answer, answer_schema("/v1/stop", "post"))


def test_schema_and_check_agree_on_what_is_wrong() -> None:
    schema = answer_schema("/v1/stop", "post", "422")
    good: dict[str, Any] = {"type": "x", "title": "x", "status": 1, "detail": "", "kind": "k"}
    for value in (good, {**good, "status": "1"}, {**good, "problems": [1]}, {"type": "x"}, []):
        try:
            jsonschema.validate(value, schema)
            is_valid = True
        except jsonschema.ValidationError:
            is_valid = False
        assert is_valid == (problems_in(ProblemDetails, value) == []), value
