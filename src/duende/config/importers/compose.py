"""docker compose files: the process part of each service.

What is about images, networks and volumes is named and left behind. docker's own rules that duende's defaults do not
match are written out: not started again by itself, and a row of failures ended by ten stable seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from duende.config.envfile import parse_env_file
from duende.config.files import read_config_file
from duende.config.importers.compose_words import (
    DEPLOY_LOST,
    SERVICE_LOST,
    TOP_LOST,
    duration_s,
    interpolated,
    size_bytes,
)
from duende.config.importers.draft import (
    MARKED,
    ONE_WORD,
    Draft,
    Findings,
    Origin,
    Place,
    Sheet,
    refuse,
    split_marked,
)
from duende.config.importers.tree import Node, read_yaml
from duende.config.paths import sanitized_name
from duende.config.units import format_duration, format_size
from duende.model.signals import Signal

__all__ = ["read"]

_CONDITIONS = {
    "service_started": "started",
    "service_healthy": "healthy",
    "service_completed_successfully": "completed",
}
# moby, restartmanager.go: 100 ms, doubled up to a minute; a run of ten seconds begins anew.
_DOCKER_ROW = {"delay": "100ms", "max_delay": "1m", "reset_after": "10s"}
_HEALTH_DEFAULTS = {"interval": 30.0, "timeout": 30.0, "retries": 3}  # docker's
_START_INTERVAL_S = 5.0  # docker's start_interval
_CPU_SHARES_MIN = 2


class _Service:
    """One service while it is carried over."""

    def __init__(self, name: str, node: Node, place: Place, findings: Findings, known: Mapping[str, str]) -> None:
        self.name, self.place, self.findings, self.known = name, place, findings, known
        self.values = dict(node.items())
        self.draft = Draft(name, place.at(node.line, f"services.{name}"), findings)

    def at(self, node: Node, key: str) -> Origin:
        return self.place.at(node.line, f"services.{self.name}.{key}")

    def put(self, node: Node, key: str, value: Any, *path: str) -> None:
        self.draft.put(self.at(node, key), value, *path)

    def drop(self, node: Node, key: str, reason: str, hint: str = "") -> None:
        self.findings.drop(self.at(node, key), reason, hint)

    def text(self, node: Node) -> str:
        """A scalar with its variables; ValueError."""
        if isinstance(node.value, dict | list):
            raise ValueError("is not text")
        return interpolated(node.text, self.known)

    def words(self, node: Node) -> list[str]:
        """A list, or a line split as a shell splits it; ValueError."""
        if isinstance(node.value, list):
            return [self.text(item) for item in node.value]
        if node.value is None:
            return []
        text = self.text(node)
        if MARKED.search(text):
            self.findings.note(self.at(node, "command"), ONE_WORD)
        return split_marked(text)


def read(text: str, place: Place, findings: Findings) -> Sheet:
    """One draft for each service that says what it runs."""
    root = read_yaml(text, place)
    services = root.value.get("services") if isinstance(root.value, dict) else None
    if services is None or not isinstance(services.value, dict) or not services.value:
        raise refuse(place.at(), "has no services", "compose files before version 2 are not read")
    env_path = os.path.join(place.folder, ".env")
    known = parse_env_file(read_config_file(env_path), file=env_path)[0] if os.path.exists(env_path) else {}
    sheet = Sheet(place.at(), head=[
        f"From {place.file} (docker compose): the process part. The programs run on this machine itself,",
        "with its files and its network.",
    ])  # fmt: skip
    if (name := root.value.get("name")) and isinstance(name.value, str):
        sheet.stack_name = sanitized_name(name.value) if "$" not in name.value else ""
    for key, node in root.items():
        if key not in ("services", "name", "version") and not key.startswith("x-"):
            findings.drop(place.at(node.line, key), *TOP_LOST.get(key, ("is not known to import", "")))
    for name, node in services.items():
        if not isinstance(node.value, dict):
            findings.drop(place.at(node.line, f"services.{name}"), "is not a mapping")
            continue
        sheet.drafts.append(_service(_Service(name, node, place, findings, known)))
    return sheet


def _service(service: _Service) -> Draft:
    if not service.place.is_home and "working_dir" not in service.values:
        service.draft.put(service.draft.at, service.place.folder, "working_dir")
    _command(service)
    if "restart" not in service.values and not _has_deploy_policy(service):
        service.draft.put(service.draft.at, "never", "restart", "policy")  # docker's default
    for key, node in service.values.items():
        if key in ("command", "entrypoint") or key.startswith("x-"):
            continue
        carry = _CARRIED.get(key)
        if carry is None:
            service.drop(node, key, *SERVICE_LOST.get(key, ("is not known to import", "")))
            if key == "profiles":
                service.put(node, key, False, "autostart")
            continue
        _attempt(service, key, node, carry)
    return service.draft


def _attempt(service: _Service, key: str, node: Node, carry: Callable[[_Service, Node], None]) -> None:
    try:
        carry(service, node)
    except ValueError as error:
        service.drop(node, key, str(error))


def _has_deploy_policy(service: _Service) -> bool:
    deploy = service.values.get("deploy")
    return deploy is not None and "restart_policy" in dict(deploy.items())


def _command(service: _Service) -> None:
    entry, command = service.values.get("entrypoint"), service.values.get("command")
    try:
        words = [*(service.words(entry) if entry else []), *(service.words(command) if command else [])]
    except ValueError as error:
        service.findings.drop(service.draft.at, f"its command can't be read: {str(error).lower()}")
        return
    if words:
        service.put(entry or command or Node(None, 0), "entrypoint" if entry else "command", words, "command")


def _environment(service: _Service, node: Node) -> None:
    pairs: list[tuple[str, Node | None]] = list(node.items())
    if isinstance(node.value, list):
        pairs = []
        for item in node.value:
            name, equals, value = item.text.partition("=")
            pairs.append((name, Node(value, item.line, value) if equals else None))
    for name, item in pairs:
        if item is None or item.value is None:
            continue  # the variable of whoever starts it: passed on anyway
        try:
            service.put(item, f"environment.{name}", service.text(item), "env", name)
        except ValueError as error:
            service.drop(item, f"environment.{name}", str(error))


def _env_file(service: _Service, node: Node) -> None:
    files = []
    for item in node.value if isinstance(node.value, list) else [node]:
        table = dict(item.items())
        path = service.text(table.get("path", item))
        optional = table["required"].value is False if "required" in table else False
        if "format" in table:
            service.drop(table["format"], "env_file.format", "duende reads KEY=VALUE lines, quoted or not")
        files.append(("-" if optional else "") + service.place.path(path))
    if files:
        service.put(node, "env_file", files, "env_file")


def _depends_on(service: _Service, node: Node) -> None:
    if isinstance(node.value, list):
        for item in node.value:
            service.put(item, "depends_on", "started", "after", sanitized_name(service.text(item)))
        return
    for name, item in node.items():
        table = dict(item.items())
        key = f"depends_on.{name}"
        condition = table["condition"].text if "condition" in table else "service_started"
        if condition not in _CONDITIONS:
            service.drop(item, key, f"the condition {condition[:40]!r} is not known")
            continue
        service.put(item, key, _CONDITIONS[condition], "after", sanitized_name(name))
        if "restart" in table and table["restart"].value is not False:
            service.drop(
                table["restart"], f"{key}.restart", "duende does not restart what depends on a restarted daemon"
            )
        if "required" in table and table["required"].value is False:
            service.drop(table["required"], f"{key}.required", "a daemon waits for all that it comes after")


def _restart(service: _Service, node: Node) -> None:
    word, _, count = ("no" if node.value is False else service.text(node)).partition(":")
    policies = {"no": "never", "always": "always", "on-failure": "on-failure", "unless-stopped": "unless-stopped"}
    if word not in policies or (count and not (count.isascii() and count.isdigit())):
        raise ValueError(f"{node.text[:40]!r} is none of no, always, on-failure[:N], unless-stopped")
    service.put(node, "restart", policies[word], "restart", "policy")
    if word != "no":
        for key, value in _DOCKER_ROW.items():
            service.put(node, "restart", value, "restart", key)
    if count and int(count):
        service.put(node, "restart", int(count), "restart", "max_retries")


def _healthcheck(service: _Service, node: Node) -> None:
    table = dict(node.items())
    test = table.pop("test", None)
    words = service.words(test) if test is not None and isinstance(test.value, list) else []
    is_off = "disable" in table and table.pop("disable").value is True
    if is_off or words[:1] == ["NONE"]:
        return  # a duende daemon has no check unless one is written
    if test is None:
        raise ValueError("has no test: that of the image is not known here")
    if not isinstance(test.value, list):
        words = ["CMD-SHELL", service.text(test)]
    if words[:1] not in (["CMD"], ["CMD-SHELL"]) or len(words) < 2:
        raise ValueError("its test begins with none of CMD, CMD-SHELL, NONE")
    shell = words[0] == "CMD-SHELL"
    service.put(test, "healthcheck.test", ["/bin/sh", "-c", words[1]] if shell else words[1:], "health_check", "exec")
    for key, default in _HEALTH_DEFAULTS.items():
        at = table.pop(key, node)
        if key == "retries":
            value: Any = at.value if at is not node else default
        else:
            value = format_duration(duration_s(service.text(at)) if at is not node else default)
        service.put(at, f"healthcheck.{key}", value, "health_check", key)
    period, interval = table.pop("start_period", None), table.pop("start_interval", None)
    if period is not None and duration_s(service.text(period)):
        _startup(service, period, interval)
    for key, lost in table.items():
        service.drop(lost, f"healthcheck.{key}", "duende's check has no counterpart")


def _startup(service: _Service, period: Node, interval: Node | None) -> None:
    """Failures in the start period do not count: the check begins when it has passed once, however long that takes."""
    probe = {
        "exec": service.draft.get("health_check", "exec"),
        "interval": format_duration(duration_s(service.text(interval)) if interval else _START_INTERVAL_S),
        "timeout": service.draft.get("health_check", "timeout"),
    }
    service.put(period, "healthcheck.start_period", probe, "probe", "startup")


def _user(service: _Service, node: Node) -> None:
    user, _, group = service.text(node).partition(":")
    if user:
        service.put(node, "user", user, "user")
    if group:
        service.put(node, "user", group, "group")


def _working_dir(service: _Service, node: Node) -> None:
    service.put(node, "working_dir", service.place.path(service.text(node)), "working_dir")
    service.findings.note(service.at(node, "working_dir"), "was a folder in the image; here it is one of this machine")


def _stop_signal(service: _Service, node: Node) -> None:
    service.put(node, "stop_signal", Signal.parse(service.text(node)).full_name, "stop_signal")


def _grace(service: _Service, node: Node) -> None:
    service.put(node, "stop_grace_period", format_duration(duration_s(service.text(node))), "shutdown_timeout")


def _replicas(service: _Service, node: Node) -> None:
    if isinstance(node.value, bool) or not isinstance(node.value, int):
        raise ValueError("is not a whole number")
    service.put(node, "scale", node.value, "replicas")


def _size(*path: str) -> Callable[[_Service, Node], None]:
    def carry(service: _Service, node: Node) -> None:
        service.put(node, path[-1], format_size(size_bytes(service.text(node))), *path)

    return carry


def _cpus(service: _Service, node: Node) -> None:
    service.put(node, "cpus", round(float(service.text(node)) * 100, 3), "resources", "cpu_quota_percent")


def _count(*path: str, low: int = 0) -> Callable[[_Service, Node], None]:
    def carry(service: _Service, node: Node) -> None:
        number = int(service.text(node))
        if number > 0:  # -1 and 0 are no limit
            service.put(node, path[-1], max(number, low), *path)

    return carry


def _swap(service: _Service, node: Node) -> None:
    """docker counts memory and swap together."""
    limit = service.values.get("mem_limit")
    total = size_bytes(service.text(node))
    if limit is None or total < size_bytes(service.text(limit)):
        raise ValueError("is memory and swap together, and means nothing without mem_limit")
    swap = total - size_bytes(service.text(limit))
    if not swap:
        raise ValueError("forbids swap, and 0 means no limit in duende")
    service.put(node, "memswap_limit", format_size(swap), "resources", "memory_swap_bytes")


def _ulimits(service: _Service, node: Node) -> None:
    for name, item in node.items():
        key = {"nofile": "open_files_max", "core": "core_size_bytes"}.get(name)
        hard = dict(item.items()).get("hard", item)
        if key is None or not isinstance(hard.value, int) or hard.value < 1:
            service.drop(
                item, f"ulimits.{name}", "duende does not set it", "set it in the command: sh -c 'ulimit …; exec …'"
            )
        else:
            service.put(item, f"ulimits.{name}", hard.value, "resources", key)


def _logging(service: _Service, node: Node) -> None:
    table = dict(node.items())
    driver = table.get("driver")
    if driver is not None and driver.text not in ("json-file", "local"):
        service.drop(driver, "logging.driver", "duende writes files", "read them from there: duende logs -f --json")
        return
    options = table.get("options")
    for name, item in options.items() if options else ():
        if name == "max-size":
            service.put(
                item, "logging.options.max-size", format_size(size_bytes(service.text(item))), "log", "max_size"
            )
        elif name == "max-file":  # docker counts the one that is written, too
            service.put(item, "logging.options.max-file", max(int(service.text(item)) - 1, 0), "log", "keep")
        else:
            service.drop(item, f"logging.options.{name}", "duende has no counterpart")


def _deploy(service: _Service, node: Node) -> None:
    for key, item in node.items():
        if key == "replicas":
            _attempt(service, "deploy.replicas", item, _replicas)
        elif key == "restart_policy":
            _attempt(service, "deploy.restart_policy", item, _deploy_policy)
        elif key == "resources":
            for kind, table in item.items():
                if kind != "limits":
                    service.drop(table, f"deploy.resources.{kind}", "duende limits, it does not reserve")
                    continue
                for name, limit in table.items():
                    carry = _LIMITS.get(name)
                    if carry is None:
                        service.drop(limit, f"deploy.resources.limits.{name}", "duende has no such limit")
                    else:
                        _attempt(service, f"deploy.resources.limits.{name}", limit, carry)
        else:
            service.drop(item, f"deploy.{key}", *DEPLOY_LOST.get(key, ("is not known to import", "")))


def _deploy_policy(service: _Service, node: Node) -> None:
    table = dict(node.items())
    condition = table["condition"].text if "condition" in table else "any"
    policy = {"none": "never", "on-failure": "on-failure", "any": "always"}.get(condition)
    if policy is None:
        raise ValueError(f"the condition {condition[:40]!r} is none of none, on-failure, any")
    service.put(node, "deploy.restart_policy", policy, "restart", "policy")
    delay = format_duration(duration_s(service.text(table["delay"]))) if "delay" in table else "5s"  # swarm's default
    service.put(table.get("delay", node), "deploy.restart_policy.delay", delay, "restart", "delay")
    service.put(node, "deploy.restart_policy", 1.0, "restart", "multiplier")
    if "max_attempts" in table:
        attempts = table["max_attempts"]
        service.put(
            attempts, "deploy.restart_policy.max_attempts", int(service.text(attempts)), "restart", "max_retries"
        )
    if "window" in table:
        window = format_duration(duration_s(service.text(table["window"])))
        service.put(table["window"], "deploy.restart_policy.window", window, "restart", "reset_after")


_LIMITS: Mapping[str, Callable[[_Service, Node], None]] = {
    "cpus": _cpus,
    "memory": _size("resources", "memory_bytes"),
    "pids": _count("resources", "pids_max"),
}
_CARRIED: Mapping[str, Callable[[_Service, Node], None]] = {
    "environment": _environment,
    "env_file": _env_file,
    "depends_on": _depends_on,
    "restart": _restart,
    "healthcheck": _healthcheck,
    "user": _user,
    "working_dir": _working_dir,
    "stop_signal": _stop_signal,
    "stop_grace_period": _grace,
    "scale": _replicas,
    "mem_limit": _size("resources", "memory_bytes"),
    "memswap_limit": _swap,
    "cpus": _cpus,
    "cpu_shares": _count("resources", "cpu_shares", low=_CPU_SHARES_MIN),
    "pids_limit": _count("resources", "pids_max"),
    "ulimits": _ulimits,
    "logging": _logging,
    "deploy": _deploy,
}
