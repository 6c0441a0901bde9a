"""pm2's ecosystem files as JSON: `{"apps": [...]}`, a list of apps, or one app.

pm2's own rules that duende's defaults do not match are written out: SIGINT and 1.6 s to stop, always started again, and
given up after 16 runs in a row that were shorter than `min_uptime`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from duende.config.importers.draft import Draft, Findings, Origin, Place, Sheet, refuse
from duende.config.importers.tree import Node, read_json
from duende.config.units import format_duration, format_size

__all__ = ["read"]

# pm2's lib/API/interpreter.json, and its `node` for all other scripts with a known ending.
_INTERPRETERS = {".sh": "bash", ".py": "python", ".rb": "ruby", ".php": "php", ".pl": "perl", ".js": "node",
                 ".cjs": "node", ".mjs": "node", ".coffee": "coffee", ".ls": "lsc", ".ts": "ts-node"}  # fmt: skip
_ALIASES = {
    "exec": "script", "interpreter": "exec_interpreter", "interpreterArgs": "node_args", "nodeArgs": "node_args",
    "interpreter_args": "node_args", "out": "out_file", "output": "out_file", "out_log": "out_file",
    "error": "error_file", "err": "error_file", "err_file": "error_file", "err_log": "error_file", "log": "log_file",
    "pid": "pid_file", "cron": "cron_restart", "combine_logs": "merge_logs", "user": "uid",
    "execInterpreter": "exec_interpreter",
}  # fmt: skip
_MAX_RESTARTS, _MIN_UPTIME_MS, _KILL_TIMEOUT_MS = 16, 1000, 1600
_BACKOFF_GROWTH, _BACKOFF_MAX = 1.5, "15s"  # pm2's exp_backoff_restart_delay
_TIME_UNITS = {"": 1, "s": 1000, "m": 60_000, "h": 3_600_000}  # min_uptime; plain numbers are milliseconds
_NOTHING_LOST = frozenset((
    "name", "script", "args", "exec_interpreter", "node_args", "cwd", "autorestart", "max_restarts", "min_uptime",
    "restart_delay", "exp_backoff_restart_delay", "stop_exit_codes", "instances", "exec_mode",  # read below
    "vizion", "pmx", "automation", "trace", "disable_trace", "source_map_support", "disable_source_map_support",
    "merge_logs", "time", "windowsHide", "force", "kill_retry_time", "v8", "deep_monitoring", "io", "write", "username",
    "event_loop_inspector", "append_env_to_name", "execute_command", "instance_var", "_comment",
))  # fmt: skip
_LOST = {
    "watch": ("duende does not watch files", "use a watcher that calls `duende restart NAME`, such as entr(1)"),
    "watch_delay": ("duende does not watch files", ""),
    "watch_options": ("duende does not watch files", ""),
    "ignore_watch": ("duende does not watch files", ""),
    "cron_restart": ("duende runs by the clock only what ends by itself", "let cron(8) run `duende restart NAME`"),
    "wait_ready": (
        "process.send('ready') needs Node's channel to pm2",
        "ask for it: ready = { tcp = … } or { http = … }",
    ),
    "listen_timeout": ("belongs to wait_ready and reload", "set start_timeout"),
    "shutdown_with_message": ("process.send('shutdown') needs Node's channel to pm2", "handle the stop signal"),
    "increment_var": ("counts up from instance to instance", "write {instance} into the variable, from 1"),
    "log_date_format": ("duende writes times by RFC 3339", ""),
    "log_type": ("has no direct counterpart", 'set log.format = "json"'),
    "disable_logs": ("duende keeps what a program writes", "redirect it in the command: sh -c '… >/dev/null'"),
    "namespace": ("duende has no namespaces", "give the daemons names with a common beginning, and use globs"),
    "name_prefix": ("is not applied", "write it into the name"),
    "filter_env": ("is not applied", "set clean_env = true to pass nothing on"),
    "post_update": ("duende deploys nothing", ""),
    "install_url": ("duende installs nothing", ""),
}


class _App:
    """One app while it is carried over."""

    def __init__(self, node: Node, place: Place, findings: Findings, number: int) -> None:
        self.place, self.findings = place, findings
        # null is as if it were not there
        given = [(key, child) for key, child in node.items() if child.value is not None]
        self.values = {_ALIASES.get(key, key): (child, key) for key, child in given}
        script = self.get("script")
        name = self.get("name") or re.sub(r"\.[^./]+$", "", os.path.basename(str(script or ""))) or f"app{number}"
        self.draft = Draft(str(name), place.at(node.line, str(name)), findings)

    def get(self, key: str) -> Any:
        return self.values[key][0].plain if key in self.values else None

    def at(self, key: str) -> Origin:
        if key not in self.values:
            return self.draft.at
        node, spelt = self.values[key]
        return self.place.at(node.line, f"{self.draft.name}.{spelt}")

    def put(self, key: str, value: Any, *path: str) -> None:
        self.draft.put(self.at(key), value, *path)

    def drop(self, key: str, reason: str, hint: str = "") -> None:
        self.findings.drop(self.at(key), reason, hint)

    def number(self, key: str, default: float) -> float:
        value = self.get(key)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12:
            return value
        if value is not None:
            self.drop(key, f"{str(value)[:40]!r} is not a number")
        return default


def read(text: str, place: Place, findings: Findings) -> Sheet:
    """One draft for each app."""
    root = read_json(text, place)
    sheet = Sheet(place.at(), head=[f"From {place.file} (pm2). Programs run under their interpreter directly."])
    apps = root
    if isinstance(root.value, dict) and "apps" in root.value:
        apps = root.value["apps"]
        for key, node in root.items():
            if key != "apps":
                hint = "deploy by other means" if key == "deploy" else ""
                findings.drop(place.at(node.line, key), "duende runs programs and nothing else", hint)
    nodes = apps.value if isinstance(apps.value, list) else [apps]
    for number, node in enumerate(nodes):
        if not isinstance(node.value, dict):
            findings.drop(place.at(node.line, f"apps[{number}]"), "is not an object")
            continue
        sheet.drafts.append(_app(_App(node, place, findings, number)))
    if not sheet.drafts:
        raise refuse(place.at(), "has no apps")
    return sheet


def _app(app: _App) -> Draft:
    cwd = app.get("cwd")
    if isinstance(cwd, str) and cwd:
        app.put("cwd", app.place.path(cwd), "working_dir")
    elif not app.place.is_home:
        app.put("cwd", app.place.folder, "working_dir")
    _command(app)
    _instances(app)
    _restart(app)
    for key, carry in _CARRIED.items():
        if key in app.values:
            carry(app, key)
    app.put("kill_signal", "SIGINT", "stop_signal")
    timeout_s = app.number("kill_timeout", _KILL_TIMEOUT_MS) / 1000
    app.put("kill_timeout", format_duration(timeout_s), "shutdown_timeout")
    if app.get("treekill") is False:
        app.put("treekill", "process", "kill_mode")
    else:
        app.put("treekill", "control-group", "kill_mode")
    for key in app.values:
        _tell(app, key)
    return app.draft


def _tell(app: _App, key: str) -> None:
    """Name what nobody carries; a switch that is off is nothing lost."""
    if key in _NOTHING_LOST or key in _CARRIED or key in ("kill_timeout", "treekill"):
        return
    if app.get(key) in (False, None, "", [], 0) and key in _LOST:
        return
    if key.startswith("env_"):
        app.drop(key, f"is used with --env {key[4:]} only", "write a file conf.d/NAME.toml with those variables")
        return
    app.drop(key, *_LOST.get(key, ("is not known to import", "")))


def _words(app: _App, key: str) -> list[str]:
    value = app.get(key)
    if isinstance(value, list):
        return [str(word) for word in value]
    if value is None or value == "":
        return []
    try:
        return shlex.split(str(value))
    except ValueError as error:
        app.drop(key, f"can't be split into words: {str(error).lower()}", "write a list")
        return []


def _command(app: _App) -> None:
    script = app.get("script")
    if not isinstance(script, str) or not script:
        return
    interpreter = app.get("exec_interpreter")
    if interpreter is None:
        interpreter = _INTERPRETERS.get(os.path.splitext(script)[1], "none")
    words = [script, *_words(app, "args")]
    before = _words(app, "node_args")
    if interpreter not in ("none", ""):
        words = [str(interpreter), *before, *words]
    elif before:
        app.drop("node_args", "there is no interpreter to give them to")
    if " " in script and interpreter == "none" and "args" not in app.values:  # pm2 runs such a line through a shell
        words = ["/bin/sh", "-c", script]
    app.put("script", words, "command")


def _instances(app: _App) -> None:
    count = app.get("instances")
    if count in ("max", 0, "0", -1, "-1"):
        app.drop("instances", "means as many as there are processors, which is not known here", "set replicas")
    elif count is not None:
        number = int(app.number("instances", 1))
        if number != 1:
            app.put("instances", number, "replicas")
    if str(app.get("exec_mode") or "fork").startswith("cluster"):
        reason = "in cluster mode pm2 shares one port between the instances; duende does not"
        app.drop("exec_mode", reason, 'give each its port: PORT = "300{instance}", behind a proxy; or use SO_REUSEPORT')


def _restart(app: _App) -> None:
    if app.get("autorestart") is False:
        app.put("autorestart", "never", "restart", "policy")
        return
    codes = app.get("stop_exit_codes")
    if codes:
        codes = codes if isinstance(codes, list) else [codes]
        app.put("stop_exit_codes", "on-failure", "restart", "policy")
        app.put("stop_exit_codes", codes, "restart", "success_exit_codes")
    else:
        app.put("autorestart", "always", "restart", "policy")
    app.put("max_restarts", int(app.number("max_restarts", _MAX_RESTARTS)), "restart", "max_retries")
    app.put("min_uptime", format_duration(_min_uptime_ms(app) / 1000), "restart", "reset_after")
    if growing := app.number("exp_backoff_restart_delay", 0):
        app.put("exp_backoff_restart_delay", format_duration(growing / 1000), "restart", "delay")
        app.put("exp_backoff_restart_delay", _BACKOFF_GROWTH, "restart", "multiplier")
        app.put("exp_backoff_restart_delay", _BACKOFF_MAX, "restart", "max_delay")
    elif fixed := app.number("restart_delay", 0):
        app.put("restart_delay", format_duration(fixed / 1000), "restart", "delay")
        app.put("restart_delay", 1.0, "restart", "multiplier")


def _min_uptime_ms(app: _App) -> float:
    match = re.fullmatch(r"([0-9]{1,12})([smh]?)", str(app.get("min_uptime") or _MIN_UPTIME_MS))
    if match is None:
        app.drop("min_uptime", f"{str(app.get('min_uptime'))[:40]!r} is not a time")
        return _MIN_UPTIME_MS
    return float(int(match[1]) * _TIME_UNITS[match[2]])


def _env(app: _App, key: str) -> None:
    value = app.get(key)
    if not isinstance(value, dict):
        app.drop(key, "is not an object of variables")
        return
    for name, item in value.items():
        node = app.values[key][0].value[name]
        at = app.place.at(node.line, f"{app.draft.name}.{key}.{name}")
        if isinstance(item, dict | list):
            app.findings.drop(at, "is not text", "write it as text")
        elif item is not None:
            app.draft.put(at, item if isinstance(item, str) else node.text, "env", name)


def _port(app: _App, key: str) -> None:
    app.put(key, str(app.get(key)), "env", "PORT")


def _account(duende_key: str) -> Callable[[_App, str], None]:
    return lambda app, key: app.put(key, app.get(key), duende_key)


def _logs(app: _App, key: str) -> None:
    value = app.get(key)
    if not isinstance(value, str) or not value:
        return
    if value in ("NULL", "/dev/null"):
        app.drop(key, "duende keeps what a program writes", "redirect it in the command: sh -c '… >/dev/null'")
        return
    folder = os.path.dirname(app.place.path(value)) or "."
    before = app.draft.get("log", "directory")
    if before not in (None, folder):
        app.drop(key, f"stdout and stderr go to one folder, {before}", "duende logs --stderr shows one of them")
        return
    app.put(key, folder, "log", "directory")
    app.findings.note(app.at(key), "the folder is kept, the files in it are named after the daemon")


def _pid_file(app: _App, key: str) -> None:
    app.put(key, app.place.path(str(app.get(key))), "pid_file")


def _memory(app: _App, key: str) -> None:
    match = re.fullmatch(r"([0-9]{1,12})([KMG]?)", str(app.get(key)).upper().removesuffix("B"))
    if match is None:
        app.drop(key, f"{str(app.get(key))[:40]!r} is not a size")
    else:
        app.put(key, format_size(int(match[1]) * 1024 ** " KMG".index(match[2] or " ")), "restart_when", "memory")


_CARRIED: Mapping[str, Callable[[_App, str], None]] = {
    "max_memory_restart": _memory,
    "env": _env,
    "port": _port,
    "uid": _account("user"),
    "gid": _account("group"),
    "out_file": _logs,
    "error_file": _logs,
    "log_file": _logs,
    "pid_file": _pid_file,
}
