"""Reads a daemon's settings again and hands them over: all or nothing, the old ones stay where something is wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Any, cast

from duende.config.daemon import DaemonConfig
from duende.errors import ConfigurationError, Problem
from duende.worker.calls import CallThread, Outcome, call_here
from duende.worker.context import DaemonContext
from duende.worker.daemon import Daemon
from duende.worker.life import say
from duende.worker.places import Places
from duende.worker.reloaded import remember
from duende.worker.settings import SettingsError, declared_type, typed_settings

__all__ = ["located", "reload_settings"]


async def reload_settings(daemon: Daemon, context: DaemonContext) -> str:
    """Read, check, call `reload(new, old)`, put in force; return why it was refused, or an empty text."""
    thread = CallThread("duende-reload")
    try:
        read = await thread.call(_read_checked, daemon, context)
        if read.error is not None:
            return _reason(read.error)
        raw, new = cast("tuple[Mapping[str, Any], Any]", read.value)
        is_declared = declared_type(type(daemon)) is not None
        old = getattr(daemon, "settings", context.config.settings) if is_declared else context.config.settings
        told = await _call_reload(daemon, new, old, thread)
        if told.error is not None:
            return f"reload() raised {_reason(told.error)}"
        context.config = replace(context.config, settings=MappingProxyType(dict(raw)))
        if is_declared:
            object.__setattr__(daemon, "settings", new)
        kept = await thread.call(remember, raw, context.places)
        if kept.error is not None:  # in force all the same; only a restart would not know of it
            reason = _reason(kept.error)
            say(f"{context.config.name}: the next incarnation will not have the reloaded settings: {reason}")
        return ""
    finally:
        thread.close()


async def _call_reload(daemon: Daemon, new: Any, old: Any, thread: CallThread) -> Outcome:
    method = daemon.reload
    if iscoroutinefunction(method) or type(daemon).reload is Daemon.reload:
        return await call_here(method, new, old)
    return await thread.call(method, new, old)


def _read_checked(daemon: Daemon, context: DaemonContext) -> tuple[Mapping[str, Any], Any]:
    config, places = context.config, context.places
    raw = _read(config, places)
    try:
        return raw, typed_settings(type(daemon), raw)
    except SettingsError as error:
        raise located(error, config, places) from None


def _read(config: DaemonConfig, places: Places) -> Mapping[str, Any]:
    """The settings as the file has them now, with all layers that the manager applies."""
    from duende.config.load import load_stack  # here: only who is reloaded pays for the loader
    from duende.config.replicas import expand_replicas

    if not places.config_file:
        reason = "there is no file to read settings from again"
        hint = "duende.run(…, config=DaemonConfig.load(path)) knows one"
        raise ConfigurationError([Problem(reason, key=config.name, hint=hint)])
    stack = load_stack(places.config_file, environ=_environ(places))
    found = expand_replicas(stack, _replicas(config, stack.daemons)).daemons.get(config.name)
    if found is None:
        raise ConfigurationError([Problem("is not there any more", file=places.config_file, key=config.name)])
    return {**found.settings, **places.overrides}


def located(error: SettingsError, config: DaemonConfig, places: Places) -> ConfigurationError:
    """The same with file and line, as far as the file can still be read."""
    from duende.config.load import read_stack

    if not places.config_file:
        return error
    try:
        origins = read_stack(places.config_file, environ=_environ(places)).origins
    except ConfigurationError:
        return error  # it has changed meanwhile, and is no help any more
    problems = []
    for (at, reason, hint), known in zip(error.findings, error.problems, strict=True):
        if at and at[0] in places.overrides:
            problems.append(known)
        else:
            problems.append(origins.problem(("daemon", _name_in_file(config), "settings", *at), reason, hint))
    return ConfigurationError(sorted(problems, key=lambda problem: problem.line))


def _environ(places: Places) -> Mapping[str, str]:
    return {**os.environ, **places.layers}


def _name_in_file(config: DaemonConfig) -> str:
    return config.name.removesuffix(f".{config.instance}") if config.replicas > 1 else config.name


def _replicas(config: DaemonConfig, known: Mapping[str, Any]) -> Mapping[str, int] | None:
    """As many replicas as there were at the start: their number in the file may have been overruled or changed."""
    name = _name_in_file(config)
    return {name: config.replicas} if name in known and config.replicas != known[name].replicas else None


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, ConfigurationError) else f"{type(error).__name__}: {error}"
