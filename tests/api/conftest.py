"""A served fake manager."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.fake import Served, served


@pytest.fixture
def socket_path(tmp_path: Path) -> str:
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    return str(directory / "duende.sock")


@pytest.fixture
def api(tmp_path: Path, socket_path: str) -> Iterator[Served]:
    with served(tmp_path, socket_path) as here:
        yield here
