"""`duende claims`: run the tests of the claims, in a checkout, and report."""

from __future__ import annotations

import argparse

from duende.cli.options import verb_parser

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The command line of this verb, for completion and help; the report has its own options."""
    return verb_parser(
        "claims",
        "Run the tests that carry claims, in a checkout of duende, and print which hold.",
        """
        claims
        claims --json
        """,
    )


def main(argv: list[str]) -> int:
    """Run the verb."""
    if "-h" in argv or "--help" in argv:
        parser().print_help()
        return 0
    from duende.testing.claims import main as run_claims

    code: int = run_claims(argv)
    return code
