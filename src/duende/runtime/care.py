"""How a daemon is looked after, as its configuration says, in words: what `duende explain` tells besides its state."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Protocol

from duende.config.daemon import DaemonConfig, ProbeAction
from duende.config.units import format_duration, format_size
from duende.core.foresight import Coming
from duende.model.signals import Signal
from duende.model.thresholds import ThresholdConfig

__all__ = ["becomes_ready", "checks", "consequences"]


class _Question(Protocol):
    """What probes and checks have in common."""

    @property
    def tcp(self) -> str | None: ...
    @property
    def unix(self) -> str | None: ...
    @property
    def http(self) -> str | None: ...
    @property
    def exec(self) -> tuple[str, ...] | None: ...


def becomes_ready(config: DaemonConfig) -> str:
    """What makes it ready; empty for what is ready as soon as it is executed."""
    ready, probe = config.ready, config.probe
    told = ""
    if ready.notify:
        told = "it says READY=1 (sd_notify)"
    elif ready.fd is not None:
        told = f"it writes a newline to descriptor {ready.fd}"
    elif ready.log is not None:
        told = f"a line of its output matches {ready.log!r}"
    else:
        told = _question(ready)
    if not told and config.daemon is not None:
        told = "its `init` has returned"
    parts = [told] if told else []
    parts += [
        f"its {kind} probe passes ({_question(asked) or 'its health_check'})"
        for kind, asked in (("startup", probe.startup), ("readiness", probe.readiness))
        if asked is not None
    ]
    return " and ".join(parts)


def _question(asked: _Question) -> str:
    if asked.tcp:
        return f"{asked.tcp} accepts a connection"
    if asked.unix:
        return f"{asked.unix} accepts a connection"
    if asked.http:
        return f"{asked.http} answers 2xx or 3xx"
    if asked.exec:
        return f"`{shlex.join(asked.exec)}` ends with code 0"
    return ""


def checks(config: DaemonConfig) -> Iterator[Coming]:
    """What may be done to it while it runs."""
    check = config.health_check
    has_question = check.http or check.tcp or check.unix or check.exec or check.log_age
    if check.enabled and (has_question or config.daemon) and config.probe.liveness is None:
        then = "it is restarted" if check.restart else "that is told"
        times = f"{check.retries} checks in a row fail, one every {format_duration(check.interval)}"
        yield Coming(then, condition=f"if {times}")
    if (probe := config.probe.liveness) is not None and probe.failure_threshold:
        count = f"{probe.failure_threshold} liveness probes {f'of {probe.window}' if probe.window else 'in a row'} fail"
        yield Coming(_action(probe.action), condition=f"if {count}, one every {format_duration(probe.interval)}")
    if (dog := config.watchdog) is not None:
        silence = f"it gives no sign of life for {format_duration(dog.timeout)} (watchdog)"
        yield Coming(_action(dog.action), condition=f"if {silence}")
    limits = config.restart_when
    if limits.any:
        lasting = format_duration(limits.lasting)
        yield Coming("it is restarted", condition=f"if it uses more than {_limits(limits)} for {lasting}")


def _limits(limits: ThresholdConfig) -> str:
    parts = [
        f"{format_size(limits.memory)} of memory" if limits.memory else "",
        f"{limits.cpu:g} % of a processor" if limits.cpu else "",
        f"{limits.open_files} open files" if limits.open_files else "",
    ]
    return " or ".join(part for part in parts if part)


def _action(action: ProbeAction | Signal) -> str:
    if isinstance(action, Signal):
        return f"it gets {action.full_name}"
    return "it is restarted" if action is ProbeAction.RESTART else "that is told"


def consequences(config: DaemonConfig) -> Iterator[Coming]:
    """What its end for good means to others."""
    remedy = config.on_failure
    if remedy is not None:
        text = f"{remedy.start} is started" if remedy.start else f"`{shlex.join(remedy.command or ())}` is run"
        yield Coming(f"{text} (on_failure)", condition="once it has finally failed")
    if config.essential:
        text = "the stack is stopped, and the manager ends with its exit code (essential)"
        yield Coming(text, condition="once it has ended for good")
