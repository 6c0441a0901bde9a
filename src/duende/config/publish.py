"""The schema for others: JSON Schema 2020-12 for editors (`duende schema`) and the reference page for people.

Both come from the table in schema.py, so they can't say anything else than the loader does. What JSON Schema can't
express (cycles, what the machine has) only the loader and `duende check` say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from duende.config.kinds import Kind
from duende.config.schema import DAEMON, HOOK, SECTIONS, STACK, Field, Section

__all__ = ["json_schema", "reference_markdown"]

SCHEMA_ID = "urn:duende:schema:duende.toml"  # a name, not a place: `duende schema` prints it


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a whole `duende.toml` in either shape."""
    definitions = {section.name: _section_schema(section) for section in SECTIONS}
    definitions["daemon"]["oneOf"] = [{"required": [key]} for key in DAEMON.one_of]
    definitions["daemon"]["not"] = {"required": ["every", "schedule"]}
    definitions["hook"] |= {
        "required": ["name", "on"],
        "anyOf": [{"required": [action]} for action in HOOK.one_of],
    }
    hooks = {"type": "array", "items": {"$ref": "#/$defs/hook"}}
    name = STACK.by_key["name"].kind.schema
    single = {**definitions["daemon"], "title": "one daemon, in the seed's shape", "required": ["name"]}
    single["properties"] = {
        "name": {**name, "description": "the daemon's name"},
        "stack": {"$ref": "#/$defs/stack"},
        "hook": hooks,
        **single["properties"],
    }
    stack = {
        "title": "a stack of daemons",
        "type": "object",
        "properties": {
            "stack": {"$ref": "#/$defs/stack"},
            "daemon": {"type": "object", "propertyNames": name, "additionalProperties": {"$ref": "#/$defs/daemon"}},
            "hook": hooks,
        },
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "duende.toml",
        "description": "The daemons of one stack.",
        "if": {"properties": {"daemon": {"type": "object"}}, "not": _any_required(_single_keys())},
        "then": stack,
        "else": {"$ref": "#/$defs/single"},
        "$defs": {**definitions, "single": single},
    }


def _single_keys() -> list[str]:
    """The keys whose presence at the top means the seed's shape, as in layers.py."""
    return ["name", *(entry.key for entry in DAEMON.fields if entry.key != "daemon")]


def _any_required(keys: list[str]) -> dict[str, Any]:
    return {"anyOf": [{"required": [key]} for key in keys]}


def _section_schema(section: Section) -> dict[str, Any]:
    table: dict[str, Any] = {
        "type": "object",
        "description": section.about,
        "properties": {entry.key: _field_schema(entry) for entry in section.fields},
        "additionalProperties": False,
    }
    if section.needs:
        table["required"] = list(section.needs)
    if section is not DAEMON and section.one_of:
        pairs = [(a, b) for number, a in enumerate(section.one_of) for b in section.one_of[number + 1 :]]
        table["allOf"] = [{"not": {"allOf": [_set(a, section), _set(b, section)]}} for a, b in pairs]
    if section.text_key:
        text = section.by_key[section.text_key].kind.schema
        return {"description": section.about, "anyOf": [text, {**table, "description": "in full"}]}
    if not section.words:
        return table
    return {"description": section.about, "anyOf": [{"enum": list(section.words)}, {**table, "description": "in full"}]}


def _set(key: str, section: Section) -> dict[str, Any]:
    """That `key` is present; a boolean counts only when true."""
    if section.by_key[key].kind.schema.get("type") == "boolean":
        return {"required": [key], "properties": {key: {"const": True}}}
    return {"required": [key]}


def _field_schema(entry: Field) -> dict[str, Any]:
    return {**entry.kind.schema, "description": _plain(entry.about) + _default_sentence(entry)}


def _default_sentence(entry: Field) -> str:
    return f" (default: {entry.default})" if entry.default else ""


def _plain(text: str) -> str:
    return text.replace("`", "")


