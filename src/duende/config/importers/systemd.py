"""systemd service units, with drop-ins; several at once keep their order by After=, Before= and Requires=.

systemd's own rules that duende's defaults do not match are written out: the whole control group is asked to end, after
90 seconds it is killed, and a unit with Restart= is given up after five failures in ten seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from duende.config.envfile import parse_env_file
from duende.config.files import read_config_file
from duende.config.importers.draft import INSTANCE, Draft, Findings, Origin, Place, Sheet, refuse
from duende.config.importers.systemd_commands import argument_vector, reload_and_stop
from duende.config.importers.systemd_keys import CARRIED, ELSEWHERE, why_lost
from duende.config.importers.unitfile import Setting, Unit, load_unit, span_s
from duende.config.units import format_duration

__all__ = ["UnitDraft", "join", "read"]

_POLICIES = {
    "no": "never", "always": "always", "on-failure": "on-failure", "on-abnormal": "on-failure",
    "on-abort": "on-failure", "on-watchdog": "on-failure",
}  # fmt: skip
_RESTART_SEC, _STOP_SEC, _LIMIT_BURST, _LIMIT_SEC = 0.1, 90.0, 5, 10.0  # systemd-system.conf(5)
_STOP_FOREVER = "1w"
_ORDERING = ("After", "Before", "Requires", "Wants")


class UnitDraft(Draft):
    """A draft that remembers its unit, for the order between several."""

    __slots__ = ("unit",)

    def __init__(self, name: str, at: Origin, findings: Findings, unit: Unit) -> None:
        super().__init__(name, at, findings)
        self.unit = unit


def read(text: str, place: Place, findings: Findings) -> Sheet:
    """One draft for the unit."""
    unit = load_unit(text, place)
    service = [one for one in unit.settings if one.section == "Service"]
    if not service:
        raise refuse(place.at(), "has no [Service] section")
    at = Origin(service[0].at.file, next(iter(unit.settings)).at.line, f"[Service] {unit.name}")
    name = unit.prefix if unit.is_template and unit.instance == INSTANCE else unit.stem.replace("\\", "-")
    draft = UnitDraft(name, Origin(place.file, 1, unit.name), findings, unit)
    draft.scope = ""
    if unit.instance == INSTANCE:
        findings.note(draft.at, "is a template: %i becomes {instance}, the number of a replica", "set `replicas`")
    sheet = Sheet(at, [draft], [f"From {place.file} (systemd)."])
    _head(draft, findings)
    _main_process(draft, findings)
    _restart(draft, findings)
    _timeouts(draft, findings)
    if draft.get("kill_mode") is None and unit.last("Service", "KillMode") is None:
        draft.put(draft.at, "control-group", "kill_mode")
    if unit.last("Service", "WorkingDirectory") is None:
        draft.put(draft.at, "~" if unit.is_user else "/", "working_dir")
    for one in unit.settings:
        _setting(draft, one, findings)
    _let_files_win(draft, findings)
    return sheet


def _head(draft: UnitDraft, findings: Findings) -> None:
    unit = draft.unit
    description, documents = unit.last("Unit", "Description"), unit.last("Unit", "Documentation")
    texts = [description.value if description else "", f"({documents.value})" if documents else ""]
    if text := " ".join(part for part in texts if part):
        at = description.at if description else draft.at
        _attempt(at, findings, lambda: draft.put(at, unit.expand(text), "description"))


def _setting(draft: UnitDraft, one: Setting, findings: Findings) -> None:
    at, name = one.at, one.at.key
    if name in ELSEWHERE or one.key.startswith("X-") or one.section.startswith("X-"):
        return
    carry = CARRIED.get(name)
    if carry is None:
        if reason := why_lost(one.section, one.key, one.value):
            findings.drop(at, *reason)
        return
    _attempt(at, findings, lambda: carry(draft, draft.unit, one, findings))


def _attempt(at: Origin, findings: Findings, action: Callable[[], None]) -> None:
    try:
        action()
    except ValueError as error:
        findings.drop(at, str(error))


def _let_files_win(draft: UnitDraft, findings: Findings) -> None:
    """In systemd.exec(5) EnvironmentFile= wins over Environment=; in duende `env` wins over `env_file`."""
    names = [path[1] for path in draft.values if path[0] == "env"]
    for file in (draft.get("env_file") or []) if names else []:
        path, at = file.removeprefix("-"), draft.values["env_file",][1]
        if not os.path.isfile(path):
            findings.note(at, f"{path} can't be read here: what it sets would win in systemd; in duende `env` wins")
            continue
        for name in parse_env_file(read_config_file(path), file=path)[0]:
            if draft.values.pop(("env", name), None):
                findings.note(at, f"{name} is taken from {path}, which wins in systemd")


def _main_process(draft: UnitDraft, findings: Findings) -> None:
    unit = draft.unit
    kind = unit.last("Service", "Type")
    word = kind.value if kind else "simple"
    at = kind.at if kind else draft.at
    starts = unit.all("Service", "ExecStart")
    if len(starts) > 1 and word != "oneshot":
        findings.drop(starts[0].at, "only a oneshot can have several ExecStart=", "the last one is carried over")
        starts = starts[-1:]
    if starts:
        where = starts[0].at
        _attempt(where, findings, lambda: draft.put(where, argument_vector(unit, starts, findings), "command"))
    match word:
        case "simple" | "exec" | "oneshot":
            pass
        case "notify":
            draft.put(at, "notify", "ready")
        case "notify-reload":
            draft.put(at, "notify", "ready")
            draft.put(at, "SIGHUP", "reload_signal")
        case "idle":
            findings.note(at, "Type=idle waits for other units to start; duende starts it with the others")
        case "forking":
            reason = "duende runs programs in the foreground, and takes the end of this one for the end of the daemon"
            findings.drop(at, reason, "find the program's switch for the foreground (-f, -D, --nodaemon) and set it")
        case _:
            findings.drop(at, f"duende has no counterpart of Type={word}", "set `ready`")
    reload_and_stop(draft, unit, findings)


def _restart(draft: UnitDraft, findings: Findings) -> None:
    unit = draft.unit
    one = unit.last("Service", "Restart")
    word, at = (one.value, one.at) if one else ("no", draft.at)
    if word not in _POLICIES:
        findings.drop(at, f"duende has no policy {word!r}", 'write restart = { policy = "always" } or another')
        return
    if word.startswith("on-") and word != "on-failure":
        findings.drop(at, f"duende has no policy {word!r}; on-failure also restarts after an exit code", "")
    draft.put(at, _POLICIES[word], "restart", "policy")
    if word == "no":
        return
    _attempt(at, findings, lambda: _delays(draft, at))
    _attempt(at, findings, lambda: _crash_window(draft, at))


def _delays(draft: UnitDraft, at: Origin) -> None:
    unit = draft.unit
    sec, steps, longest = (unit.last("Service", key) for key in ("RestartSec", "RestartSteps", "RestartMaxDelaySec"))
    delay_s = span_s(sec.value) if sec else _RESTART_SEC
    where = sec.at if sec else at
    draft.put(where, format_duration(delay_s), "restart", "delay")
    draft.put(where, 0.0, "restart", "jitter")
    count = int(steps.value) if steps and steps.value.isdigit() else 0
    if steps and longest and count and delay_s > 0 and span_s(longest.value) > delay_s:
        growth = (span_s(longest.value) / delay_s) ** (1 / count)
        draft.put(steps.at, round(growth, 4), "restart", "multiplier")
        draft.put(longest.at, format_duration(span_s(longest.value)), "restart", "max_delay")
    else:
        draft.put(where, 1.0, "restart", "multiplier")


def _crash_window(draft: UnitDraft, at: Origin) -> None:
    unit = draft.unit
    interval = unit.last("Unit", "StartLimitIntervalSec") or unit.last("Service", "StartLimitInterval")
    burst = unit.last("Unit", "StartLimitBurst") or unit.last("Service", "StartLimitBurst")
    window_s = span_s(interval.value) if interval else _LIMIT_SEC
    count = int(burst.value) if burst and burst.value.isdigit() else _LIMIT_BURST
    if window_s > 0 and count > 0:
        draft.put(burst.at if burst else at, count, "restart", "crash_limit")
        text = _STOP_FOREVER if window_s == float("inf") else format_duration(window_s)
        draft.put(interval.at if interval else at, text, "restart", "crash_window")


def _timeouts(draft: UnitDraft, findings: Findings) -> None:
    both = draft.unit.last("Service", "TimeoutSec")
    stop = draft.unit.last("Service", "TimeoutStopSec") or both
    start = draft.unit.last("Service", "TimeoutStartSec") or both

    def set_stop() -> None:
        stop_s = span_s(stop.value) if stop else _STOP_SEC
        at = stop.at if stop else draft.at
        if stop_s in (0.0, float("inf")):  # both mean: no end
            findings.note(at, f"duende always kills in the end; {_STOP_FOREVER} is written")
        text = _STOP_FOREVER if stop_s in (0.0, float("inf")) else format_duration(stop_s)
        draft.put(at, text, "shutdown_timeout")

    def set_start() -> None:
        start_s = span_s(start.value) if start else _STOP_SEC
        text = "0s" if start_s == float("inf") else format_duration(start_s)
        draft.put(start.at if start else draft.at, text, "start_timeout")

    _attempt(stop.at if stop else draft.at, findings, set_stop)
    if start is not None or draft.get("ready") == "notify":
        _attempt(start.at if start else draft.at, findings, set_start)


def join(drafts: Sequence[Draft], findings: Findings) -> None:
    """The order between units that were imported together."""
    units = {draft.unit.name: draft for draft in drafts if isinstance(draft, UnitDraft)}
    for draft in units.values():
        unit = draft.unit
        afters = {name for one in unit.all("Unit", "After") for name in one.value.split()}
        for one in unit.all("Unit", *_ORDERING):
            for name in one.value.split():
                _edge(draft, units.get(name), name, one.key, one.at, afters, findings)
        for one in unit.all("Unit", "OnFailure"):
            _on_failure(draft, one, units, findings)


def _edge(
    draft: UnitDraft, other: UnitDraft | None, name: str, key: str, at: Origin, afters: set[str], findings: Findings
) -> None:
    if other is None:
        if name.endswith((".target", ".slice")):
            findings.note(at, f"{name}: the machine is up when duende is started")
        elif key in ("After", "Requires"):
            findings.drop(at, f"{name} is not imported", f"import both: duende import {draft.unit.name} {name}")
        else:
            findings.note(at, f"{name} is not imported; nothing waits for it")
        return
    if other is draft:
        return
    if key == "After":
        draft.put(at, _condition(other), "after", other.name)
    elif key == "Before":
        other.put(at, _condition(draft), "after", draft.name)
    elif key == "Requires" and name not in afters:
        reason = f"both start at once, and the end of {name} does not stop this one"
        findings.drop(at, reason, f"After={name} orders them")


def _on_failure(draft: UnitDraft, one: Setting, units: Mapping[str, UnitDraft], findings: Findings) -> None:
    """The unit is started then, and not with the stack."""
    name, *more = one.value.split()
    other = units.get(name)
    if other is None or more:
        reason = f"{name} is not imported" if other is None else "duende starts one daemon, not several"
        findings.drop(one.at, reason, f"import both, or write on_failure: duende import {draft.unit.name} {name}")
        return
    draft.put(one.at, other.name, "on_failure", "start")
    other.put(one.at, False, "autostart")


def _condition(draft: UnitDraft) -> str:
    kind = draft.unit.last("Service", "Type")
    return "completed" if kind and kind.value == "oneshot" else "ready"
