"""`duende ps`: the processes of the daemons."""

from __future__ import annotations

import argparse

from duende.cli import exits
from duende.cli.options import ask, parse, verb_parser
from duende.cli.output import Paint, duration_text, size_text, table, write, write_json
from duende.cli.status import with_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from duende.api.client import Client

__all__ = ["main", "parser"]

_COMMAND_MAX_CHARS = 200  # a Java command line can have 20 KiB; --json has it whole


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "ps",
        "Show every process of the daemons, their children included.",
        """
        ps              of all daemons
        ps web --json
        """,
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="names or globs; default: all")
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)

    def question(client: Client) -> Any:
        return client.get(with_names("/v1/ps", options.names))

    answer = ask(options, question)
    if options.json:
        write_json(answer)
        return exits.OK
    rows = [
        [
            process["name"],
            str(process["pid"]),
            str(process["ppid"]),
            process["state"],
            size_text(process["rss_bytes"]),
            duration_text(process["cpu_s"]),
            process["command"][:_COMMAND_MAX_CHARS],
        ]
        for process in answer["processes"]
    ]
    write(table(("NAME", "PID", "PPID", "STATE", "MEMORY", "CPU", "COMMAND"), rows, Paint(no_color=options.no_color)))
    return exits.OK
