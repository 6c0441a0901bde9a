"""What all verbs share: global options, which stack is meant, and how its manager is reached."""

from __future__ import annotations

import argparse
import os

from duende.api.client import Client, NoManager
from duende.api.presence import Presence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from duende.config.paths import StackPaths

__all__ = ["Stack", "ask", "duration_s", "parse", "verb_parser"]


class _Format(argparse.HelpFormatter):
    """argparse's own asks shutil for the width, at every argument, and shutil is slow to import."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=min(_terminal_columns(), 110) - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)


def _terminal_columns() -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size().columns or 80
    except OSError:
        return 80  # not a terminal


def verb_parser(verb: str, summary: str, examples: str, *, usage: str | None = None) -> argparse.ArgumentParser:
    """A parser with the global options; `examples` are lines `command   what it does`."""
    lines = [f"  duende {line.strip()}" for line in examples.strip().splitlines()]
    parser = argparse.ArgumentParser(
        prog=f"duende {verb}",
        usage=usage,
        description=summary,
        epilog="\n".join(["examples:", *lines]),
        formatter_class=_Format,
        allow_abbrev=False,
    )
    shared = parser.add_argument_group("global options")
    shared.add_argument("-c", "--config", metavar="FILE", help="the stack's file")
    shared.add_argument("-s", "--stack", metavar="STACK", help="the stack by its name")
    shared.add_argument("--json", action="store_true", help="print JSON")
    shared.add_argument("--no-color", action="store_true", help="no colours")
    return parser


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse; options may stand between names, as in `stop a --json b`."""
    return parser.parse_intermixed_args(list(argv))


def duration_s(text: str) -> float:
    """An argparse type: `30s`, `1m30s`, `500ms`, or a plain number of seconds."""
    from duende.config.units import parse_duration  # here: a regular expression to compile

    try:
        return parse_duration(float(text) if text.replace(".", "", 1).isdigit() else text)
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration like 30s or 1m30s: {error}") from None


class Stack:
    """The stack that a command line means, and its file where that matters."""

    def __init__(self, name: str, config: str | None, paths: StackPaths) -> None:
        self.name = name
        self.config = config  # None when the stack was named
        self.paths = paths
        self.socket_path = paths.socket
        self.presence = Presence(paths)

    @classmethod
    def of(cls, options: argparse.Namespace) -> Stack:
        """By -s, else -c, else DUENDE_STACK, else the file found from here upwards, else ConfigurationError."""
        from duende.config.paths import find_config, stack_name_of, stack_paths

        config: str | None = os.path.abspath(options.config) if options.config else None
        name = options.stack or ("" if config else os.environ.get("DUENDE_STACK", ""))
        if not name:
            config = config or find_config()
            name = stack_name_of(config)
        return cls(name, config, stack_paths(name))

    @property
    def hasty_client(self) -> Client:
        """A client that does not wait for a manager that is only coming."""
        return Client(self.socket_path, self.config)

    @property
    def client(self) -> Client:
        """A client of this stack's manager."""
        return Client(self.socket_path, self.config, self.presence)


def ask(options: argparse.Namespace, question: Callable[[Client], Any]) -> Any:
    """Put a question to the stack's manager; NoManager says which stack, what is left of it, and what to do."""
    stack = Stack.of(options)
    try:
        return question(stack.client)
    except NoManager as error:
        from duende.cli.absence import explained  # here: when all is well nobody needs it

        raise explained(stack, error) from None
