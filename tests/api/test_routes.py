"""Every route over a real socket, through our own client."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from duende.api.client import ApiError, Client
from duende.api.routes import ROUTES
from duende.api.schema import problems_in
from duende.api.types import Chains, Explanation, Graph
from duende.errors import (
    AlreadyRunning,
    ConfigurationError,
    NotSupported,
    OperationTimeout,
    PermissionDenied,
    Problem,
    SpawnFailed,
)
from tests.api.fake import Refusal, Served


@pytest.fixture
def client(api: Served) -> Client:
    return Client(api.path)


def events_of(client: Client, path: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in client.stream(path) if line.startswith(b"data: ")]


def test_status_of_all_and_of_some(client: Client) -> None:
    everything = client.get("/v1/status")["daemons"]
    assert [daemon["name"] for daemon in everything] == ["cache", "web", "worker.1", "worker.2"]
    found = client.get("/v1/status?name=worker.*&name=cache")["daemons"]
    assert [daemon["name"] for daemon in found] == ["cache", "worker.1", "worker.2"]


def test_client_learns_the_managers_process_id(client: Client) -> None:
    assert client.manager_pid == 0
    assert client.get("/v1/version")["pid"] == client.manager_pid != 0


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_operations_pass_names_and_waiting_on(api: Served, client: Client, verb: str) -> None:
    answer = client.post(f"/v1/{verb}", {"names": ["worker.*"], "wait": False, "timeout_s": 2})
    assert api.manager.calls == [(verb, ["worker.1", "worker.2"], {"wait": False, "timeout_s": 2})]
    assert answer["ok"] is True
    assert [result["name"] for result in answer["results"]] == ["worker.1", "worker.2"]


def test_start_without_names_leaves_the_choice_to_the_manager(api: Served, client: Client) -> None:
    client.post("/v1/start", {})
    assert api.manager.calls == [("start", [], {"wait": True, "timeout_s": None})]


@pytest.mark.parametrize("verb", ["stop", "restart", "reload", "wait", "start"])
def test_an_empty_list_of_names_never_means_all(api: Served, client: Client, verb: str) -> None:
    with pytest.raises(ApiError, match="at least 1 item") as caught:
        client.post(f"/v1/{verb}", {"names": []})
    assert caught.value.status == 422
    assert api.manager.calls == []


def test_a_result_that_failed_is_seen_in_ok(api: Served, client: Client) -> None:
    api.manager.results["web"] = {"ok": False, "message": "no"}
    assert client.post("/v1/stop", {"names": ["*"]})["ok"] is False


@pytest.mark.parametrize(("given", "number"), [("HUP", 1), ("SIGUSR1", 10), (15, 15), ("9", 9)])
def test_signal_by_name_and_number(api: Served, client: Client, given: str | int, number: int) -> None:
    client.post("/v1/signal", {"names": ["web"], "signal": given, "tree": True})
    assert api.manager.calls == [("signal", ["web"], {"signal": number, "tree": True})]


def test_an_unknown_signal_is_refused(api: Served, client: Client) -> None:
    with pytest.raises(ApiError, match="unknown signal 'FOO'"):
        client.post("/v1/signal", {"names": ["web"], "signal": "FOO"})
    assert api.manager.calls == []


def test_reload_and_wait(api: Served, client: Client) -> None:
    client.post("/v1/reload", {"names": ["web"]})
    client.post("/v1/wait", {"names": ["web"], "until": "healthy", "timeout_s": 1.5})
    assert api.manager.calls == [
        ("reload", ["web"], {}),
        ("wait", ["web"], {"until": "healthy", "timeout_s": 1.5}),
    ]


def test_ps(client: Client) -> None:
    assert [process["command"] for process in client.get("/v1/ps?name=web")["processes"]] == ["run web"]


def test_exec_environment_takes_exactly_one_daemon(api: Served, client: Client) -> None:
    api.manager.environment = {"argv": ["x"], "env": {}, "cwd": "/", "user": None, "group": None, "umask": None}
    assert client.get("/v1/daemons/worker%2E1/exec-environment")["argv"] == ["x"]
    assert api.manager.calls == [("exec", "worker.1")]
    with pytest.raises(ApiError, match=r"names 2: worker\.1, worker\.2") as caught:
        client.get("/v1/daemons/worker%2E%2A/exec-environment")
    assert caught.value.kind == "ambiguous-name"


def test_explain_takes_exactly_one_daemon(api: Served, client: Client) -> None:
    assert client.get("/v1/daemons/worker%2E1/explain")["waits_for"][0]["name"] == "cache"
    assert api.manager.calls == [("explain", "worker.1")]
    for name, kind in (("worker%2E%2A", "ambiguous-name"), ("nope", "unknown-daemon")):
        with pytest.raises(ApiError) as caught:
            client.get(f"/v1/daemons/{name}/explain")
        assert caught.value.kind == kind


def test_graph_and_chains_pass_names_on(api: Served, client: Client) -> None:
    assert [node["name"] for node in client.get("/v1/graph?name=web")["daemons"]] == ["web"]
    assert client.get("/v1/chains?name=worker.*") == {"stack": "shop", "chains": []}
    client.get("/v1/graph")
    client.get("/v1/chains")
    assert api.manager.calls == [
        ("graph", ["web"]), ("chains", ["worker.1", "worker.2"]), ("graph", []), ("chains", []),
    ]  # fmt: skip


def test_answers_are_as_the_types_say(api: Served, client: Client) -> None:
    for path, answer in (("/v1/daemons/web/explain", Explanation), ("/v1/graph", Graph), ("/v1/chains", Chains)):
        assert problems_in(answer, client.get(path)) == []


def test_shutdown_answers_when_it_is_done(api: Served, client: Client) -> None:
    assert client.post("/v1/shutdown", {"stop_daemons": False})["pid"] == client.manager_pid
    assert api.manager.calls == [("shutdown", [], {"stop_daemons": False})]


def test_past_events_are_replayed_in_chunks(api: Served, client: Client) -> None:
    for _ in range(1200):
        api.do(api.manager.events.add, "web", "started")
    found = events_of(client, "/v1/events?follow=0&after=3")
    assert [event["seq"] for event in found] == list(range(4, 1201))
    assert max(api.manager.events.reads) <= 500


def test_events_of_one_daemon_and_only_the_last(api: Served, client: Client) -> None:
    for name in ("web", "cache", "web", "cache"):
        api.do(api.manager.events.add, name, "started")
    assert [event["seq"] for event in events_of(client, "/v1/events?follow=0&name=cache")] == [2, 4]
    assert [event["seq"] for event in events_of(client, "/v1/events?follow=0&last=1")] == [4]


def test_events_are_server_sent_with_ids(api: Served, client: Client) -> None:
    api.do(api.manager.events.add, "web", "started", "two\nlines")
    lines = list(client.stream("/v1/events?follow=0"))
    assert lines[:2] == [b"id: 1", b"event: started"]
    assert json.loads(lines[2].removeprefix(b"data: "))["message"] == "two\nlines"
    assert lines[3] == b""


def test_followed_events_come_as_they_happen(api: Served, client: Client) -> None:
    api.do(api.manager.events.add, "web", "started")
    stream = (line for line in client.stream("/v1/events") if line.startswith(b"id: "))
    assert next(stream) == b"id: 1"
    api.do(api.manager.events.add, "web", "ready")
    assert next(stream) == b"id: 2"
    stream.close()


def test_logs_are_json_lines_and_bytes_survive(api: Served, client: Client, tmp_path: Any) -> None:
    log = (
        b"2026-11-21T02:36:00.123456Z stdout F hello\n"
        b"2026-11-21T02:36:01.000000Z stderr F:3 bad \xff byte\n"
        b"2026-11-21T02:36:02.000000Z stdout F last\n"
    )
    (tmp_path / "web.log").write_bytes(log)
    records = [json.loads(line) for line in client.stream("/v1/logs?name=web") if line]
    assert [record.get("message") for record in records] == ["hello", None, "last"]
    first = {"time": "2026-11-21T02:36:00.123456Z", "daemon": "web", "stream": "stdout", "message": "hello"}
    assert records[0] == first
    assert records[1]["message_base64"] == "YmFkIP8gYnl0ZQ=="
    assert records[1]["priority"] == 3
    assert [json.loads(line)["message"] for line in client.stream("/v1/logs?name=web&lines=1") if line] == ["last"]
    stderr_only = [json.loads(line)["stream"] for line in client.stream("/v1/logs?name=web&stream=stderr") if line]
    assert stderr_only == ["stderr"]


def test_followed_logs_bring_what_is_appended(api: Served, client: Client, tmp_path: Any) -> None:
    path = tmp_path / "web.log"
    path.write_bytes(b"2026-11-21T02:36:00.123456Z stdout F one\n")
    stream = (json.loads(line)["message"] for line in client.stream("/v1/logs?name=web&follow=1") if line)
    assert next(stream) == "one"
    with path.open("ab") as file:
        file.write(b"2026-11-21T02:36:01.123456Z stdout F two\n2026-11-21T02:36:01.123456Z stdout F three\n")
    assert [next(stream), next(stream)] == ["two", "three"]
    stream.close()


def test_a_follower_comes_back_with_its_places(api: Served, client: Client, tmp_path: Any) -> None:
    path = tmp_path / "web.log"
    path.write_bytes(b"2026-11-21T02:36:00.123456Z stdout F one\n")
    stream = (json.loads(line) for line in client.stream("/v1/logs?name=web&follow=1&places=1") if line)
    places = next(stream)["places"]
    assert next(stream)["message"] == "one"
    places += next(stream)["places"]
    stream.close()
    newest = {place.partition(">")[0]: place for place in places}
    assert list(newest) == ["web", "web+stdout", "web+stderr"]
    with path.open("ab") as file:
        file.write(b"2026-11-21T02:36:01.123456Z stdout F two\n")
    asked = "".join(f"&from={quote(place)}" for place in newest.values())
    again = (json.loads(line) for line in client.stream(f"/v1/logs?name=web&follow=1{asked}") if line)
    assert next(again)["message"] == "two"
    again.close()
    with pytest.raises(ApiError) as caught:
        list(client.stream("/v1/logs?name=web&follow=1&from=here"))
    assert (caught.value.kind, str(caught.value)) == ("invalid-request", "from: 'here' is not a place in a log")


def test_many_log_lines_all_arrive(client: Client, tmp_path: Any) -> None:
    lines = b"".join(b"2026-11-21T02:36:00.123456Z stdout F %d\n" % n for n in range(5000))
    (tmp_path / "web.log").write_bytes(lines)
    arrived = [int(json.loads(line)["message"]) for line in client.stream("/v1/logs?name=web") if line]
    assert arrived == list(range(5000))


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (AlreadyRunning("it runs"), 409, "already-running"),
        (Refusal("not now"), 409, "refused-by-test"),
        (NotSupported("native", "freeze"), 501, "not-supported"),
        (OperationTimeout(3.0), 504, "timeout"),
        (PermissionDenied("no"), 403, "permission-denied"),
        (SpawnFailed("no such program"), 502, "platform"),
        (ConfigurationError([Problem("one"), Problem("two")]), 422, "configuration"),
        (ZeroDivisionError("oops"), 500, "internal-error"),
    ],
)
def test_every_error_becomes_a_problem(
    api: Served, client: Client, caplog: pytest.LogCaptureFixture, error: Exception, status: int, kind: str
) -> None:
    api.manager.raises = error
    with pytest.raises(ApiError) as caught:
        client.get("/v1/status")
    problem = caught.value.problem
    assert (problem["status"], problem["kind"]) == (status, kind)
    assert set(problem) >= {"type", "title", "status", "detail", "kind", "instance"}
    assert problem["instance"] == "/v1/status"
    assert bool(caplog.records) == (status == 500)  # only our own bugs go to the log, with the traceback


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/v2/status", 404), ("GET", "/v1/status/", 404), ("POST", "/v1/status", 405)],
)
def test_unknown_routes_and_methods(client: Client, method: str, path: str, status: int) -> None:
    with pytest.raises(ApiError) as caught:
        client.post(path, {}) if method == "POST" else client.get(path)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/status?nmae=x", "did you mean 'name'"),
        ("/v1/events?after=-1&follow=0", "after: expected a number that is not negative, found '-1'"),
        ("/v1/events?after=1&after=2", "after: given twice"),
        ("/v1/logs?since=inf", "since: expected a number"),
        ("/v1/logs?lines=%EF%BC%91", "lines: expected a number"),
        ("/v1/logs?stream=stdin", "stream: expected stdout or stderr, found 'stdin'"),
    ],
)
def test_bad_parameters_are_named(client: Client, path: str, said: str) -> None:
    with pytest.raises(ApiError) as caught:
        client.get(path)
    assert caught.value.status == 422
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"names": "web"}, "names: expected an array, found 'web'"),
        ({"names": ["web"], "wiat": True}, "wiat: unknown key (did you mean 'wait'?)"),
        ({"names": ["web"], "wait": 1}, "wait: expected true or false, found 1"),
        ({"names": [1]}, "names[0]: expected a string, found 1"),
        ({"names": ["web"], "timeout_s": -1}, "timeout_s: must be finite and not negative"),
        ({"names": ["web"], "timeout_s": True}, "timeout_s: expected a number or null, found True"),
        ({}, "names: missing"),
        ([], "the body: expected an object, found []"),
    ],
)
def test_bad_bodies_are_named(api: Served, client: Client, body: Any, said: str) -> None:
    with pytest.raises(ApiError) as caught:
        client.post("/v1/stop", body)
    assert caught.value.status == 422
    assert said in str(caught.value)
    assert api.manager.calls == []


def test_a_lone_surrogate_travels_as_its_escape(api: Served, client: Client) -> None:
    with pytest.raises(ApiError, match="\ud800: unknown key"):
        client.post("/v1/stop", {"names": ["web"], "\ud800": 1})
    api.do(api.manager.events.add, "web", "note", "\ud800 here")
    (event,) = events_of(client, "/v1/events?follow=0")
    assert event["message"] == "\ud800 here"


def test_every_route_has_a_summary_and_a_version() -> None:
    assert all(route.summary.endswith(".") and route.path.startswith("/v1/") for route in ROUTES)


def test_hooks_and_their_test(client: Client) -> None:
    (hook,) = client.get("/v1/hooks")["hooks"]
    assert (hook["name"], hook["undelivered"], hook["last_error"]["seq"]) == ("pager", 2, 9)
    assert client.post("/v1/hooks/pager/test", {}) == {"name": "pager", "ok": False, "message": "HTTP status 503"}
    with pytest.raises(ApiError, match="no hook 'nobody'") as caught:
        client.post("/v1/hooks/nobody/test", {})
    assert (caught.value.status, caught.value.kind) == (404, "unknown-hook")
