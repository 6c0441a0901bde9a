"""`duende version`: the versions of this program, of Python, and of the manager if one runs."""

from __future__ import annotations

import argparse
import sys

import duende
from duende.api.client import ApiError, ManagerSilent, NoManager
from duende.cli import exits
from duende.cli.options import Stack, parse, verb_parser
from duende.cli.output import write, write_json
from duende.errors import ConfigurationError

__all__ = ["main", "parser"]

_PATIENCE_S = 1.0  # the manager's version is a courtesy


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    return verb_parser(
        "version",
        "Print the versions of duende and Python, and of the stack's manager if one runs.",
        """
        version
        version --json
        """,
    )


def main(argv: list[str]) -> int:
    """Run the verb."""
    options = parse(parser(), argv)
    manager = _manager_version(options)
    python = ".".join(str(part) for part in sys.version_info[:3])
    if options.json:
        write_json({"version": duende.__version__, "python": python, "manager": manager})
        return exits.OK
    write(f"duende {duende.__version__} (Python {python})")
    if manager is not None and manager != duende.__version__:
        write(f"the manager that runs is {manager}; `duende down --leave-daemons; duende up -d` brings it up to date")
    return exits.OK


def _manager_version(options: argparse.Namespace) -> str | None:
    try:
        answer = Stack.of(options).hasty_client.get("/v1/version", timeout_s=_PATIENCE_S)
    except (NoManager, ManagerSilent, ApiError, ConfigurationError):
        return None  # no stack here, or no manager that answers: nothing to tell
    return str(answer["version"])
