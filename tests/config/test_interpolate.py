"""`${VAR}` in strings: the three forms, escapes, and what is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duende.config.interpolate import expand_instance, interpolate

ENV = {"A": "1", "EMPTY": "", "TRICKY": "${A}$$"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${A}", "1"), ("x${A}y${A}", "x1y1"), ("${NO:-d}", "d"), ("${EMPTY:-d}", "d"), ("${A:-d}", "1"),
        ("${EMPTY}", ""), ("$$", "$"), ("$${A}", "${A}"), ("$A $1 $", "$A $1 $"), ("${NO:-${A}}", "1"),
        ("${NO:-}", ""), ("${A:-${NO}}", "1"), ("${TRICKY}", "${A}$$"), ("${A:?needed}", "1"), ("}{", "}{"),
        ("${NO:-a:b}", "a:b"),
    ],
)  # fmt: skip
def test_variables_are_replaced(text: str, result: str) -> None:
    assert interpolate(text, ENV) == result


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("${NO}", r"\$\{NO\} is not set.*\$\{NO:-default\}"), ("${NO:?say so}", "say so"), ("${EMPTY:?}", "required"),
        ("${A", "followed by"), ("${", "not followed by"), ("${1}", "not followed by"), ("${A-b}", "known forms"),
        ("${A:-x", "never closed"), ("${N:-" * 20, "nested"),
    ],
)  # fmt: skip
def test_what_cannot_be_replaced_says_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        interpolate(text, ENV)


def test_a_value_is_never_scanned_again() -> None:
    assert interpolate("${X}", {"X": "${X}"}) == "${X}"


@given(st.text(alphabet="${}:-?AB", max_size=20))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    try:
        result = interpolate(text, ENV)
    except ValueError:
        return
    assert "$" in text or result == text


def test_the_instance_number_replaces_its_placeholder() -> None:
    assert expand_instance("port-808{instance}", 3) == "port-8083"
    assert expand_instance("{{instance}} {instance} {other}", 2) == "{instance} 2 {other}"
