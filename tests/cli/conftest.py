"""A served fake manager for stack `shop`, and the command line run against it in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from duende.cli.main import main
from tests.api.fake import Served, served


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, private runtime and state directories, and no settings of whoever runs the tests."""
    for name in ("DUENDE_STACK", "DUENDE_CONFIG", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DUENDE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("DUENDE_STATE_DIR", str(tmp_path / "state"))
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line; argparse's SystemExit counts as the exit code that it becomes."""

    def run(*argv: str) -> Ran:
        capsys.readouterr()
        try:
            code = main(list(argv))
        except SystemExit as error:
            code = int(str(error.code))
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def shop(home: Path, tmp_path: Path) -> Iterator[Served]:
    """A manager of stack `shop` runs, and its file is here."""
    (home / "duende.toml").write_text('[daemon.web]\ncommand = ["sleep", "1"]\n')
    directory = tmp_path / "run" / "shop"
    directory.mkdir(mode=0o700, parents=True)
    with served(tmp_path, str(directory / "duende.sock")) as here:
        yield here
