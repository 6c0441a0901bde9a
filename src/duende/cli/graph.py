"""`duende graph`: who comes after whom, as text, Mermaid or Graphviz; and the critical chain of the last start."""

from __future__ import annotations

import argparse

from duende.api.client import NoManager
from duende.cli import exits
from duende.cli.options import Stack, ask, parse, verb_parser
from duende.cli.output import STATUS_COLORS, Paint, duration_text, printable, table, write, write_json
from duende.cli.status import with_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from duende.api.client import Client
    from duende.core.graph import Node, Row

__all__ = ["main", "parser"]

_LEGEND = """\
@ when it was ready, or as far as the one above needed it, since the first of the chain was asked for
+ how long that took from the moment when it no longer waited for others"""


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "graph",
        "Show who comes after whom, in the order of the start; with a manager, also how each stands. Without one it is "
        "read from the file. --chain shows what the last start was waiting for, as systemd-analyze critical-chain does "
        "(without names: of the start that took the longest).",
        """
        graph                          all daemons, one a line
        graph web                      web and what it needs
        graph --format dot | dot -Tsvg > stack.svg
        graph --chain web              what the last start of web was waiting for
        """,
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="names or globs; default: all")
    made.add_argument("--format", choices=("text", "mermaid", "dot"), default="text", help="default: text")
    made.add_argument("--chain", action="store_true", help="the critical chain of the last start, with times")
    made.add_argument("--from-file", action="store_true", help="as the file says now, whatever a manager has")
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    made = parser()
    options = parse(made, argv)
    if options.chain and (options.format != "text" or options.from_file):
        made.error("--chain comes from the manager, as text or --json: leave out --format and --from-file")
    if options.chain:
        return _show_chains(options)
    answer = _graph(options)
    if options.json:
        write_json(answer)
        return exits.OK
    from duende.core.graph import dot, folded, mermaid  # here: only who draws needs it

    nodes = _nodes(answer)
    if options.format == "mermaid":
        write(mermaid(nodes))
    elif options.format == "dot":
        write(dot(nodes, answer["stack"]))
    elif nodes:
        write(_table(folded(nodes), Paint(no_color=options.no_color)))
    else:
        write(f"stack {printable(answer['stack'])} has no daemons")
    return exits.OK


def _graph(options: argparse.Namespace) -> Any:
    if not options.from_file:
        stack = Stack.of(options)
        try:
            return stack.client.get(with_names("/v1/graph", options.names))
        except NoManager as error:
            if error.is_forbidden or stack.config is None:
                from duende.cli.absence import explained  # here: when all is well nobody needs it

                raise explained(stack, error) from None
    return _from_file(options)


def _from_file(options: argparse.Namespace) -> dict[str, Any]:
    """The same as the manager's answer, with null for what only a manager knows."""
    from duende.config.load import load_stack
    from duende.config.paths import find_config
    from duende.config.replicas import expand_replicas
    from duende.core.graph import with_what_they_need

    stack = expand_replicas(load_stack(options.config or find_config()))
    after = {name: config.after for name, config in stack.daemons.items()}
    names = _matching(options.names, list(after), stack.name)
    chosen = with_what_they_need(names, after) if options.names else set(after)
    daemons = [
        {
            "name": name, "status": None, "ready": None,
            "after": [
                {"name": other, "condition": condition.value, "met": None} for other, condition in waits_for.items()
            ],
        }
        for name, waits_for in after.items() if name in chosen
    ]  # fmt: skip
    return {"stack": stack.name, "daemons": daemons}


def _matching(patterns: list[str], names: list[str], stack: str) -> set[str]:
    """As the manager does it; UnknownDaemon for a pattern that matches nothing."""
    import fnmatch

    from duende.errors import UnknownDaemon

    found: set[str] = set()
    for pattern in patterns:
        hits = fnmatch.filter(names, pattern) or fnmatch.filter(names, f"{pattern}.[0-9]*")
        if not hits:
            raise UnknownDaemon(f"no daemon {pattern!r} in stack {stack!r}; it has: {', '.join(names) or 'no daemons'}")
        found.update(hits)
    return found


def _nodes(answer: Mapping[str, Any]) -> list[Node]:
    from duende.core.graph import Edge, Node

    return [
        Node(
            daemon["name"],
            tuple(Edge(edge["name"], edge["condition"], edge["met"]) for edge in daemon["after"]),
            daemon["status"],
        )
        for daemon in answer["daemons"]
    ]


def _table(rows: list[Row], paint: Paint) -> str:
    is_known = any(row.statuses for row in rows)
    head = ("NAME", "STATUS", "STEP", "AFTER") if is_known else ("NAME", "STEP", "AFTER")
    cells = []
    for row in rows:
        status = [_status_text(row)] if is_known else []
        cells.append([row.name, *status, str(row.step), ", ".join(row.after) or "-"])
    colors = [STATUS_COLORS.get(next(iter(row.statuses)), "") if len(row.statuses) == 1 else "" for row in rows]
    return table(head, cells, paint, colors if is_known else ())


def _status_text(row: Row) -> str:
    if sum(row.statuses.values()) == 1:
        return next(iter(row.statuses))
    return ", ".join(f"{count} {status}" for status, count in row.statuses.items())


# --- the critical chain


def _show_chains(options: argparse.Namespace) -> int:
    def question(client: Client) -> Any:
        return client.get(with_names("/v1/chains", options.names))

    answer = ask(options, question)
    if options.json:
        write_json(answer)
        return exits.OK
    paint = Paint(no_color=options.no_color)
    if not answer["chains"]:
        write("no start is on record" if options.names else "no start that came to readiness is on record")
    else:
        write(_LEGEND)
    for links in answer["chains"]:
        write("\n".join(["", *_chain_lines(links, paint)]))
    return exits.OK


def _chain_lines(links: list[dict[str, Any]], paint: Paint) -> Iterator[str]:
    yield f"the first was asked for at {_clock_text(links[0]['zero_unix_s'])}"
    for depth, link in enumerate(links):
        branch = "  " * (depth - 1) + "└─" if depth else ""
        needed = f" ({links[depth - 1]['condition']})" if depth and links[depth - 1]["condition"] else ""
        yield f"{branch}{paint(printable(link['name']), 'bold')}{needed} {_times(link)}"
    yield ""
    rows = [
        [
            link["name"],
            _span(link["asked_s"]),
            _span(link["dependencies_met_s"]),
            link["waited_for_last"] or "-",
            _span(link["executed_s"]),
            _span(link["ready_s"]),
        ]
        for link in links
    ]
    yield table(("NAME", "ASKED FOR", "DEPENDENCIES MET", "LAST ONE", "EXECUTED", "READY"), rows, paint)


def _times(link: dict[str, Any]) -> str:
    if not link["instance"]:
        return f"still waits for {', '.join(link['waits_for'])}"
    if link["reached_s"] is None:
        return f"never ready: {printable(link['outcome'])}" if link["outcome"] else "not ready yet"
    return f"@{_span(link['reached_s'])}" + (f" +{_span(link['took_s'])}" if link["took_s"] is not None else "")


def _span(seconds: float | None) -> str:
    """As systemd writes it, to the millisecond below a minute."""
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.3f}s" if seconds < 60 else duration_text(seconds)


def _clock_text(unix_s: float) -> str:
    import time  # built in: no file is read for it

    moment = time.gmtime(unix_s)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', moment)}.{int(unix_s * 1000) % 1000:03} UTC"
