"""Whatever lies at the path, reading it ends, with text or with a reason (claims F109 and F110)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from duende.config.files import FILE_MAX_BYTES
from duende.config.load import load_stack
from duende.errors import ConfigurationError


def reason_of(path: Path | str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_stack(path)
    (problem,) = caught.value.problems
    assert problem.file
    return str(problem)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert "does not exist" in reason_of(tmp_path / "duende.toml")


def test_a_directory_is_told(tmp_path: Path) -> None:
    assert "is a directory" in reason_of(tmp_path)


def test_a_symlink_loop_is_told_and_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "a.toml").symlink_to("b.toml")
    (tmp_path / "b.toml").symlink_to("a.toml")
    assert "loop of symbolic links" in reason_of(tmp_path / "a.toml")


def test_a_path_longer_than_the_system_allows_is_told(tmp_path: Path) -> None:
    assert "ENAMETOOLONG" in reason_of(tmp_path / ("x/" * 3000 + "duende.toml"))
    assert "ENAMETOOLONG" in reason_of(tmp_path / ("x" * 300))


def test_a_fifo_is_told_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "duende.toml")
    assert "is a FIFO, not a regular file" in reason_of(tmp_path / "duende.toml")


def test_a_socket_and_a_device_are_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert "not a regular file" in reason_of(tmp_path / "s")
    assert "not a regular file" in reason_of("/dev/zero")


def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "duende.toml"
    path.touch(mode=0)
    ourselves = os.geteuid()
    if ourselves == 0:
        os.seteuid(65534)  # root may read everything
    try:
        assert "permission denied" in reason_of(path)
    finally:
        os.seteuid(ourselves)


def test_bytes_that_are_not_utf8_are_told_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "duende.toml").write_bytes(b"# fine\n# also\nname = '\xff'\n")
    text = reason_of(tmp_path / "duende.toml")
    assert "duende.toml:3: is not UTF-8: byte 0xff at offset 22" in text


def test_a_huge_file_is_told(tmp_path: Path) -> None:
    with (tmp_path / "duende.toml").open("wb") as file:
        file.truncate(FILE_MAX_BYTES + 1)
    assert "larger than 16 MiB" in reason_of(tmp_path / "duende.toml")


def test_a_nul_in_the_path_is_told() -> None:
    assert "null byte" in reason_of("a\0b")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "duende.toml").write_bytes(b"\xef\xbb\xbf[daemon.a]\ncommand = 'x'\n")
    assert list(load_stack(tmp_path / "duende.toml").daemons) == ["a"]


@pytest.mark.parametrize(
    ("text", "line"), [("a = \n", 1), ("a = 1\nb = [1\n", 2), ("a = 1\na = 2\n", 2), ("x = '''\n\n", 1)]
)
def test_invalid_toml_is_told_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "duende.toml").write_text(text)
    assert f"duende.toml:{line}: is not valid TOML" in reason_of(tmp_path / "duende.toml")


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "[" * 5000 + "]" * 5000, f"a = {'9' * 5000}"])
def test_toml_beyond_the_parser_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "duende.toml").write_text(text)
    assert reason_of(tmp_path / "duende.toml")
