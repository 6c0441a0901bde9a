"""The graph of a stack, who starts after whom, drawn as text for other programs. Pure.

A node's `status` is None where no manager says how it stands. An arrow leads from what is waited for to who waits.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from duende.core.fleet import start_layers
from duende.model.condition import Condition

__all__ = ["Edge", "Node", "Row", "dot", "folded", "in_layers", "mermaid", "with_what_they_need"]


@dataclass(frozen=True, slots=True)
class Edge:
    """What is waited for; `met` is None where nobody knows."""

    name: str
    condition: str
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One daemon."""

    name: str
    after: tuple[Edge, ...] = ()
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Daemons that differ in nothing but their number, as one line of text."""

    step: int
    name: str
    statuses: Mapping[str, int]  # how many have each; empty where nobody knows
    after: tuple[str, ...]


def with_what_they_need(names: Collection[str], after: Mapping[str, Iterable[str]]) -> set[str]:
    """These, what they wait for, what that waits for, and so on."""
    found: set[str] = set()
    rest = list(names)
    while rest:
        name = rest.pop()
        if name not in found:
            found.add(name)
            rest.extend(after.get(name, ()))
    return found


def in_layers(nodes: Sequence[Node]) -> list[tuple[Node, ...]]:
    """The nodes by the step of the start that they could come in, if all else took no time; ValueError on a cycle."""
    by_name = {node.name: node for node in nodes}
    after = {
        node.name: {edge.name: Condition(edge.condition) for edge in node.after if edge.name in by_name}
        for node in nodes
    }
    return [tuple(by_name[name] for name in layer) for layer in start_layers(after)]


# --- for people


def folded(nodes: Sequence[Node]) -> list[Row]:
    """One row for each daemon in the order of the start, and one for all replicas that come after the same ones."""
    groups: dict[tuple[object, ...], list[Node]] = {}
    for step, layer in enumerate(in_layers(nodes), 1):
        for node in layer:
            base, number = _replica(node.name)
            after = tuple((edge.name, edge.condition) for edge in node.after)
            key = (step, base, after) if number else (step, node.name)
            groups.setdefault(key, []).append(node)
    return [_row(int(str(key[0])), group) for key, group in groups.items()]


def _row(step: int, group: Sequence[Node]) -> Row:
    statuses: dict[str, int] = {}
    for node in group:
        if node.status is not None:
            statuses[node.status] = statuses.get(node.status, 0) + 1
    return Row(step, _ranges([node.name for node in group])[0], statuses, _after_texts(group))


def _after_texts(group: Sequence[Node]) -> tuple[str, ...]:
    """What the group comes after. All replicas of one daemon under one condition are one text."""
    unmet = {edge.name for node in group for edge in node.after if edge.met is False}
    by_kind: dict[tuple[str, str, bool], list[str]] = {}
    for edge in group[0].after:
        base, number = _replica(edge.name)
        by_kind.setdefault((base if number else edge.name, edge.condition, edge.name in unmet), []).append(edge.name)
    return tuple(
        f"{name} ({condition}{', not yet' if is_unmet else ''})"
        for (_, condition, is_unmet), names in by_kind.items()
        for name in _ranges(names)
    )


_REPLICA = re.compile(r"(.+)\.([1-9]\d*)")


def _replica(name: str) -> tuple[str, int]:
    """`web.3` is the third of web; 0 where a name has no number."""
    match = _REPLICA.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, 0)


def _ranges(names: Sequence[str]) -> list[str]:
    """`web.1`, `web.2`, `web.4` as one text, `web.1-2,4`; names without a number as they are."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        base, number = _replica(name)
        numbers.setdefault(base, []).append(number)
    return [f"{base}.{_spans(sorted(found))}" if found[0] else base for base, found in numbers.items()]


def _spans(numbers: Sequence[int]) -> str:
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in spans)


# --- for programs that draw

# Fill colours of the statuses: those of the command line, light enough for black text.
_COLORS = {
    "created": "#eeeeee", "starting": "#cfe8ff", "running": "#d6f5d6", "paused": "#e8dcf5", "stopping": "#cfe8ff",
    "stopped": "#e0e0e0", "backoff": "#fff2b3", "failed": "#ffc9c9",
}  # fmt: skip


def mermaid(nodes: Sequence[Node]) -> str:
    """A flowchart for Mermaid (https://mermaid.js.org/syntax/flowchart.html). Nodes have numbers for ids, since a name
    such as `end` would be a keyword.
    """
    ids = _ids(nodes)
    lines = ["flowchart LR"]
    lines += [f'    {ids[node.name]}["{_label(node, "<br/>")}"]{_class(node)}' for node in nodes]
    for node in nodes:
        for edge in node.after:
            if edge.name in ids:
                arrow = "-.->" if edge.met is False else "-->"
                lines.append(f"    {ids[edge.name]} {arrow}|{edge.condition}| {ids[node.name]}")
    used = dict.fromkeys(node.status for node in nodes if node.status in _COLORS)
    lines += [f"    classDef {status} fill:{_COLORS[status]},color:#000" for status in used if status]
    return "\n".join(lines)


def dot(nodes: Sequence[Node], title: str) -> str:
    """A digraph for Graphviz (https://graphviz.org/doc/info/lang.html)."""
    known = {node.name for node in nodes}
    lines = [f"digraph {_quoted(title)} {{", "    rankdir=LR;", "    node [shape=box];"]
    for node in nodes:
        fill = f', style=filled, fillcolor="{_COLORS[node.status]}"' if node.status in _COLORS else ""
        lines.append(f'    {_quoted(node.name)} [label="{_label(node, chr(92) + "n")}"{fill}];')
    for node in nodes:
        for edge in node.after:
            if edge.name in known:
                style = ", style=dashed" if edge.met is False else ""
                lines.append(f'    {_quoted(edge.name)} -> {_quoted(node.name)} [label="{edge.condition}"{style}];')
    return "\n".join([*lines, "}"])


def _ids(nodes: Sequence[Node]) -> dict[str, str]:
    return {node.name: f"d{number}" for number, node in enumerate(nodes, 1)}


def _class(node: Node) -> str:
    return f":::{node.status}" if node.status in _COLORS else ""


def _label(node: Node, line_break: str) -> str:
    """Names and statuses have no character that either language would have to have escaped."""
    return node.name if node.status is None else f"{node.name}{line_break}{node.status}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
