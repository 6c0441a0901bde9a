"""`duende schema`: the JSON Schema of duende.toml, for editors."""

from __future__ import annotations

import argparse

from duende.cli import exits
from duende.cli.options import parse, verb_parser
from duende.cli.output import write_json

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    return verb_parser(
        "schema",
        "Print the JSON Schema (2020-12) of duende.toml. Editors complete and check with it: put "
        "`#:schema ./duende.schema.json` in the first line of the file.",
        """
        schema > duende.schema.json
        """,
    )


def main(argv: list[str]) -> int:
    """Run the verb."""
    parse(parser(), argv)
    from duende.config.publish import json_schema

    write_json(json_schema())
    return exits.OK
