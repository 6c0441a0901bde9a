"""`duende explain` and `duende graph --chain` with real processes: what they say is so, also under the next manager."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from typing import Any

from tests.harness import Stack


def explain(stack: Stack, name: str) -> dict[str, Any]:
    done = stack.run("explain", name, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = done.json
    return found


def chain(stack: Stack, *names: str) -> list[dict[str, Any]]:
    done = stack.run("graph", "--chain", *names, "--json")
    assert done.returncode == 0, done.stderr
    (links,) = done.json["chains"]
    found: list[dict[str, Any]] = links
    return found


def ready_after(seconds: float, name: str, *after: str) -> str:
    """A daemon that needs so long to be ready, which a file tells."""
    script = f"sleep {seconds}; touch {name}.up; exec sleep 1000"
    return (
        f'[daemon.{name}]\ncommand = ["sh", "-c", "{script}"]\n'
        f'ready = {{ exec = ["test", "-e", "{name}.up"], interval = "10ms" }}\nafter = {json.dumps(list(after))}\n'
    )  # fmt: skip


def three() -> str:
    return ready_after(0.6, "db") + ready_after(0.3, "api", "db", "cache") + ready_after(0.1, "web", "api") + (
        '[daemon.cache]\ncommand = ["sleep", "1000"]\n'
    )  # fmt: skip


def times(links: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(link["name"], link["took_s"]) for link in links]


def test_the_critical_chain_of_three_and_after_a_takeover(stack: Stack) -> None:
    stack.write(three())
    stack.up()
    links = chain(stack)
    assert [link["name"] for link in links] == ["web", "api", "db"]
    assert [link["waited_for_last"] for link in links] == ["api", "db", None]
    web, api, db = links
    assert db["took_s"] >= 0.6
    assert api["took_s"] >= 0.3
    assert web["took_s"] >= 0.1
    assert web["reached_s"] >= db["took_s"] + api["took_s"] + web["took_s"] - 0.01
    for link in links:
        assert link["asked_s"] <= (link["dependencies_met_s"] or 0.0) <= link["began_s"] + 0.001
        assert link["began_s"] <= link["executed_s"] <= link["ready_s"]
    assert abs(api["dependencies_met_s"] - db["reached_s"]) < 1e-6
    os.kill(stack.status()["manager"]["pid"], signal.SIGKILL)
    stack.up()
    assert chain(stack, "web") == links
    assert "└─api (ready) @" in stack.run("graph", "--chain", "web").stdout
    assert explain(stack, "web")["history"][0]["kind"] == "waiting"


def test_a_chain_keeps_the_incarnation_that_was_waited_for(stack: Stack) -> None:
    stack.write(three())
    stack.up()
    before = times(chain(stack, "web"))
    assert stack.run("restart", "db").returncode == 0
    assert times(chain(stack, "web")) == before
    (alone,) = chain(stack, "db")
    assert (alone["instance"], alone["cause"]) == (2, "Exited")


def test_one_that_waits_tells_of_the_failing_one_at_the_bottom(stack: Stack) -> None:
    stack.write(
        '[daemon.db]\ncommand = ["sh", "-c", "exit 3"]\nready = "notify"\n'
        'restart = { policy = "always", delay = "5m", jitter = 0.0 }\n'
        '[daemon.api]\ncommand = ["sleep", "1000"]\nafter = ["db"]\n'
        '[daemon.web]\ncommand = ["sleep", "1000"]\nafter = ["api"]\n'
    )
    stack.up("--no-wait")
    stack.until(lambda: stack.daemon("db")["status"] == "backoff", "the failure of db")
    found = explain(stack, "web")
    assert (found["status"], found["why"]) == ("created", "it waits for api (ready)")
    (api,) = found["waits_for"]
    (db,) = api["waits_for"]
    assert (db["name"], db["status"]) == ("db", "backoff")
    assert db["why"].startswith("exited with code 3; its restart policy (always)")
    (coming,) = [one for one in found["next"] if one["daemon"] == "db" and "started again (try 2" in one["what"]]
    assert 200 < coming["in_s"] <= 300
    assert [one["command"] for one in found["can_do"]] == ["duende logs db", "duende start db", "duende stop web"]
    still = chain(stack, "web")
    assert [(link["name"], link["instance"]) for link in still] == [("web", 0), ("api", 0), ("db", 1)]
    assert still[2]["outcome"] == "exited with code 3"
    graph = stack.run("graph").stdout.splitlines()
    assert [line.split()[:2] for line in graph[1:]] == [["db", "backoff"], ["api", "created"], ["web", "created"]]
    assert "db (ready, not yet)" in graph[2]


def test_a_backoff_comes_when_it_was_foretold(stack: Stack) -> None:
    rules = 'policy = "always", max_retries = 1, jitter = 0.0'
    stack.write(
        f'[daemon.slow]\ncommand = ["sh", "-c", "exit 1"]\nrestart = {{ {rules}, delay = "5m" }}\n'
        f'[daemon.quick]\ncommand = ["sh", "-c", "exit 1"]\nrestart = {{ {rules}, delay = "400ms" }}\n'
    )
    stack.up("--no-wait")
    stack.until(lambda: stack.daemon("slow")["status"] == "backoff", "the first failure")
    first, second, *_ = explain(stack, "slow")["next"]
    assert (first["what"], 200 < first["in_s"] <= 300) == ("it is started again (try 2 of this row)", True)
    assert (second["what"], second["condition"]) == (
        "duende gives up on it (max retries)",
        "if it then fails again at once",
    )
    stack.until(lambda: stack.daemon("quick")["status"] == "failed", "the end of its retries")
    found = explain(stack, "quick")
    assert "1 restarts in a row" in found["why"]
    assert [one["because"] for one in found["history"] if one["status"] == "starting"] == [
        "a start was asked for", "the wait before the next try was over",
    ]  # fmt: skip
    told = [one for one in found["history"] if one["kind"] == "status"]
    ended, begun = ([one["time"] for one in told if one["status"] == status] for status in ("backoff", "starting"))
    waited = datetime.fromisoformat(begun[1]) - datetime.fromisoformat(ended[0])
    assert waited >= timedelta(seconds=0.399)


def test_stopped_by_hand_and_being_stopped(stack: Stack) -> None:
    stack.write(
        '[daemon.deaf]\ncommand = ["sh", "-c", "trap \'\' TERM; echo up; while :; do sleep 0.1; done"]\n'
        'shutdown_timeout = "5m"\n[daemon.plain]\ncommand = ["sleep", "1000"]\n'
    )
    stack.up()
    stack.until(lambda: "up" in stack.log("deaf"), "its trap")
    assert explain(stack, "plain")["can_do"] == []
    assert stack.run("stop", "plain").returncode == 0
    found = explain(stack, "plain")
    assert found["why"].startswith("somebody has stopped it, and so it stays; its last end: stopped on request")
    assert found["next"][0]["what"].startswith("nothing: ")
    assert stack.run("stop", "deaf", "--no-wait").returncode == 0
    stack.until(lambda: stack.daemon("deaf")["status"] == "stopping", "the stop")
    found = explain(stack, "deaf")
    assert found["why"] == "somebody has asked for a stop; it has been asked by SIGTERM"
    assert found["next"][0]["what"].endswith("SIGKILL, to all of it")
    assert 200 < found["next"][0]["in_s"] <= 300
    (advice,) = found["can_do"]
    assert advice["command"] == "duende signal --tree KILL deaf"
    done = stack.run(*advice["command"].split()[1:])  # what it says one can do, can be done
    assert done.returncode == 0, done.stdout
    assert stack.run("wait", "deaf", "--for", "stopped").returncode == 0


def test_without_a_manager_the_graph_is_that_of_the_file(stack: Stack) -> None:
    stack.write(three())
    done = stack.run("graph", "web")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["NAME", "db", "cache", "api", "web"]
    assert stack.run("graph", "--chain").returncode == 69
    assert stack.run("explain", "web").returncode == 69


def test_the_runtime_is_not_imported_by_these_verbs(stack: Stack) -> None:
    """They are clients of the API, and quick."""
    stack.write(three())
    code = (
        "import sys; from duende.cli.main import main; main(['graph', '--from-file']); "
        "sys.exit(any(name.startswith('duende.runtime') for name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=stack.folder, env=stack.env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
