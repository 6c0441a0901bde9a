"""Layers, types and style are tests like any other (STYLE 35)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .checks import CHECKS, ROOT


@pytest.mark.parametrize("check", CHECKS)
def test_the_tree_is_clean(check: str, lint: Callable[[str], tuple[int, str]]) -> None:
    code, said = lint(check)
    assert code == 0, f"{check}:\n{said}"


def test_files_are_small_enough_to_be_read() -> None:
    """A file over 500 lines is a design error (the rule of this project); tables and parsers stay under it too."""
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / "src").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert not long
