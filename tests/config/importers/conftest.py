"""Import a file that is written for the test, and read the outcome back with duende's own loader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from duende.config.daemon import DaemonConfig, StackConfig
from duende.config.importers.convert import Imported, import_files
from duende.config.load import load_text

ENVIRON = {"HOME": "/home/ann", "USER": "ann", "PATH": "/bin", "PORT": "9000", "XDG_RUNTIME_DIR": "/run/user/5"}


@dataclass(frozen=True)
class Outcome:
    """What came of an import, and the stack that duende makes of it."""

    made: Imported
    stack: StackConfig

    def __getitem__(self, name: str) -> DaemonConfig:
        return self.stack.daemons[name]

    @property
    def only(self) -> DaemonConfig:
        (daemon,) = self.stack.daemons.values()
        return daemon

    @property
    def dropped(self) -> list[tuple[int, str]]:
        """Line and key of everything that is lost."""
        return [(problem.line, problem.key) for problem in self.made.dropped]

    @property
    def said(self) -> str:
        return "\n".join(map(str, [*self.made.dropped, *self.made.notes]))


Bring = Callable[..., Outcome]


@pytest.fixture
def bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bring:
    """`bring(name, text, **beside)`: import one file; `beside` are further files, by path."""

    def bring(name: str, text: str, beside: Mapping[str, str] | None = None, *, also: tuple[str, ...] = ()) -> Outcome:
        monkeypatch.chdir(tmp_path)
        for path, content in {name: text, **(beside or {})}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(content)
        made = import_files([name, *also])
        return Outcome(made, load_text(made.text, directory=tmp_path, environ=ENVIRON))

    return bring
