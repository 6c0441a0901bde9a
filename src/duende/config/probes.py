"""Readiness and health in one form: the short ones (`ready`, `health_check`) as the probes that they stand for.

Also the kinds of value that only these have: a regular expression, a Unix socket, what a failed probe leads to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from duende.config.daemon import (
    DaemonConfig,
    HealthCheckConfig,
    LivenessConfig,
    ProbeAction,
    ProbeConfig,
    ReadyConfig,
    StartupConfig,
)
from duende.config.kinds import Kind, Reader, WrongType, signal
from duende.config.locate import KeyPath
from duende.model.signals import Signal

__all__ = [
    "action", "has_short_ready", "is_told", "liveness_of", "pattern", "probe_findings", "readiness_of", "start_limit_s",
    "startup_of", "unix_socket",
]  # fmt: skip

_READY_TRY_S = 1.0  # a try of `ready` may take this long, or its interval
_FD_MAX = 65535
_SOCKET_PATH_MAX_BYTES = 107  # sun_path of unix(7), without the final NUL


def startup_of(config: DaemonConfig) -> StartupConfig | None:
    """What is asked until it has started."""
    ready = config.ready
    if config.probe.startup is not None or not (ready.tcp or ready.http or ready.unix or ready.exec):
        return config.probe.startup
    return StartupConfig(
        tcp=ready.tcp, http=ready.http, unix=ready.unix, exec=ready.exec, interval=ready.interval,
        timeout=max(ready.interval, _READY_TRY_S),
    )  # fmt: skip


def readiness_of(config: DaemonConfig) -> ProbeConfig | None:
    """What is asked for as long as it runs, whether it can do its work."""
    return config.probe.readiness


def liveness_of(config: DaemonConfig) -> LivenessConfig | None:
    """What is asked for as long as it runs, whether it must be dealt with."""
    check = config.health_check
    if config.probe.liveness is not None:
        return config.probe.liveness
    asks = check.http or check.tcp or check.unix or check.exec or check.log_age or config.daemon is not None
    if not (check.enabled and asks):
        return None
    return LivenessConfig(
        http=check.http, tcp=check.tcp, unix=check.unix, exec=check.exec, log_age=check.log_age,
        interval=check.interval, timeout=check.timeout, failure_threshold=check.retries,
        action=ProbeAction.RESTART if check.restart else ProbeAction.TELL,
    )  # fmt: skip


def start_limit_s(config: DaemonConfig) -> float:
    """From the start until ready: `start_timeout`, and never less than its startup probe allows. 0: no limit."""
    probe = config.probe.startup
    if config.start_timeout <= 0 or probe is None:
        return config.start_timeout
    tries_s = probe.failure_threshold * max(probe.interval, probe.timeout)
    return max(config.start_timeout, probe.initial_delay + tries_s)


def is_told(config: DaemonConfig) -> bool:
    """Whether it says itself when it is ready."""
    return config.daemon is not None or config.ready.is_told


def has_short_ready(config: DaemonConfig) -> bool:
    """Whether `ready` stands for a startup probe."""
    return config.ready != ReadyConfig() and not config.ready.is_told


def probe_findings(config: DaemonConfig) -> Iterator[tuple[KeyPath, str, str]]:
    """What contradicts itself: two questions in one place, a short form beside the long one, nothing to ask."""
    ready, check = config.ready, config.health_check
    told = {"notify": ready.notify, "fd": ready.fd is not None, "log": ready.log is not None}
    asked = {"tcp": ready.tcp, "http": ready.http, "unix": ready.unix, "exec": ready.exec}
    yield from _one_of("ready", {**told, **asked})
    yield from _one_of("health_check", _questions(check))
    if ready.fd is not None and config.daemon is not None:
        yield ("ready", "fd"), "a Python class says itself when it is ready, at the end of its init", ""
    if ready.fd is not None and not 3 <= ready.fd <= _FD_MAX:
        yield ("ready", "fd"), f"must be 3 to {_FD_MAX}, found {ready.fd}: 0 to 2 are its input and output", ""
    if check.restart and check.enabled and config.daemon is None and not any(_questions(check).values()):
        reason = "there is nothing to check: none of http, tcp, unix, exec, log_age is set"
        yield ("health_check", "restart"), reason, ""
    if config.probe.startup is not None and has_short_ready(config):
        yield ("probe", "startup"), "`ready` is its short form: only one of the two can be set", "leave `ready` out"
    if config.probe.liveness is not None and check != HealthCheckConfig():
        reason = "`health_check` is its short form: only one of the two can be set"
        yield ("probe", "liveness"), reason, "leave `health_check` out"
    for name in ("startup", "readiness", "liveness"):
        if (probe := getattr(config.probe, name)) is not None:
            for at, reason, hint in _probe_findings(config, probe):
                yield ("probe", name, *at), reason, hint


def _probe_findings(config: DaemonConfig, probe: ProbeConfig) -> Iterator[tuple[KeyPath, str, str]]:
    for _, reason, hint in _one_of("", _questions(probe)):
        yield (), reason, hint
    if config.daemon is None and not any(_questions(probe).values()):
        yield (), "there is nothing to ask: none of http, tcp, unix, exec is set", 'write tcp = "127.0.0.1:PORT"'
    if 0 < probe.window < probe.failure_threshold:
        reason = f"{probe.window} answers never hold {probe.failure_threshold} failures (`failure_threshold`)"
        yield ("window",), reason, "make it larger, or leave it out to count failures in a row"


def _questions(one: HealthCheckConfig | ProbeConfig) -> dict[str, object]:
    asked: dict[str, object] = {"http": one.http, "tcp": one.tcp, "unix": one.unix, "exec": one.exec}
    return {**asked, "log_age": one.log_age} if isinstance(one, HealthCheckConfig | LivenessConfig) else asked


def _one_of(key: str, questions: dict[str, object]) -> Iterator[tuple[KeyPath, str, str]]:
    if len([question for question in questions.values() if question]) > 1:
        yield (key,), f"only one of {', '.join(questions)} can be set", ""


def _read_text(reader: Reader, at: KeyPath, value: object) -> str:
    return reader.text(value)


def _check_pattern(value: str) -> str:
    try:
        compiled = re.compile(value)
    except re.error as error:
        return f"is not a regular expression: {error}"
    return "matches an empty line, so any output would do" if compiled.search("") else ""


pattern = Kind(
    "regular expression", "a regular expression", {"type": "string", "minLength": 1}, _read_text, check=_check_pattern,
    is_text=True,
)  # fmt: skip


def _read_socket(reader: Reader, at: KeyPath, value: object) -> str:
    text = reader.text(value)
    return text if text.startswith("@") else reader.path_text(value)


def _check_socket(value: str) -> str:
    if value == "@":
        return "an abstract socket needs a name after the @"
    length = len(value.encode(errors="surrogateescape"))
    if length > _SOCKET_PATH_MAX_BYTES:
        return f"has {length} bytes; a socket's address has room for {_SOCKET_PATH_MAX_BYTES}"
    return ""


unix_socket = Kind(
    "socket", "the path of a Unix socket, or @NAME of an abstract one", {"type": "string", "minLength": 1},
    _read_socket, check=_check_socket, is_text=True,
)  # fmt: skip


def _read_action(reader: Reader, at: KeyPath, value: object) -> ProbeAction | Signal:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise WrongType
    for member in ProbeAction:
        if value == member.value:
            return member
    try:
        return Signal.parse(value)
    except ValueError:
        reason = f'"{str(value)[:40]}" is neither "restart" nor "tell" nor a signal such as "SIGQUIT"'
        raise ValueError(reason) from None


action = Kind(
    "action", '"restart", "tell" or a signal such as "SIGQUIT"',
    {"anyOf": [{"enum": [member.value for member in ProbeAction]}, *signal.schema["anyOf"]]},
    _read_action, (ProbeAction, Signal), is_text=True,
)  # fmt: skip
