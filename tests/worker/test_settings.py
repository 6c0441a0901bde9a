"""Typed settings: what fits which type, and what is said where something does not."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, NotRequired, TypedDict

import pytest

import duende
from duende.errors import ConfigurationError
from duende.worker.convert import Converter
from duende.worker.settings import typed_settings, wants_reload

Port = NewType("Port", int)


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True)
class Pool:
    size: int = 4
    wait: dt.timedelta = dt.timedelta(seconds=1)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"a pool of {self.size} serves nobody")


class Extra(TypedDict):
    a: int
    b: NotRequired[str]


@dataclass
class Settings:
    url: str
    pool: Pool = field(default_factory=Pool)
    level: Level | None = None
    names: Sequence[str] = ()
    pools: Mapping[str, Pool] = field(default_factory=dict)
    kept: int = field(default=7, init=False)


class Typed(duende.Daemon):
    settings: Settings

    def run(self, ctx: duende.DaemonContext) -> None:
        """Nothing."""


def test_a_dataclass_is_made_from_a_table_with_everything_inside() -> None:
    raw = {"url": "x", "pool": {"size": 2, "wait": "500ms"}, "level": "HIGH", "names": ["a"], "pools": {"p": {}}}
    found = typed_settings(Typed, raw)
    assert found == Settings("x", Pool(2, dt.timedelta(milliseconds=500)), Level.HIGH, ("a",), {"p": Pool()})


def test_every_finding_is_told_with_its_key() -> None:
    raw = {"pol": {}, "pool": {"size": "2", "wait": "fast"}, "names": "a", "pools": {"p": {"size": 0}}, "level": 3}
    with pytest.raises(ConfigurationError) as caught:
        typed_settings(Typed, raw)
    assert [str(problem) for problem in caught.value.problems] == [
        "settings.pol: unknown key (did you mean `pool`?)",
        "settings.url: is missing (it is a string)",
        'settings.pool.size: expected an integer, found the string "2"',
        'settings.pool.wait: expected a duration: seconds, or text such as "500ms", found the string "fast"',
        'settings.names: expected a list, found the string "a"',
        "settings.pools.p: a pool of 0 serves nobody",
        "settings.level: expected one of 1, 2, found 3",
    ]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (int, 3, 3), (float, 3, 3.0), (bool, True, True), (str, "a", "a"), (Any, [1], [1]), (Port, 80, 80),
        (Path, "/a", Path("/a")), (dt.date, "2026-01-02", dt.date(2026, 1, 2)), (Annotated[int, "x"], 1, 1),
        (dt.datetime, dt.datetime(2026, 1, 2), dt.datetime(2026, 1, 2)), (dt.timedelta, 1.5, dt.timedelta(seconds=1.5)),
        (Literal["a", 1], 1, 1), (int | str, "a", "a"), (list[int], [1, 2], [1, 2]), (set[str], ["a", "a"], {"a"}),
        (tuple[int, str], [1, "a"], (1, "a")), (tuple[int, ...], [1, 2], (1, 2)), (frozenset[int], [1], frozenset({1})),
        (dict[str, int], {"a": 1}, {"a": 1}), (Extra, {"a": 1}, {"a": 1}), (Level, 1, Level.LOW),
        (Pool | int, {"size": 3}, Pool(3)), (str | None, None, None),
    ],
)  # fmt: skip
def test_what_fits(kind: Any, value: object, expected: object) -> None:
    converter = Converter()
    found = converter.convert(kind, value, ())
    assert (found, converter.findings) == (expected, [])
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (int, True, "expected an integer, found true"), (int, 1.0, "expected an integer, found 1.0"),
        (bool, 1, "expected true or false, found 1"), (float, "1", 'expected a number, found the string "1"'),
        (str, 1, "expected a string, found 1"), (Path, 1, "expected a path, found 1"),
        (Literal["a", 1], True, 'expected one of "a", 1, found true'), (int | str, [], "an integer or a string"),
        (int | None, "x", 'expected an integer, found the string "x"'), (tuple[int, str], [1], "expected a list of 2"),
        (Extra, {"b": "x"}, "is missing"), (Extra, [], "expected a table, found a list of 0"),
        (dict[str, int], 3, "expected a table, found 3"), (complex, 1, "the type complex can't be read from settings"),
        (Pool | int, {"size": "x"}, "expected an integer"), (set[Any], [[]], "unhashable"),
        (dt.date, "soon", "expected a date"), (dict[str, int], {"a": "x"}, "expected an integer"),
    ],
)  # fmt: skip
def test_what_does_not_fit(kind: Any, value: object, reason: str) -> None:
    converter = Converter()
    converter.convert(kind, value, ())
    assert len(converter.findings) == 1
    assert reason in converter.findings[0][1]


def test_a_class_without_a_declaration_gets_plain_settings() -> None:
    class Plain(duende.Daemon):
        def run(self, ctx: duende.DaemonContext) -> None:
            """Nothing."""

    class Own(Plain):
        settings: int = 3

    class Reloads(Plain):
        def reload(self, new: Any, old: Any) -> None:
            """Nothing."""

    class Below(Typed):
        pass

    assert typed_settings(Plain, {"a": 1}) == {"a": 1}
    assert typed_settings(Own, {"a": 1}) == {"a": 1}
    assert [wants_reload(one()) for one in (Plain, Own, Reloads, Typed, Below)] == [False, False, True, True, True]


def test_a_declaration_that_means_nothing_is_told() -> None:
    class Forgotten(duende.Daemon):
        settings: Level

        def run(self, ctx: duende.DaemonContext) -> None:
            """Nothing."""

    class Unknown(Forgotten):
        settings: Nowhere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigurationError, match=r"Forgotten\.settings: .*Level.* is neither a dataclass.*@dataclass"):
        typed_settings(Forgotten, {})
    with pytest.raises(ConfigurationError, match=r"'Nowhere' can't be understood: NameError"):
        typed_settings(Unknown, {})
