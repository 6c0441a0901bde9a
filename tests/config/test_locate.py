"""The locator finds every key that tomllib yields, on the line where it was written."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duende.config.locate import KeyPath, line_of, positions


def paths_of(value: Any, at: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key path of a parsed document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, item in items:
        yield (*at, part)
        yield from paths_of(item, (*at, part))


SAMPLE = '''\
# a comment with [brackets] and = signs
top = 1  # "not a key" = 2
"quoted.key" = 'literal # no comment'
a.b."c d" = { x = 1, y.z = [1, 2], "w" = { } }
long = """
[not.a.table]
x = 1 \\""" still inside
"""" # ends with four quotes

[ daemon . "web.1" ]
args = [
  "one", # ] not the end
  '[two]',
  [ { deep = true }, ],
]
raw = \'\'\'
key = 'x'
\'\'\'
"esc\\u00e9\\"" = 1979-05-27T07:32:00Z

[[jobs]]
name = "first"
[jobs.sub]
x = 1
[[jobs]]
name = "second"
[[jobs.tasks]]
t = 1
[[jobs.tasks]]
t = 2
'''


def test_each_key_of_a_crooked_document_is_on_its_line() -> None:
    lines = positions(SAMPLE)
    document = tomllib.loads(SAMPLE)
    assert set(paths_of(document)) <= set(lines)
    expected: dict[KeyPath, int] = {
        ("top",): 2, ("quoted.key",): 3, ("a",): 4, ("a", "b", "c d"): 4, ("a", "b", "c d", "y", "z", 1): 4,
        ("long",): 5, ("daemon",): 10, ("daemon", "web.1"): 10, ("daemon", "web.1", "args"): 11,
        ("daemon", "web.1", "args", 0): 12, ("daemon", "web.1", "args", 1): 13,
        ("daemon", "web.1", "args", 2, 0, "deep"): 14, ("daemon", "web.1", "raw"): 16, ("daemon", "web.1", 'escé"'): 19,
        ("jobs", 0, "name"): 22, ("jobs", 0, "sub", "x"): 24, ("jobs", 1): 25, ("jobs", 1, "name"): 26,
        ("jobs", 1, "tasks", 0, "t"): 28, ("jobs", 1, "tasks", 1): 29, ("jobs", 1, "tasks", 1, "t"): 30,
    }  # fmt: skip
    assert {path: lines.get(path) for path in expected} == expected


def test_windows_line_ends_do_not_matter() -> None:
    text = SAMPLE.replace("\n", "\r\n")
    assert set(paths_of(tomllib.loads(text))) <= set(positions(text))
    assert positions(text)[("jobs", 1, "tasks", 1, "t")] == 30


def test_an_unknown_path_has_the_line_of_the_table_around_it() -> None:
    lines = positions("a = 1\n[b]\nc = 2\n")
    assert line_of(lines, ("b", "nothing", 3)) == 2
    assert line_of(lines, ("nothing",)) == 0


# --- documents written by a machine that knows on which line it wrote each key

_KEYS = st.text(alphabet="ab-_1", min_size=1, max_size=4) | st.text(max_size=4).filter(
    lambda text: not any(0xD800 <= ord(char) <= 0xDFFF for char in text)
)
_SCALARS = st.one_of(
    st.integers(-5, 5).map(str),
    st.sampled_from(["true", "1.5", "1979-05-27", "07:32:00", "0x1F", "inf"]),
    st.sampled_from(['"x # [y] = {z}"', "'it \"is\" }'", '"a\\"b"', '""', "''"]),
    st.sampled_from(['"""\n[x]\ny = 1\n"""', "'''\na = 'b'\n'''", '"""a"""""', "''''''", '"""\\"""\\\n  """']),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda children: st.one_of(
        st.tuples(st.just("array"), st.lists(children, max_size=3), st.sampled_from([", ", ",\n  ", " # ] no\n, "])),
        st.tuples(st.just("table"), st.lists(st.tuples(_KEYS, children), max_size=3, unique_by=lambda item: item[0])),
    ),
    max_leaves=6,
)


def _quoted(key: str) -> str:
    if key and all(char.isascii() and (char.isalnum() or char in "-_") for char in key):
        return key
    if "'" not in key and key.isprintable():
        return f"'{key}'"
    return '"' + "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in key) + '"'


class Writer:
    """Writes TOML and notes the line of every key."""

    def __init__(self) -> None:
        self.text = ""
        self.lines: dict[KeyPath, int] = {}

    def line(self) -> int:
        return self.text.count("\n") + 1

    def value(self, value: Any, at: KeyPath) -> None:
        if isinstance(value, str):
            self.text += value
        elif value[0] == "array":
            self.text += "[ "
            for index, item in enumerate(value[1]):
                self.text += value[2] if index else ""
                self.lines[(*at, index)] = self.line()
                self.value(item, (*at, index))
            self.text += "\n]" if value[2] != ", " else "]"
        else:
            self.text += "{"
            for number, (key, item) in enumerate(value[1]):
                self.text += ", " if number else " "
                self.assignment(key, item, at)
            self.text += " }"

    def assignment(self, key: str, value: Any, at: KeyPath) -> None:
        self.lines[(*at, key)] = self.line()
        self.text += f"{_quoted(key)} = "
        self.value(value, (*at, key))

    def table(self, items: list[tuple[str, Any]], at: KeyPath) -> None:
        for key, value in items:
            self.assignment(key, value, at)
            self.text += "  # c = 1\n"


_ITEMS = st.lists(st.tuples(_KEYS, _VALUES), max_size=3, unique_by=lambda item: item[0])


@settings(max_examples=200)
@given(
    _ITEMS,
    st.lists(st.tuples(_KEYS, _ITEMS), max_size=2, unique_by=lambda item: item[0]),
    st.lists(_ITEMS, max_size=2),
)
def test_every_key_is_found_on_the_line_where_it_was_written(
    top: list[Any], tables: list[Any], array: list[Any]
) -> None:
    writer = Writer()
    writer.table(top, ())
    for name, items in tables:
        writer.lines[("T", name)] = writer.line()
        writer.text += f"[ T . {_quoted(name)} ] # [x]\n\n"
        writer.table(items, ("T", name))
    for index, items in enumerate(array):
        writer.lines[("A.", index)] = writer.line()
        writer.text += '[["A."]]\n'
        writer.table(items, ("A.", index))
    document = tomllib.loads(writer.text)
    lines = positions(writer.text)
    assert set(paths_of(document)) <= set(lines)
    assert {path: lines.get(path) for path in writer.lines} == writer.lines


@pytest.mark.parametrize("text", ["", "\n\n# only\n", "[a]", "a=[]", "a={}", "[a]#x", 'a=""', "x=1#y"])
def test_the_smallest_documents_are_scanned(text: str) -> None:
    assert set(paths_of(tomllib.loads(text))) <= set(positions(text))
