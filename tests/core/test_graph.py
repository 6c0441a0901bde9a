"""The graph of a stack: what is needed, the order, replicas as one line, and what other programs draw from it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duende.core.graph import Edge, Node, dot, folded, in_layers, mermaid, with_what_they_need


def node(name: str, *after: str, status: str | None = None, met: bool | None = None) -> Node:
    """`node("web", "db", "cache:started")`."""
    edges = tuple(Edge(one.partition(":")[0], one.partition(":")[2] or "ready", met) for one in after)
    return Node(name, edges, status)


THREE = [node("web", "api", "cache:started"), node("api", "db"), node("cache"), node("db")]


def test_a_name_brings_what_it_needs_and_no_more() -> None:
    after = {"web": ["api"], "api": ["db"], "other": ["db"], "db": []}
    assert with_what_they_need(["api"], after) == {"api", "db"}
    assert with_what_they_need([], after) == set()


def test_the_order_is_that_of_the_start() -> None:
    assert [[one.name for one in layer] for layer in in_layers(THREE)] == [["cache", "db"], ["api"], ["web"]]


def test_what_is_left_out_does_not_count_for_the_order() -> None:
    assert [[one.name for one in layer] for layer in in_layers([node("web", "api")])] == [["web"]]


def test_a_cycle_is_refused() -> None:
    with pytest.raises(ValueError, match="a cycle among a, b"):
        in_layers([node("a", "b"), node("b", "a")])


def test_a_row_says_step_and_what_it_comes_after() -> None:
    rows = [(row.step, row.name, row.after) for row in folded(THREE)]
    assert rows == [
        (1, "cache", ()), (1, "db", ()), (2, "api", ("db (ready)",)), (3, "web", ("api (ready)", "cache (started)")),
    ]  # fmt: skip


def test_replicas_that_come_after_the_same_are_one_row() -> None:
    workers = [node(f"worker.{n}", "db", status="running" if n < 4 else "backoff") for n in (1, 2, 3, 5, 12)]
    rows = folded([node("db", status="running"), *workers, node("web", *(one.name for one in workers))])
    assert [(row.name, dict(row.statuses)) for row in rows] == [
        ("db", {"running": 1}),
        ("worker.1-3,5,12", {"running": 3, "backoff": 2}),
        ("web", {}),
    ]
    assert rows[2].after == ("worker.1-3,5,12 (ready)",)


def test_replicas_that_differ_are_rows_of_their_own() -> None:
    rows = folded([node("db"), node("w.1", "db"), node("w.2", "db:started"), node("w.3")])
    assert [row.name for row in rows] == ["db", "w.3", "w.1", "w.2"]


def test_what_is_not_there_yet_is_marked() -> None:
    web = Node("web", (Edge("db.1", "ready", True), Edge("db.2", "ready", False), Edge("db.3", "ready", False)))
    assert folded([web])[0].after == ("db.1 (ready)", "db.2-3 (ready, not yet)")


def test_a_hundred_daemons_are_a_hundred_lines_at_most() -> None:
    many = [node(f"d{n}", *(f"d{other}" for other in range(max(0, n - 3), n))) for n in range(100)]
    assert len(folded(many)) == 100
    assert len(folded([node(f"d.{n}") for n in range(1, 101)])) == 1


@given(st.sets(st.integers(1, 60), min_size=1))
def test_the_numbers_of_a_folded_row_are_those_of_its_replicas(numbers: set[int]) -> None:
    (row,) = folded([node(f"w.{number}") for number in numbers])
    found: set[int] = set()
    for span in row.name.removeprefix("w.").split(","):
        first, _, last = span.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    assert found == numbers


# --- drawn by others


def test_mermaid() -> None:
    nodes = [node("db", status="running"), node("end", "db:completed", status="created", met=False), node("x-1.y")]
    assert mermaid(nodes).splitlines() == [
        "flowchart LR",
        '    d1["db<br/>running"]:::running',
        '    d2["end<br/>created"]:::created',
        '    d3["x-1.y"]',
        "    d1 -.->|completed| d2",
        "    classDef running fill:#d6f5d6,color:#000",
        "    classDef created fill:#eeeeee,color:#000",
    ]


def test_dot() -> None:
    nodes = [node("db", status="failed"), node("web", "db", "away", met=False)]
    assert dot(nodes, 'a "stack"').splitlines() == [
        'digraph "a \\"stack\\"" {',
        "    rankdir=LR;",
        "    node [shape=box];",
        '    "db" [label="db\\nfailed", style=filled, fillcolor="#ffc9c9"];',
        '    "web" [label="web"];',
        '    "db" -> "web" [label="ready", style=dashed];',
        "}",
    ]


def test_graphviz_reads_what_is_written() -> None:
    if shutil.which("dot") is None:
        pytest.skip("needs dot (python tools/provision.py installs it)")
    done = subprocess.run(["dot", "-Tjson"], input=dot(THREE, "t"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["edges"]) == 3
    assert {one["name"] for one in found["objects"]} == {"web", "api", "cache", "db"}


def test_no_id_of_mermaid_is_a_name() -> None:
    """A node of Mermaid's with an id such as `end` or `o1` breaks the whole picture."""
    ids = re.findall(r"^    (\w+)\[", mermaid([node("end"), node("class"), node("o1")]), re.MULTILINE)
    assert ids == ["d1", "d2", "d3"]
