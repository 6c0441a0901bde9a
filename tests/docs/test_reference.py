"""The generated pages are what the code makes today, and the hand-written ones leave nothing public out."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest

import duende
from duende.api.routes import ROUTES
from duende.cli.main import VERBS
from tests.docs.pages import ROOT

REFERENCE = ROOT / "docs" / "reference"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("duende_reference_generator", ROOT / "tools" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = ["cli.md", "api.md", "configuration.md", "lifecycle.md", "exit-codes.md", "events.md"]


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_fresh(name: str) -> None:
    page = (REFERENCE / name).read_text(encoding="utf-8")
    assert page == _generator().pages()[name], "run: python tools/reference.py"


def test_the_command_line_page_has_every_verb_and_its_options() -> None:
    page = (REFERENCE / "cli.md").read_text()
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(VERBS)
    for option in ("--leave-daemons", "--since-seq SEQ", "--tree", "--follow", "--restart {never,on-failure,always"):
        assert option in page


def test_the_api_page_has_every_route() -> None:
    page = (REFERENCE / "api.md").read_text()
    found = re.findall(r"^### ((?:GET|POST) .*)$", page, re.MULTILINE)
    assert found == [f"{route.method} {route.path}" for route in ROUTES]


def test_the_python_page_has_every_public_name() -> None:
    page = (REFERENCE / "python.md").read_text()
    lost = [name for name in duende.__all__ if f"`{name}" not in page and f"`duende.{name}" not in page]
    assert not lost
