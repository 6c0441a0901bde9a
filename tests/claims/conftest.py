"""What the tests of the claims share: the figure to record, and a manager inside this very process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from duende.testing.claims_plugin import claim_figure as claim_figure
from tests.claims.library import Library
from tests.harness import Stack


@pytest.fixture
def library(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """`async with library(toml) as manager:` is a DaemonManager of this process, ended with everything it started."""
    for name, value in stack.env.items():
        if name.startswith("DUENDE_"):
            monkeypatch.setenv(name, value)
    # DUENDE_* is not handed down to daemons; this is, and by it the stack finds what a test left behind.
    monkeypatch.setenv("CLAIM_ROOT", str(stack.root))
    return Library(stack).managing
