"""Procfiles and pm2's ecosystem files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from duende.errors import ConfigurationError
from tests.config.importers.conftest import Bring
from tests.config.importers.test_supervisord import value_of

# --- Procfile


@pytest.mark.parametrize(("command", "argv"), [
    ("bundle exec rake jobs:work", ("bundle", "exec", "rake", "jobs:work")),
    ("web --bind=0.0.0.0:80", ("web", "--bind=0.0.0.0:80")),
    ("A=1 web", ("/bin/sh", "-c", "A=1 web")),
    ("web -p $PORT", ("/bin/sh", "-c", "web -p $PORT")),
    ("web ${PORT:-1} $$", ("/bin/sh", "-c", "web ${PORT:-1} $$")),
    ("web > out.txt 2>&1", ("/bin/sh", "-c", "web > out.txt 2>&1")),
    ("echo '{instance}' \"x\"", ("/bin/sh", "-c", "echo '{{instance}}' \"x\"")),
    ("exec web", ("/bin/sh", "-c", "exec web")),
    ("ls ~ *", ("/bin/sh", "-c", "ls ~ *")),
])  # fmt: skip
def test_a_command_needs_a_shell_only_where_it_uses_one(bring: Bring, command: str, argv: tuple[str, ...]) -> None:
    assert bring("Procfile", f"web: {command}\n").only.command == argv


def test_a_procfile_with_its_env(bring: Bring) -> None:
    text = "# the site\nweb: web $PORT\n\nworker:worker\nnot a process\n"
    outcome = bring("Procfile", text, {".env": "PORT=3000\nKEY='a $b'\n"})
    assert list(outcome.stack.daemons) == ["web", "worker"]
    assert outcome["web"].env == {"PORT": "3000", "KEY": "a $b"}
    assert outcome["worker"].env["PORT"] == "3100"
    assert (outcome["web"].shutdown_timeout, value_of(outcome["web"], "kill_mode")) == (5.0, "control-group")
    assert not outcome.dropped
    assert "Procfile:5: not a process: is not NAME: COMMAND" in outcome.said


def test_a_procfile_without_env_counts_from_5000(bring: Bring) -> None:
    outcome = bring("Procfile", "a: x\nb: y\n", {".foreman": "concurrency: a=2\n"})
    assert [one.env["PORT"] for one in outcome.stack.daemons.values()] == ["5000", "5100"]
    assert outcome.dropped == [(0, ".foreman")]


def test_a_procfile_elsewhere_runs_there(bring: Bring) -> None:
    outcome = bring("app/Procfile", "a: x\n", {"app/.env": "K=1\n"})
    assert outcome.only.working_dir == Path(outcome.stack.directory) / "app"
    assert outcome.only.env["K"] == "1"


def test_an_env_file_that_duende_cannot_read_is_left_out_and_named(bring: Bring) -> None:
    outcome = bring("Procfile", "a: x\n", {".env": "GOOD=1\nnot an assignment\n"})
    assert "GOOD" not in outcome.only.env
    assert ".env:2" in outcome.said
    assert outcome.dropped == [(1, "a")]


def test_names_that_come_twice(bring: Bring) -> None:
    outcome = bring("Procfile", "a: x\na: y\n")
    assert outcome.only.command == ("x",)
    assert "there is a daemon a already, from Procfile:1" in outcome.said


# --- pm2


def ecosystem(**app: Any) -> str:
    return json.dumps({"apps": [{"name": "p", "script": "./x", **app}]}, indent=1)


@pytest.mark.parametrize(("app", "path", "wanted"), [
    ({}, "command", ("./x",)),
    ({"script": "srv.js"}, "command", ("node", "srv.js")),
    ({"script": "srv.py", "interpreter": "/opt/python"}, "command", ("/opt/python", "srv.py")),
    ({"script": "srv.js", "interpreter": "none"}, "command", ("srv.js",)),
    ({"script": "srv.js", "node_args": "--a --b", "args": ["c d", "e"]}, "command",
     ("node", "--a", "--b", "srv.js", "c d", "e")),
    ({"script": "npm", "args": "start -- 'x y'"}, "command", ("npm", "start", "--", "x y")),
    ({"script": "npm start"}, "command", ("/bin/sh", "-c", "npm start")),
    ({"cwd": "/srv"}, "working_dir", Path("/srv")),
    ({"env": {"A": 1, "B": True, "C": "x ${Y}", "D": 1.5}}, "env", {"A": "1", "B": "true", "C": "x ${Y}", "D": "1.5"}),
    ({"port": 3000}, "env", {"PORT": "3000"}),
    ({"instances": 4}, "replicas", 4),
    ({"instances": "2"}, "replicas", 2),
    ({}, "restart.policy", "always"),
    ({"autorestart": False}, "restart.policy", "never"),
    ({"stop_exit_codes": [0, 3]}, "restart.success_exit_codes", frozenset({0, 3})),
    ({"stop_exit_codes": [0, 3]}, "restart.policy", "on-failure"),
    ({}, "restart.backoff.max_retries", 16),
    ({"max_restarts": 5}, "restart.backoff.max_retries", 5),
    ({}, "restart.reset_after", 1.0),
    ({"min_uptime": "2m"}, "restart.reset_after", 120.0),
    ({"min_uptime": 500}, "restart.reset_after", 0.5),
    ({"restart_delay": 4000}, "restart.backoff.initial_delay", 4.0),
    ({"restart_delay": 4000}, "restart.backoff.multiplier", 1.0),
    ({"exp_backoff_restart_delay": 100}, "restart.backoff.max_delay", 15.0),
    ({}, "stop_signal", 2),
    ({}, "shutdown_timeout", 1.6),
    ({"kill_timeout": 30000}, "shutdown_timeout", 30.0),
    ({}, "kill_mode", "control-group"),
    ({"treekill": False}, "kill_mode", "process"),
    ({"uid": "www", "gid": 33}, "group", "33"),
    ({"user": "www"}, "user", "www"),
    ({"max_memory_restart": "300M"}, "restart_when.memory", 300 * 1024**2),
    ({"max_memory_restart": 1000}, "restart_when.memory", 1000),
    ({"out_file": "/var/log/p/out.log", "error": "/var/log/p/err.log"}, "log.directory", Path("/var/log/p")),
    ({"pid": "/run/p.pid"}, "pid_file", Path("/run/p.pid")),
    ({"exec": "./y"}, "command", ("./y",)),
])  # fmt: skip
def test_a_pm2_key_means_the_same(bring: Bring, app: dict[str, Any], path: str, wanted: object) -> None:
    if "exec" in app:
        outcome = bring("ecosystem.json", json.dumps({"name": "p", **app}))
    else:
        outcome = bring("ecosystem.json", ecosystem(**app))
    assert value_of(outcome.only, path) == wanted
    assert not outcome.dropped


@pytest.mark.parametrize(("key", "value"), [
    ("watch", True), ("ignore_watch", ["x"]), ("max_memory_restart", "much"), ("cron_restart", "* * * * *"),
    ("wait_ready", True), ("listen_timeout", 100), ("shutdown_with_message", True), ("increment_var", "PORT"),
    ("exec_mode", "cluster"), ("instances", "max"), ("env_production", {"A": "1"}), ("namespace", "x"),
    ("nonsense", 1), ("kill_timeout", "soon"), ("node_args", "--x"), ("env", "A=1"), ("disable_logs", True),
    ("out_file", "/dev/null"), ("min_uptime", "1x"), ("args", "'open"), ("stop_exit_codes", [300]), ("uid", [1]),
])  # fmt: skip
def test_what_pm2_has_and_duende_lacks_is_named(bring: Bring, key: str, value: Any) -> None:
    outcome = bring("ecosystem.json", ecosystem(**{key: value}))
    line = 1 + next(n for n, line in enumerate(ecosystem(**{key: value}).split("\n")) if f'"{key}"' in line)
    assert (line, f"p.{key}") in outcome.dropped, outcome.said


def test_switches_that_are_off_lose_nothing(bring: Bring) -> None:
    off: dict[str, Any] = {"watch": False, "wait_ready": False, "cron_restart": None, "disable_logs": False}
    assert not bring("ecosystem.json", ecosystem(**off)).dropped


def test_comments_and_trailing_commas_are_allowed_as_in_pm2(bring: Bring) -> None:
    outcome = bring("x.json", '[ // first\n {"script": "a", /* x\n */ "nonsense": 1,},\n {"script": "b.sh"}, ]')
    assert {name: one.command for name, one in outcome.stack.daemons.items()} == {"a": ("a",), "b": ("bash", "b.sh")}
    assert outcome.dropped == [(3, "a.nonsense")]


@pytest.mark.parametrize(("text", "words"), [
    ('{"apps": [}', "x.json:1: is not JSON: expected a value, found '}'"),
    ('{"apps":\n', "is not JSON: it ends too early"),
    ('{"apps": [] }', "x.json: has no apps"),
    ('{"a": 1} x', "there is more after the end"),
    ('{"a": "\\x"}', "x.json:1: is not JSON: invalid"),
    ("[" * 100, "nested more than"),
    ("{a: 1}", "expected a key in double quotes"),
    ('{"a" 1}', "expected `:`"),
    ('{"apps": [{"name": "p"}]}', "there is no command to run"),
    ('{"apps": [{"script": "a\\u0000b"}]}', "contains a NUL byte"),
    ('{"apps": [{"script": "a\\ud800b"}]}', "half of a surrogate pair"),
])  # fmt: skip
def test_json_that_gives_nothing_says_why(bring: Bring, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        bring("x.json", text)
    assert words in str(caught.value)
