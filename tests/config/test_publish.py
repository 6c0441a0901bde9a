"""The JSON Schema and the reference say what the loader does."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duende.config.daemon import DaemonConfig
from duende.config.kinds import MISSING, Reader
from duende.config.load import load_text
from duende.config.publish import json_schema, reference_markdown
from duende.config.schema import DAEMON, SECTIONS, Section
from duende.errors import ConfigurationError

from . import test_load

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"


def loads(text: str, **environ: str) -> bool:
    try:
        load_text(text, environ=environ)
    except ConfigurationError:
        return False
    return True


def test_the_schema_is_a_valid_schema_and_json() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


_FIELDS = test_load.FIELDS
_WRONG = test_load.WRONG
# What only the loader can know: variables, rules between fields, what a string holds.
_BEYOND_SCHEMA = (
    "can't be split", "not set", "settings are", "would share", "can't wait", "never ends", "nothing to check",
    "is less", "can't be both", "needs max_retries", "NUL",
    "regular expression", "matches an empty", "after the @", "says itself when", "its short", "nothing to ask",
    "answers never hold",
    "HOME is", "not a cron expression", "never comes", "is not one of @", "no time zone", "every run again",
    "follow the wall clock", "not less than the time between", "has neither `cron`", "at least 1 s",
)  # fmt: skip


@pytest.mark.parametrize("body", [body for body, *_ in _FIELDS])
def test_valid_examples_are_valid_by_the_schema(body: str) -> None:
    text = f"[daemon.x]\n{body}"
    assert loads(text, WHAT="x", HOME="/h")
    VALIDATOR.validate(json.loads(json.dumps(tomllib.loads(text), default=str)))


@pytest.mark.parametrize(("body", "message"), _WRONG)
def test_invalid_examples_are_invalid_by_the_schema(body: str, message: str) -> None:
    if any(part in message for part in _BEYOND_SCHEMA):
        assert not loads(f"[daemon.x]\n{body}")
        return
    assert not VALIDATOR.is_valid(tomllib.loads(f"[daemon.x]\n{body}"))


@pytest.mark.parametrize(
    "text",
    [
        test_load.SHOP, "", "x = 1", "[stack]", "[stack]\nname = 'a b'", "[daemon]", "daemon = 5", "[daemon.x]",
        "name = 'x'", "name = 'x'\ncommand = 'y'", "command = 'y'", "name = 'x'\ndaemon = 'a:B'",
        "name = 'x'\ndaemon = 'a:B'\ncommand = 'x'", "name = 'x'\n[daemon.y]\ncommand = 'z'",
        "[daemon.'a b']\ncommand='x'",
        "[daemon.x]\ncommand='y'\nrestart='on_failure'", "name='x'\ncommand='y'\nstack.name='z'", "daemon = 'a:B'",
    ],
)  # fmt: skip
def test_schema_and_loader_agree_on_whole_files(text: str) -> None:
    assert VALIDATOR.is_valid(tomllib.loads(text)) is loads(text)


_WORDS = st.sampled_from([
    0, 1, -1, 1.5, True, "", "5s", "5", "0s", "1MiB", "x", "a:B", "x:1", "[::1]:80", "http://x", "http://", "always",
    "on_failure", "notify", "SIGTERM", "term", "022", "json", [], ["x"], [""], [1], [256], {}, {"a": "ready"}, {"A": 1},
    {"policy": "always"}, {"policy": "x"}, {"tcp": "x:1"}, {"tcp": "x:1", "http": "http://x"},
    {"notify": False, "tcp": "x:1"},
    "* * * * *", "@daily", {"cron": "0 3 * * *"}, {"every": "1m"}, {"every": 0.5}, {"every": "1m", "cron": "@daily"},
    {"interval": 0}, {"interval": "0ms"}, {"interval": "10ms"}, {"memory_bytes": "5"},
    {"memory_bytes": "5 KB"}, {"keep": 2},
])  # fmt: skip


@settings(max_examples=500)
@given(st.sampled_from([entry.key for entry in DAEMON.fields if entry.key not in DAEMON.one_of]), _WORDS)
def test_schema_and_loader_agree_on_every_field(key: str, value: Any) -> None:
    """Field by field, below the rules between fields."""
    reader = Reader({"HOME": "/h"}, "/srv")
    DAEMON.read_fields(reader, (), {key: value})
    accepted = not [reason for _, reason, _ in reader.problems if "does not exist" not in reason]
    document = {"daemon": {"x": {"command": "c", key: value}}}
    assert VALIDATOR.is_valid(document) is accepted, (key, value, reader.problems)


@pytest.mark.parametrize("key", DAEMON.one_of)
@given(value=_WORDS)
def test_schema_and_loader_agree_on_what_runs(key: str, value: Any) -> None:
    reader = Reader({"HOME": "/h"}, "/srv")
    DAEMON.read_fields(reader, (), {key: value})
    assert VALIDATOR.is_valid({"daemon": {"x": {key: value}}}) is not bool(reader.problems), (value, reader.problems)


def _defaults(section: Section, holder: object) -> list[tuple[str, Any, Any]]:
    """For each documented default: the key, what the text means, and what a configuration without the key holds."""
    found = []
    reader = Reader({}, "/srv")
    for entry in section.fields:
        actual: Any = holder
        if not entry.target:
            continue
        for attribute in entry.target.split("."):
            actual = getattr(actual, attribute)
        if entry.section:
            found += _defaults(entry.section, actual) if actual is not None else []
        elif entry.default:
            meant = reader.read(entry.kind, (entry.key,), tomllib.loads(f"x = {entry.default}")["x"])
            assert meant is not MISSING, (entry.key, reader.problems)
            if entry.key == "permanent_exit_codes":
                meant |= {125}  # «besides 125»
            found.append((entry.key, meant, actual))
        else:
            found.append((entry.key, None, actual if entry.key not in ("command", "working_dir") else None))
    return found


def test_documented_defaults_are_the_real_ones() -> None:
    config = DaemonConfig(name="x", command=("y",))
    for key, meant, actual in _defaults(DAEMON, config):
        assert (dict(actual) if isinstance(meant, dict) else actual) == meant, key


def test_every_field_of_the_dataclasses_is_in_the_table() -> None:
    given_by_loader = {"name", "instance", "source"}
    for section in SECTIONS:
        result = DaemonConfig if section is DAEMON else section.result
        if result is dict:
            continue
        targets = {entry.target.split(".")[0] for entry in section.fields}
        assert set(result.__dataclass_fields__) - given_by_loader <= targets, section.name


def test_the_reference_page_is_fresh() -> None:
    assert REFERENCE.read_text() == reference_markdown(), "run: python -m duende.config.publish > " + REFERENCE.name


def test_the_reference_names_every_key() -> None:
    page = reference_markdown()
    for section in SECTIONS:
        for entry in section.fields:
            assert f"| `{entry.key}` |" in page
