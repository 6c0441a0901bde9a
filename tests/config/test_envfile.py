"""Env files: every quoting, every error with its line, and no value in any message."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duende.config.envfile import parse_env_file
from duende.config.load import load_text
from duende.errors import ConfigurationError


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"), ("export A=1", "1"), ("A=", ""), ("A=a b  ", "a b"), ("A=a # c", "a"), ("A=a#b", "a#b"),
        ("A='x # $y \\n'", "x # $y \\n"), ('A="x\\n\\"y\\" \\$Z # q" # c', 'x\n"y" $Z # q'), ("A=b=c", "b=c"),
        ("A= 'x'", "x"), ("A=$HOME", "$HOME"), ('A="\\q"', "\\q"), ("  A=1", "1"), ("A=\u2028x", "x"), ("A=# c", ""),
    ],
)  # fmt: skip
def test_values_are_read(line: str, value: str) -> None:
    assert parse_env_file(line) == ({"A": value}, [])


def test_the_last_line_wins_and_comments_are_skipped() -> None:
    assert parse_env_file("# c\n\nA=1\r\nA=2\n")[0] == {"A": "2"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("secret", "no `=`"), ("A B=secret", "not a variable's name"), ("A='secret", "never closed"),
        ('A="secret', "never closed"), ("A='x' secret", "after the closing quote"),
        ("=secret", "not a variable's name"),
        ("1A=secret", "not a variable's name"),
        ("A=secret\0", "NUL"), ('A="secret\\', "never closed"),
    ],
)  # fmt: skip
def test_errors_name_the_line_and_never_the_value(line: str, reason: str) -> None:
    values, problems = parse_env_file(f"OK=1\n{line}\n", file="x.env")
    assert values == {"OK": "1"}
    assert len(problems) == 1
    assert str(problems[0]).startswith("x.env:2: ")
    assert reason in str(problems[0])
    assert "secret" not in str(problems[0]) or line == "secret"


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    values, problems = parse_env_file(text)
    assert len(values) + len(problems) <= text.count("\n") + 1


def test_env_files_lie_below_env_and_may_be_optional(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("A=file\nB=file\n")
    (tmp_path / "b.env").write_text("B=second\n")
    text = "[daemon.x]\ncommand='c'\nenv_file=['a.env', '-gone.env', 'b.env']\nenv={A='table'}"
    config = load_text(text, directory=tmp_path, environ={}).daemons["x"]
    assert config.env == {"A": "table", "B": "second"}


def test_a_missing_env_file_is_an_error_with_the_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text("[daemon.x]\ncommand='c'\nenv_file='gone.env'", label="d.toml", directory=tmp_path, environ={})
    assert str(caught.value).startswith("d.toml:3: daemon.x.env_file: ")
    assert "gone.env does not exist" in str(caught.value)


def test_an_optional_env_file_that_is_broken_is_still_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("A=1\nbroken\n")
    with pytest.raises(ConfigurationError, match=r"a\.env:2: is not KEY=VALUE"):
        load_text("[daemon.x]\ncommand='c'\nenv_file='-a.env'", directory=tmp_path, environ={})
