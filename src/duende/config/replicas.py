"""Replicas: one daemon of the file becomes `NAME.1`, `NAME.2` …, each with its number in its strings.

A daemon with one replica keeps its name; its `{instance}` is 1. Dependencies on a replicated daemon become dependencies
on all of its replicas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from duende.config.daemon import DaemonConfig, HealthCheckConfig, ProbesConfig, ReadyConfig, StackConfig
from duende.config.interpolate import expand_instance
from duende.config.rules import stack_findings
from duende.errors import ConfigurationError, Problem

__all__ = ["expand_replicas", "replica_names"]


def replica_names(name: str, count: int) -> list[str]:
    """The names that `count` replicas of `name` have."""
    return [name] if count == 1 else [f"{name}.{number}" for number in range(1, count + 1)]


def expand_replicas(stack: StackConfig, counts: Mapping[str, int] | None = None) -> StackConfig:
    """The stack with one entry per instance; `counts` overrides `replicas` by name (`duende scale`).

    ConfigurationError when the counts lead to contradictions, such as a shared pid file or a name used twice.
    """
    counts = counts or {}
    sized = {
        name: replace(config, replicas=counts[name]) if name in counts else config
        for name, config in stack.daemons.items()
    }
    if counts:  # without, the loader has looked already
        _require_sound(sized)
    daemons: dict[str, DaemonConfig] = {}
    for name, config in sized.items():
        after = {
            replica: condition
            for target, condition in config.after.items()
            for replica in (replica_names(target, sized[target].replicas) if target in sized else [target])
        }
        for number, replica in enumerate(replica_names(name, config.replicas), 1):
            daemons[replica] = _instance(config, replica, number, after)
    return replace(stack, daemons=MappingProxyType(daemons))


def _require_sound(daemons: Mapping[str, DaemonConfig]) -> None:
    from duende.config.check import problems_of  # here: only `duende scale` needs it

    problems = [problem for config in daemons.values() for problem in problems_of(config)]
    if not problems:
        for at, reason, hint in stack_findings(daemons):
            problems.append(Problem(reason, file=daemons[str(at[1])].source, key=".".join(map(str, at)), hint=hint))
    if problems:
        raise ConfigurationError(problems)


def _instance(config: DaemonConfig, name: str, number: int, after: Mapping[str, Any]) -> DaemonConfig:
    def text(value: Any) -> Any:
        """`value` with its number in every string inside."""
        result = value
        match value:
            case str():
                result = expand_instance(value, number)
            case Path():
                shown = str(value)
                result = Path(expand_instance(shown, number)) if "{instance}" in shown else value
            case tuple():
                result = tuple([text(item) for item in value])
            case list():
                result = [text(item) for item in value]
            case Mapping():
                result = {key: text(item) for key, item in value.items()}
        return result

    def questions(one: Any) -> Any:
        return replace(one, tcp=text(one.tcp), http=text(one.http), unix=text(one.unix), exec=text(one.exec))

    log, ready, health, probe = config.log, config.ready, config.health_check, config.probe
    if log.directory is not None:
        log = replace(log, directory=text(log.directory))
    if ready != ReadyConfig():
        ready = questions(ready)
    if health != HealthCheckConfig():
        health = questions(health)
    if probe != ProbesConfig():
        probe = ProbesConfig(
            startup=probe.startup and questions(probe.startup),
            readiness=probe.readiness and questions(probe.readiness),
            liveness=probe.liveness and questions(probe.liveness),
        )
    return replace(
        config,
        name=name,
        instance=number,
        after=MappingProxyType(dict(after)),
        command=text(config.command),
        stop=config.stop and tuple(replace(step, command=text(step.command)) for step in config.stop),
        reload_command=text(config.reload_command),
        args=text(config.args),
        env=MappingProxyType(text(dict(config.env))),
        settings=MappingProxyType(text(dict(config.settings))),
        binary_path=text(config.binary_path),
        config_path=text(config.config_path),
        working_dir=text(config.working_dir),
        pid_file=text(config.pid_file),
        on_failure=config.on_failure and replace(config.on_failure, command=text(config.on_failure.command)),
        log=log,
        ready=ready,
        health_check=health,
        probe=probe,
    )


