"""Writes the pages of docs/reference that are made from the code: `python tools/reference.py`.

A test compares what is there with what this makes. The pages about the configuration, the lifecycle and the exit codes
come from the modules that own them; the command line's and the API's are made here, from the verbs' parsers and from
the OpenAPI document.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from duende.api.openapi import document
from duende.cli import exits
from duende.cli.main import VERBS, module_of
from duende.config.publish import reference_markdown as configuration_page
from duende.core.diagram import lifecycle_page
from duende.model.eventkinds import EVENT_KINDS

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"

_CLI = """\
# Command line

<!-- Made from the parsers in src/duende/cli by `python tools/reference.py`; a test keeps it fresh. -->

    duende [-c FILE | -s STACK] [--json] [--no-color] VERB ...

`-c FILE` names the stack's file; the default is `$DUENDE_CONFIG`, else `duende.toml` here or in a folder above.
`-s STACK` names a stack that runs, from anywhere; the default is `$DUENDE_STACK`. Global options stand before or after
the verb. Names may be globs (quote them from the shell), and `web` also means its replicas `web.1`, `web.2`, ….

With `--json` a verb prints one JSON document, or one a line where it streams; the shapes are those of the
[API](api.md#types). What goes wrong is said on standard error. The [exit codes](exit-codes.md) are the same for all
verbs. Colours are used on a terminal only, and never with `--no-color` or `NO_COLOR`.
"""

_API = """\
# HTTP API

<!-- Made from the route table in src/duende/api by `python tools/reference.py`; a test keeps it fresh. -->

The manager of a stack serves HTTP/1.1 on the Unix socket `duende.sock` in the stack's
[runtime directory](files-and-paths.md). Only the user that runs the manager and root may speak to it; the kernel says
who connects. Nothing listens on TCP. The command line is a client of this API and can do nothing else.

```toml file=duende.toml
[daemon.clock]
command = ["sh", "-c", "while :; do date; sleep 1; done"]
```

```console
$ duende up -d
clock ok running
$ socket=$DUENDE_RUNTIME_DIR/$(basename $PWD)/duende.sock; \\
  curl -s --unix-socket $socket http://localhost/v1/version
{"version": "0.1.0", "api": ["v1"], "python": "3.11.7", "pid": 4242}
$ socket=$DUENDE_RUNTIME_DIR/$(basename $PWD)/duende.sock; \\
  curl -s --unix-socket $socket -d '{"names": ["clock"]}' http://localhost/v1/restart
{"ok": true, "results": [{"name": "clock", "ok": true, "changed": true, "status": "running", "message": ""}]}
$ duende down
the manager has ended
```

- A key is never removed and never changes its type within version 1. New keys may appear in answers: ignore what you do
  not know. Unknown keys in requests are errors.
- Times are RFC 3339 in UTC, durations are seconds (`_s`), sizes are bytes (`_bytes`).
- Errors are problem details (RFC 9457), with a stable word for programs in `kind`.
- An operation answers 200 even if it failed for some daemons: look at `ok`.
- An empty list of names is an error and never means all; `["*"]` means all.
- A stream sends a sign of life every 15 seconds: an empty line, or `:` in server-sent events.
"""

_EVENTS = """\
# Events

<!-- Made from src/duende/model/eventkinds.py by `python tools/reference.py`; a test keeps it fresh. -->

Everything that happens to the daemons of a stack is an event with a number, kept in the state database: the newest
10,000, over managers and reboots. `duende events` shows them, `GET /v1/events` streams them, and
[hooks](../how-to/hooks-and-alerts.md) are told of them.

- `seq`: its number; they grow by one and never repeat
- `time`: RFC 3339, UTC
- `daemon`: whom it is about; empty for the manager itself
- `kind`: one of the words below
- `status`: the daemon's status after it, where it has one
- `cause`: what made it happen. By a user: `StartRequested`, `StopRequested`, `RestartRequested`, `KillRequested`. By
  the process: `Spawned`, `SpawnFailed`, `Exited`, `Paused`, `Continued`, `BecameReady`, `Notice`. By a check:
  `HealthCheck`, `BecameUnhealthy`, `BecameUnready`. By a deadline: `TimerFired`, `StableRun`. By another daemon:
  `DependenciesMet`. By a hook: which hook, and for which event
- `message`: why, in words
- `data`: more for programs. `instance`, `before` (the status before), `hook`; with `again`, the same was told before
  and is not over, so hooks are not told

An *alert* tells trouble, or the end of it, and only when that changes: a daemon that is restarted with growing delays
raises none at each try.
"""


def pages() -> dict[str, str]:
    """File name to content."""
    return {
        "cli.md": "\n".join(_cli_lines()) + "\n",
        "api.md": "\n".join(_api_lines()) + "\n",
        "configuration.md": configuration_page(),
        "lifecycle.md": lifecycle_page(),
        "exit-codes.md": exits.reference_markdown(),
        "events.md": "\n".join(_event_lines()) + "\n",
    }


def _event_lines() -> Iterator[str]:
    yield _EVENTS.rstrip("\n")
    yield ""
    yield "| kind | alert | what it tells |"
    yield "|---|---|---|"
    for kind in EVENT_KINDS:
        yield f"| `{kind.name}` | {'yes' if kind.is_alert else ''} | {kind.about} |"


def _cli_lines() -> Iterator[str]:
    yield _CLI.rstrip("\n")
    yield ""
    yield "| verb | what it does |"
    yield "|---|---|"
    for verb, summary in VERBS.items():
        yield f"| [`{verb}`](#{verb}) | {summary} |"
    for verb in VERBS:
        parser: argparse.ArgumentParser = importlib.import_module(f"duende.cli.{module_of(verb)}").parser()
        yield f"\n## {verb}\n"
        yield parser.description or ""
        yield ""
        yield f"    {_usage(verb, parser)}"
        yield from _arguments(parser)
        yield ""
        examples = (parser.epilog or "").splitlines()[1:]
        yield from (f"    {line.strip()}" for line in examples)


def _own_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What a verb has besides -h and the global options."""
    shared = next(group for group in parser._action_groups if group.title == "global options")
    return [action for action in parser._actions if action not in shared._group_actions and action.dest != "help"]


def _usage(verb: str, parser: argparse.ArgumentParser) -> str:
    if parser.usage is not None:
        return parser.usage
    words = [f"duende {verb}"]
    for action in _own_actions(parser):
        if action.option_strings:
            words.append("[" + " | ".join(_spelling(action)) + "]")
        else:
            words.append(_position(action))
    return " ".join(words)


def _spelling(action: argparse.Action) -> list[str]:
    value = "" if action.nargs == 0 else f" {action.metavar or '{' + ','.join(map(str, action.choices or ())) + '}'}"
    return [f"{option}{value}" for option in action.option_strings]


def _position(action: argparse.Action) -> str:
    name = str(action.metavar or "{" + ",".join(map(str, action.choices or ())) + "}")
    return {"*": f"[{name} ...]", "+": f"{name} [{name} ...]", "?": f"[{name}]"}.get(str(action.nargs), name)


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    actions = _own_actions(parser)
    if not actions:
        return
    yield "\n| argument | meaning |"
    yield "|---|---|"
    for action in actions:
        words = _spelling(action) if action.option_strings else [_position(action)]
        yield f"| {', '.join(f'`{_cell(word)}`' for word in words)} | {_cell(action.help or '')} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _api_lines() -> Iterator[str]:
    found = document()
    yield _API.rstrip("\n")
    yield ""
    yield "`GET /v1/openapi.json` gives all of this as OpenAPI 3.1."
    yield "\n## Operations"
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            yield from _operation(method.upper(), path, operation)
    yield "\n## Types\n"
    yield "A key that may be missing is marked *optional*."
    for name, schema in found["components"]["schemas"].items():
        yield f"\n### {name}\n"
        yield " ".join(schema.get("description", "").split())
        yield ""
        yield "| key | value |"
        yield "|---|---|"
        for key, value in schema["properties"].items():
            mark = "" if key in schema.get("required", ()) else ", *optional*"
            yield f"| `{key}` | {_type(value)}{mark} |"


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"\n### {method} {path}\n"
    yield operation["summary"]
    yield ""
    for parameter in operation.get("parameters", ()):
        about = f": {parameter['description']}" if "description" in parameter else ""
        yield f"- {parameter['in']} `{parameter['name']}`, {_type(parameter['schema'])}{about}"
    if "requestBody" in operation:
        yield f"- request: {_type(operation['requestBody']['content']['application/json']['schema'])}"
    for content_type, content in operation["responses"]["200"]["content"].items():
        is_stream = content_type != "application/json"
        yield f"- answer: {f'a stream of `{content_type}`, each item ' if is_stream else ''}{_type(content['schema'])}"
    problems = sorted(set(operation["responses"]) - {"200"})
    yield f"- errors: {', '.join(problems)}"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        least = f", at least {schema['minItems']}" if "minItems" in schema else ""
        return f"list of {_type(schema['items'])}{least}"
    if schema.get("type") == "object":
        extra = schema.get("additionalProperties")
        return f"object of {_type(extra)}" if isinstance(extra, dict) and extra else "object"
    return str(schema.get("type", "any"))


def main() -> None:
    """Write what has changed, and say so."""
    for name, text in pages().items():
        path = REFERENCE / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