def reference_markdown() -> str:
    """The page docs/reference/configuration.md."""
    return "\n".join(_reference_lines()) + "\n"


_INTRODUCTION = """\
# Configuration

<!-- Generated from src/duende/config/schema.py by `python -m duende.config.publish`; a test keeps it fresh. -->

The file is `duende.toml`, here or in a folder above, or the one that `-c FILE` or `DUENDE_CONFIG` names.
`duende check` finds all that is wrong in it; `duende schema` prints its JSON Schema for editors.

## Layers

Later ones win, key by key; tables are merged, lists and other values replaced as a whole:

1. the file
2. `conf.d/*.toml` beside it, sorted by name
3. variables: `DUENDE_DAEMON__WEB__SHUTDOWN_TIMEOUT=5s` sets `daemon.web.shutdown_timeout`. Names are matched without
   case, `_` stands for `.`, `@` and `-`; keys are lower case, save those below `ENV`
4. flags: `--set daemon.web.nice=5`

In variables and flags a value is a number, boolean, list or table where it is written as one, text otherwise.
`[stack]` stands only in the file itself.

## Two shapes

A stack has `[daemon.NAME]` tables. A file for one daemon may have its fields at the top, with its `name`.

## Values

- **duration**: `"500ms"`, `"30s"`, `"1m30s"`, `"1.5h"` (w, d, h, m, s, ms, us), or a number of seconds
- **size**: `"512MiB"` (1024s), `"10MB"` (1000s), `"64K"` (1024s, as systemd reads it), or a number of bytes; a **rate**
  is a size per second, and may end in `/s`
- **path**: relative to the folder of `duende.toml`; `~/` is the home folder. A program with a slash in `command` is
  relative to the daemon's working directory, one without is searched on the daemon's PATH
- **command**: a list, or a string that is split as a shell would (quotes, backslashes). There is no shell: `|`, `>`,
  `*` and `$HOME` mean nothing; for those write `["sh", "-c", "…"]`
- **name**: letters, digits and `_ . @ -`, at most 63, a letter or digit first
- **variables** in commands, paths, addresses, `env` and `settings` come from the manager's environment: `${VAR}`
  (unset is an error), `${VAR:-default}`, `${VAR:?message}`; `$$` is one `$`. A command that is a string is split first,
  so a value with spaces stays one word
- `{instance}` in the same places is the replica's number, from 1; `{{instance}}` is the text `{instance}`

Env files hold `KEY=VALUE` lines, with optional `export`, quotes and `#` comments; nothing in them is expanded.
"""


def _reference_lines() -> Iterator[str]:
    yield _INTRODUCTION.rstrip("\n")
    for section in SECTIONS:
        titles = {"stack": "[stack]", "daemon": "[daemon.NAME]", "hook": "[[hook]]"}
        title = titles.get(section.name, f"[daemon.NAME.{section.name}]")
        yield ""
        yield f"## `{title}`"
        yield ""
        yield section.about
        if section.words:
            words = [f'`{section.name} = "{word}"`' for word in section.words if "_" not in word]
            yield f"May be abbreviated: {', '.join(words)}."
        if section.text_key:
            yield f"A plain string stands for `{section.text_key}`."
        yield ""
        yield "| key | value | default | meaning |"
        yield "| --- | --- | --- | --- |"
        for entry in section.fields:
            default = f"`{entry.default}`" if entry.default else ""
            yield f"| `{entry.key}` | {_value_words(entry.kind)} | {default} | {entry.about} |"


def _value_words(kind: Kind) -> str:
    if kind.name == "choice":
        return ", ".join(f"`{word}`" for word in kind.schema["enum"] if "_" not in word)
    if kind.name in ("integer", "number") and "maximum" in kind.schema:
        return f"{kind.name}, {kind.schema['minimum']} to {kind.schema['maximum']}"
    return kind.name


def main() -> None:
    """Print the reference page."""
    import sys  # here: only for this

    sys.stdout.write(reference_markdown())


if __name__ == "__main__":
    main()
