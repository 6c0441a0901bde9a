"""`[[hook]]` and `on_failure`: read from all files, and every mistake told with its file, line and key."""

from __future__ import annotations

import tomllib
from pathlib import Path

import jsonschema
import pytest

from duende.config.hook import HookConfig, OnFailureConfig
from duende.config.load import load_stack, load_text
from duende.config.publish import json_schema
from duende.config.replicas import expand_replicas
from duende.errors import ConfigurationError

WEB = '[daemon.web]\ncommand = "x"\n'
PAGER = '[[hook]]\nname = "pager"\non = ["failed", "alert*", "status:stopped"]\n'
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_text(text, label="f")
    return [str(problem) for problem in caught.value.problems]


def test_a_hook_is_read_with_its_defaults() -> None:
    text = WEB + PAGER + 'webhook = "https://x/y"\nsecret_file = "s"\ndaemons = ["web", "w*"]\ngive_up_after = "5m"\n'
    (hook,) = load_text(text, label="f", directory="/srv").hooks
    assert hook == HookConfig(
        "pager", ("failed", "alert*", "status:stopped"), ("web", "w*"), webhook="https://x/y",
        secret_file=Path("/srv/s"), give_up_after=300.0, source="f:3",
    )  # fmt: skip
    assert VALIDATOR.is_valid(tomllib.loads(text))


def test_patience_is_an_hour_for_a_webhook_and_one_attempt_for_others() -> None:
    assert HookConfig("h", webhook="http://x").patience_s == 3600.0
    assert HookConfig("h", command=("x",)).patience_s == 0.0
    assert HookConfig("h", command=("x",), give_up_after=9.0).patience_s == 9.0


def test_hooks_of_drop_ins_add_up_and_a_name_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    main = tmp_path / "duende.toml"
    main.write_text(WEB + PAGER + 'command = "old"\n[[hook]]\nname = "b"\non = ["*"]\ncommand = "y"\n')
    more = tmp_path / "conf.d" / "more.toml"
    more.write_text(PAGER + 'command = "new"\n[[hook]]\nname="c"\non=["*"]\nstart="web"\n')
    hooks = load_stack(main, environ={}).hooks
    assert [(hook.name, hook.command) for hook in hooks] == [("pager", ("new",)), ("b", ("y",)), ("c", None)]
    more.write_text(PAGER + 'comand = "new"\n')
    with pytest.raises(ConfigurationError) as caught:
        load_stack(main, environ={})
    assert [(p.file, p.line, p.key) for p in caught.value.problems] == [(str(more), 4, "hook[0].comand")]


def test_a_file_for_one_daemon_may_have_hooks() -> None:
    text = 'name = "web"\ncommand = "x"\n' + PAGER + 'command = "y"\n'
    stack = load_text(text)
    assert (list(stack.daemons), [hook.name for hook in stack.hooks]) == (["web"], ["pager"])
    assert VALIDATOR.is_valid(tomllib.loads(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PAGER, ["f:3: hook[0]: exactly one of command, webhook, entry_point and start must be set, found none"]),
        (PAGER + 'command="x"\nwebhook="http://x"\n',
         ["f:7: hook[0].webhook: only one of command, webhook, entry_point, start can be set, "
          "found command and webhook"]),
        ('[[hook]]\nname="a"\non=["faild"]\ncommand="x"\n',
         ['f:5: hook[0].on[0]: there is no kind of event "faild" (did you mean `failed`?)']),
        ('[[hook]]\nname="a"\non=[]\ncommand="x"\n', ['f:5: hook[0].on: is empty: which events? (`["*"]` means all)']),
        ('[[hook]]\nname="a"\non="failed"\ncommand="x"\n',
         ['f:5: hook[0].on: expected a list of kinds of events such as ["failed", "recovered"], found "failed"']),
        ('[[hook]]\ncommand="x"\n', [
            "f:3: hook[0]: has no `name` "
            '(give it one, for `duende hooks` and to find its place again: name = "pager")',
            'f:3: hook[0]: does not say which events (write on = ["failed", "recovered"])']),
        ('[hook]\nname="a"\n',
         ["f:3: hook: expected tables [[hook]], found a table (write [[hook]] with two brackets)"]),
        (PAGER + 'start="wep"\n', ["f:6: hook[0].start: there is no daemon wep (did you mean `web`?)"]),
        (PAGER + 'command="x"\ndaemons=["wbe"]\n',
         ["f:7: hook[0].daemons[0]: there is no daemon wbe (did you mean `web`?)"]),
        (PAGER + 'command="x"\nsecret_file="s"\n',
         ["f:7: hook[0].secret_file: is for a webhook, and this hook has none"]),
        (PAGER + 'command="x"\n' + PAGER + 'command="x"\n',
         ["f:8: hook[1].name: pager is the name of another hook in this file (give each its own)"]),
    ],
)  # fmt: skip
def test_every_mistake_has_its_place_and_what_to_do(text: str, expected: list[str]) -> None:
    assert problems(WEB + text) == expected


# --- on_failure


def test_on_failure_names_a_daemon_or_a_command() -> None:
    text = WEB + 'on_failure = "web2"\n[daemon.web2]\ncommand="x"\nreplicas=2\n'
    text += 'on_failure={command="y {instance}", timeout="5s"}\n'
    stack = expand_replicas(load_text(text))
    assert stack.daemons["web"].on_failure == OnFailureConfig(start="web2")
    assert stack.daemons["web2.2"].on_failure == OnFailureConfig(command=("y", "2"), timeout=5.0)
    assert VALIDATOR.is_valid(tomllib.loads(text))
    hook = OnFailureConfig(start="web2").hook_for("web", "f:1")
    assert (hook.name, hook.on, hook.daemons, hook.patience_s) == ("on_failure:web", ("failed",), ("web",), 0.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('on_failure = "wbe"\n[daemon.a]\ncommand="x"\n', "there is no daemon wbe (did you mean `web`?)"),
        ('on_failure = "web"\n', "a daemon that has failed can't be its own remedy"),
        ("on_failure = {}\n", "exactly one of start and command must be set"),
        ('on_failure = {start="a", command="x"}\n[daemon.a]\ncommand="x"\n', "only one of start, command can be set"),
        ('on_failure = "a"\n[daemon.a]\ncommand="x"\non_failure="web"\n',
         "would start each other for ever: web -> a -> web"),
    ],
)  # fmt: skip
def test_what_on_failure_cannot_be(text: str, expected: str) -> None:
    (found,) = problems(WEB + text)
    assert expected in found
    assert found.startswith("f:3: daemon.web.on_failure")
