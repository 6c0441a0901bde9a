"""`duende graph` and `duende explain`: against a served fake manager, and from the file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duende.cli import exits
from tests.api.fake import Served, daemon_status
from tests.cli.conftest import Run

STACK = """
[daemon.db]
command = ["sleep", "1"]
[daemon.worker]
command = ["sleep", "1"]
replicas = 3
after = ["db"]
[daemon.web]
command = ["sleep", "1"]
after = { worker = "started", db = "ready" }
"""


def link(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name, "instance": 1, "cause": "StartRequested", "waits_for": [], "waited_for_last": None,
        "condition": None, "zero_unix_s": 1_790_000_000.5, "asked_s": 0.0, "dependencies_met_s": None, "began_s": 0.0,
        "executed_s": 0.004, "ready_s": 1.0, "ended_s": None, "outcome": "", "reached_s": 1.0, "took_s": 1.0,
    } | changes  # fmt: skip


@pytest.fixture
def from_file(home: Path, run: Run) -> Run:
    (home / "duende.toml").write_text(STACK)
    return run


def test_without_a_manager_the_file_is_drawn(from_file: Run) -> None:
    ran = from_file("graph")
    assert ran == (
        exits.OK,
        "NAME        STEP  AFTER\n"
        "db          1     -\n"
        "worker.1-3  2     db (ready)\n"
        "web         3     worker.1-3 (started), db (ready)\n",
        "",
    )  # fmt: skip


def test_names_bring_what_they_need(from_file: Run) -> None:
    assert [line.split()[0] for line in from_file("graph", "worker.2").out.splitlines()[1:]] == ["db", "worker.2"]
    assert len(from_file("graph", "worker").out.splitlines()) == 3
    found = from_file("graph", "worker.1", "--json").json
    assert found["daemons"][1] == {
        "name": "worker.1", "status": None, "ready": None,
        "after": [{"name": "db", "condition": "ready", "met": None}],
    }  # fmt: skip
    ran = from_file("graph", "wbe")
    assert (ran.code, ran.out) == (exits.NO_SUCH_DAEMON, "")
    assert "no daemon 'wbe' in stack 'shop'; it has: db, worker.1" in ran.err


def test_other_formats(from_file: Run) -> None:
    assert from_file("graph", "--format", "mermaid").out.startswith('flowchart LR\n    d1["db"]\n')
    assert '"db" -> "web" [label="ready"];' in from_file("graph", "--format", "dot").out
    assert from_file("graph", "--format", "svg").code == exits.USAGE


def test_a_cycle_is_refused_and_printed(home: Path, run: Run) -> None:
    daemons = {"a": "b", "b": "c", "c": "a"}
    text = "".join(f'[daemon.{name}]\ncommand = ["true"]\nafter = ["{other}"]\n' for name, other in daemons.items())
    (home / "duende.toml").write_text(text)
    ran = run("graph")
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert "duende.toml:3: daemon.a.after: the daemons wait for each other: a -> b -> c -> a" in ran.err


def test_a_stack_without_daemons(home: Path, run: Run) -> None:
    (home / "duende.toml").write_text("")
    assert run("graph").out == "stack shop has no daemons\n"
    assert run("graph", "--format", "mermaid").out == "flowchart LR\n"


def test_with_a_manager_each_is_marked_with_its_status(run: Run, shop: Served) -> None:
    shop.manager.daemons["cache"] = daemon_status("cache", "backoff")
    assert run("graph").out == (
        "NAME        STATUS     STEP  AFTER\n"
        "cache       backoff    1     -\n"
        "web         running    2     cache (ready, not yet)\n"
        "worker.1-2  2 running  3     web (ready)\n"
    )  # fmt: skip
    assert "d1 -.->|ready| d2" in run("graph", "--format", "mermaid").out
    assert run("graph", "web", "--json").json["daemons"][0]["after"][0]["met"] is False
    assert shop.manager.calls == [("graph", []), ("graph", []), ("graph", ["web"])]


def test_the_file_can_be_asked_for_beside_a_manager(run: Run, shop: Served) -> None:
    assert run("graph", "--from-file").out == "NAME  STEP  AFTER\nweb   1     -\n"
    assert shop.manager.calls == []


def test_a_stack_that_is_only_named_and_has_no_manager(home: Path, run: Run) -> None:
    ran = run("-s", "away", "graph")
    assert (ran.code, ran.out) == (exits.NO_MANAGER, "")
    assert "no manager is running for stack away" in ran.err


def test_a_chain_is_shown_as_systemd_does(run: Run, shop: Served) -> None:
    shop.manager.chain = [
        [
            link("web", waited_for_last="api", condition="ready", dependencies_met_s=61.0, ready_s=62.5, took_s=1.5,
                 reached_s=62.5),
            link("api", waited_for_last="db", condition="completed", dependencies_met_s=0.7, reached_s=61.0,
                 took_s=60.3),
            link("db", reached_s=0.7, took_s=0.7),
        ]
    ]  # fmt: skip
    ran = run("graph", "--chain", "web")
    assert ran.code == exits.OK
    lines = ran.out.splitlines()
    assert lines[3:7] == [
        "the first was asked for at 2026-09-21 14:13:20.500 UTC",
        "web @1m02s +1.500s",
        "└─api (ready) @1m01s +1m00s",
        "  └─db (completed) @700ms +700ms",
    ]
    assert lines[8].split("  ")[0] == "NAME"
    assert lines[9].split() == ["web", "0ms", "1m01s", "api", "4ms", "1m02s"]
    assert run("graph", "--chain", "--json").json["chains"][0][2]["name"] == "db"
    assert shop.manager.calls == [("chains", ["web"]), ("chains", [])]


def test_chains_of_what_never_came_up(run: Run, shop: Served) -> None:
    assert run("graph", "--chain").out == "no start that came to readiness is on record\n"
    assert run("graph", "--chain", "web").out == "no start is on record\n"
    shop.manager.chain = [
        [
            link("web", instance=0, waits_for=["db", "cache"], reached_s=None),
            link("db", reached_s=None, ready_s=None, outcome="exited with code 3\x1b[2J"),
        ],
        [link("cache", reached_s=None, ready_s=None)],
    ]  # fmt: skip
    out = run("graph", "--chain", "web", "cache").out
    assert "web still waits for db, cache\n└─db never ready: exited with code 3\\x1b[2J\n" in out
    assert "cache not ready yet\n" in out


def test_a_chain_has_no_other_format(run: Run, shop: Served) -> None:
    for more in (["--format", "dot"], ["--from-file"]):
        ran = run("graph", "--chain", *more)
        assert ran.code == exits.USAGE
        assert "--chain comes from the manager" in ran.err
    assert shop.manager.calls == []


def test_explain(run: Run, shop: Served) -> None:
    assert run("explain", "web").out.splitlines() == [
        "web is created: it waits for cache (ready)",
        "",
        "what it waits for",
        "  cache (ready) is backoff: exited with code 3\\x1b[2J",
        "",
        "what led here",
        "  2026-11-21T02:36:00.000000Z  waiting: waits for cache (ready) (a start was asked for)",
        "",
        "what comes next",
        "           as soon as cache is ready: it is started",
        "  in 3.5s  cache: it is started again",
        "",
        "what you can do",
        "  duende logs cache  see what it wrote",
    ]
    assert run("explain", "web", "--json").json["can_do"][0]["command"] == "duende logs cache"
    assert shop.manager.calls == [("explain", "web"), ("explain", "web")]


def test_explain_takes_one_daemon(run: Run, shop: Served) -> None:
    assert run("explain", "nope").code == exits.NO_SUCH_DAEMON
    assert run("explain", "worker.*").code == exits.USAGE
    assert run("explain").code == exits.USAGE
    assert run("explain", "web", "cache").code == exits.USAGE
    assert shop.manager.calls == []
