"""Where things are kept, and that nobody else can put theirs in our place."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duende.config.paths import (
    find_config,
    is_name,
    make_private,
    sanitized_name,
    stack_name_in,
    stack_name_of,
    stack_paths,
)
from duende.errors import ConfigurationError


def test_the_module_is_light() -> None:
    code = (
        "import sys, duende; before = set(sys.modules); import duende.config.paths; "
        "print(sorted(m for m in set(sys.modules) - before if not m.startswith('duende')))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert set(eval(out.stdout)) <= {"__future__"}


def test_our_own_variables_come_first(tmp_path: Path) -> None:
    env = {"DUENDE_RUNTIME_DIR": "/r", "DUENDE_STATE_DIR": "/s", "XDG_RUNTIME_DIR": "/x", "XDG_STATE_HOME": "/y"}
    paths = stack_paths("shop", env)
    assert (paths.socket, paths.lock) == ("/r/shop/duende.sock", "/r/shop/manager.lock")
    assert (paths.state_db, paths.log_dir) == ("/s/shop/state.db", "/s/shop/log")


def test_xdg_directories_are_used_when_absolute() -> None:
    paths = stack_paths("shop", {"XDG_RUNTIME_DIR": "/x", "XDG_STATE_HOME": "/y"})
    assert (paths.runtime_dir, paths.state_dir) == ("/x/duende/shop", "/y/duende/shop")
    relative = stack_paths("shop", {"XDG_RUNTIME_DIR": "x", "XDG_STATE_HOME": "y", "HOME": "/h"})
    assert "x/duende" not in relative.runtime_dir.replace(os.sep + "x", "")
    assert relative.state_dir.startswith("/")


@pytest.mark.parametrize(("uid", "runtime", "state"), [
    (0, "/run/duende/shop", "/var/lib/duende/shop"),
    (1000, "/tmp/duende-1000/shop", "/h/.local/state/duende/shop"),
])
def test_without_xdg_the_user_decides(monkeypatch: pytest.MonkeyPatch, uid: int, runtime: str, state: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    paths = stack_paths("shop", {"HOME": "/h"})
    assert (paths.runtime_dir, paths.state_dir) == (runtime, state)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-a", "x" * 64, "a b", "é", "."])
def test_a_bad_stack_name_is_refused(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(ConfigurationError, match="can't name a stack"):
        stack_paths(name, {})


def test_a_stack_name_that_is_only_too_long_says_how_long() -> None:
    with pytest.raises(ConfigurationError, match="64 characters, at most 63 are allowed"):
        stack_paths("x" * 64, {})


def test_a_socket_path_over_107_bytes_is_refused_and_107_is_not() -> None:
    room = 107 - len("/shop/keeper.sock")
    assert len(stack_paths("shop", {"DUENDE_RUNTIME_DIR": "/" + "r" * (room - 1)}).keeper_socket) == 107
    with pytest.raises(ConfigurationError, match="can have 107 bytes, this has 108"):
        stack_paths("shop", {"DUENDE_RUNTIME_DIR": "/" + "r" * room})


@given(st.text(max_size=80))
def test_every_text_has_a_valid_name_near_it(text: str) -> None:
    assert is_name(sanitized_name(text))
    assert not is_name(text) or sanitized_name(text) == text


def test_a_private_directory_is_made_with_all_above_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "duende" / "shop"
    make_private(str(path))
    make_private(str(path))  # again: accepted
    for made in (path, path.parent, path.parent.parent):
        assert made.stat().st_mode & 0o777 == 0o700


def test_a_private_directory_is_0700_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        make_private(str(tmp_path / "shop"))
    finally:
        os.umask(old)
    assert (tmp_path / "shop").stat().st_mode & 0o777 == 0o700


def test_a_symbolic_link_is_refused_also_one_step_above(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "shop").symlink_to("real")
    (tmp_path / "duende").symlink_to("real")
    for path in (tmp_path / "shop", tmp_path / "duende" / "shop"):
        with pytest.raises(ConfigurationError, match="is a symbolic link"):
            make_private(str(path))
    assert list((tmp_path / "real").iterdir()) == []


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
def test_a_directory_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop").chmod(mode)
    with pytest.raises(ConfigurationError, match=f"mode 0{mode:o}"):
        make_private(str(tmp_path / "shop"))


def test_a_world_writable_directory_above_needs_the_sticky_bit(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigurationError, match="no sticky bit"):
        make_private(str(tmp_path / "open" / "shop"))
    (tmp_path / "open").chmod(0o1777)
    make_private(str(tmp_path / "open" / "shop"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory away")
def test_a_foreign_owner_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir(mode=0o700)
    os.chown(tmp_path / "shop", 12345, -1)
    with pytest.raises(ConfigurationError, match="belongs to uid 12345"):
        make_private(str(tmp_path / "shop"))
    (tmp_path / "theirs").mkdir(mode=0o755)
    os.chown(tmp_path / "theirs", 12345, -1)
    with pytest.raises(ConfigurationError, match="neither to us nor to root"):
        make_private(str(tmp_path / "theirs" / "shop"))


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shop").touch()
    with pytest.raises(ConfigurationError, match="not a directory"):
        make_private(str(tmp_path / "shop"))


def test_the_configuration_is_found_here_or_above(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "duende.toml").touch()
    assert find_config(str(tmp_path / "a" / "b"), {}) == str(tmp_path / "duende.toml")
    (tmp_path / "a" / "duende.toml").touch()
    assert find_config(str(tmp_path / "a" / "b"), {}) == str(tmp_path / "a" / "duende.toml")
    assert find_config(str(tmp_path), {"DUENDE_CONFIG": "/x/y.toml"}) == "/x/y.toml"


def test_no_configuration_at_all_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    with pytest.raises(ConfigurationError, match=r"no duende\.toml here or in a folder above"):
        find_config(str(tmp_path), {})


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('[stack]\nname = "shop"\n', "shop"), ("[stack]\nname = 'shop' # c", "shop"), ("stack.name = 'shop'", "shop"),
        ("stack = { name = 'shop' }", "shop"), ('[daemon.a]\nname = "x"\n[stack]\n# c\nname="shop"#', "shop"),
        ("[daemon.a]\ncommand = 'x'", "folder"), ("", "folder"), ('["stack"]\nname = "shop"', "shop"),
        ('name = "web"\nbinary_path = "/x"', "web"), ('[daemon.a]\nx = """\n[stack]\nname = "no"\n"""', "folder"),
        ('[stack]\nname = "a\\u0062"', "ab"), ("[ stack ]\nname = 'shop'", "shop"), ("[stack", "folder"),
        ('[stack]\nname = "not valid"', "folder"), ('[daemon.a]\ny = [\n["stack"],\n]\n[stack]\nname = "q"', "q"),
        ('[stack]\n"name" = "shop"', "shop"), ("[stack]\nname = 5", "folder"), ("[[x]]\n[stack]\nname = 'q'", "q"),
    ],
)  # fmt: skip
def test_the_stack_name_is_peeked_as_the_parser_would_read_it(text: str, name: str) -> None:
    assert stack_name_in(text, "/some/folder") == name


_LINES = st.sampled_from([
    "[stack]", 'name = "a"', "name = 'b'", 'name = """c"""', "[daemon.x]", "", "# [stack]", "x = [", "]", "[x]",
    'name="d" # e', "y = '''", "'''", "stack = 1", "[stack.z]", "['stack']", '"name" = "f"', "nam = 1", 'name.g = "h"',
])


@given(st.lists(_LINES, max_size=6))
def test_peeking_never_disagrees_with_the_parser(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        document = tomllib.loads(text)
    except ValueError:
        return
    stack = document.get("stack")
    name = stack.get("name") if isinstance(stack, dict) else None
    name = document.get("name") if not isinstance(name, str) else name
    expected = name if isinstance(name, str) and is_name(name) else "folder"
    assert stack_name_in(text, "/some/folder") == expected


def test_a_stack_whose_file_cannot_be_read_is_called_like_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my shop"
    folder.mkdir()
    assert stack_name_of(folder / "duende.toml") == "my-shop"
    os.mkfifo(folder / "duende.toml")
    assert stack_name_of(folder / "duende.toml") == "my-shop"
