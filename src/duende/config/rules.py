"""What must hold between fields of one daemon, and between the daemons of a stack. Pure: the machine is not asked.

Each rule gives findings `(key path, reason, hint)`; the loader and check.py add file and line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from duende.config.daemon import Condition, DaemonConfig
from duende.config.ladders import ladder_problem
from duende.config.locate import KeyPath
from duende.config.paths import NAME_MAX_CHARS
from duende.config.probes import liveness_of, probe_findings
from duende.config.schema import near_hint
from duende.config.times import zone_of
from duende.model.restart import BackoffConfig, RestartPolicy
from duende.model.schedule import ScheduleConfig
from duende.model.signals import Signal

__all__ = ["Finding", "daemon_findings", "stack_findings"]

Finding: TypeAlias = tuple[KeyPath, str, str]

_PLAIN_BACKOFF = (BackoffConfig().initial_delay, BackoffConfig().max_delay, BackoffConfig().multiplier)
_DEFAULT = DaemonConfig("default", command=("true",))
_NOT_ENDING = (Signal.STOP, Signal.CONT)


def daemon_findings(config: DaemonConfig) -> Iterator[Finding]:
    """Contradictions inside one daemon."""
    if config.command is None and config.daemon is None:
        yield (), "has neither `command` nor `daemon`", 'write command = "PROGRAM …" or daemon = "package.module:Class"'
    if config.command is not None and config.daemon is not None:
        yield ("daemon",), "only one of command, daemon, binary_path can be set", ""
    if config.settings and config.daemon is None:
        reason = "settings are for a Python class, and this daemon is a command"
        yield ("settings",), reason, "pass them as arguments or env"
    if config.stop_signal in _NOT_ENDING:
        yield ("stop_signal",), f"{config.stop_signal.full_name} never ends a program", 'use "SIGTERM"'
    if config.stop and (config.stop_signal is not Signal.TERM or config.shutdown_timeout != _DEFAULT.shutdown_timeout):
        reason = "stop says all: stop_signal and shutdown_timeout can't be set besides"
        yield ("stop",), reason, "write them as its first step"
    if config.stop and (problem := ladder_problem(config.stop)):  # of a configuration built by hand
        yield ("stop",), problem, ""
    if config.name in config.after:
        yield ("after",), f"a daemon can't wait for itself ({config.name})", ""
    if config.replicas > 1:
        yield from _replica_findings(config)
    yield from _restart_findings(config)
    if config.schedule is not None:
        for at, reason, hint in _schedule_findings(config, config.schedule):
            yield ("schedule", *at), reason, hint
    if config.on_failure is not None and (config.on_failure.start is None) == (config.on_failure.command is None):
        yield ("on_failure",), "exactly one of start and command must be set", 'write on_failure = "NAME"'
    yield from probe_findings(config)


def _replica_findings(config: DaemonConfig) -> Iterator[Finding]:
    if config.pid_file is not None and "{instance}" not in str(config.pid_file):
        yield ("pid_file",), f"{config.replicas} replicas would share one pid file", "write {instance} into its name"
    longest = f"{config.name}.{config.replicas}"
    if len(longest) > NAME_MAX_CHARS:
        reason = f"the name {longest} is longer than {NAME_MAX_CHARS} characters"
        yield ("replicas",), reason, "shorten the daemon's name"


def _restart_findings(config: DaemonConfig) -> Iterator[Finding]:
    restart = config.restart
    backoff = restart.backoff
    if restart.policy is RestartPolicy.MAX_RETRIES and backoff.max_retries is None:
        hint = 'write restart = { policy = "max-retries", max_retries = 5 }'
        yield ("restart",), 'the policy "max-retries" needs max_retries', hint
    if backoff.delays and (backoff.initial_delay, backoff.max_delay, backoff.multiplier) != _PLAIN_BACKOFF:
        yield ("restart", "delays"), "delays says all: delay, max_delay and multiplier can't be set besides", ""
    if backoff.initial_delay > backoff.max_delay:
        reason = f"is less than delay ({backoff.max_delay:g} s < {backoff.initial_delay:g} s)"
        yield ("restart", "max_delay"), reason, ""
    if both := sorted(restart.success_exit_codes & restart.permanent_exit_codes):
        codes = ", ".join(map(str, both))
        yield ("restart", "success_exit_codes"), f"{codes} can't be both a success and permanent", ""


def _schedule_findings(config: DaemonConfig, schedule: ScheduleConfig) -> Iterator[Finding]:
    from duende.core.schedule import shortest_gap_s  # here: most stacks have no schedule

    if (schedule.cron is None) == (schedule.every is None):
        reason = "has neither `cron` nor `every`" if schedule.cron is None else "only one of cron, every can be set"
        yield (), reason, 'write schedule = "*/5 * * * *" or every = "5m"'
        return
    if config.restart.policy in (RestartPolicy.ALWAYS, RestartPolicy.UNLESS_STOPPED):
        reason = f'restart = "{config.restart.policy.value}" would start every run again when it has ended'
        yield (), reason, 'use restart = "on-failure", "max-retries" or "never"'
    if schedule.every is not None and schedule.timezone is not None:
        yield ("timezone",), "means nothing to `every`, which does not follow the wall clock", ""
    gap_s = shortest_gap_s(schedule.cron) if schedule.cron is not None else schedule.every or 0.0
    if schedule.jitter >= gap_s:
        reason = f"{schedule.jitter:g} s is not less than the time between two slots ({gap_s:g} s)"
        yield ("jitter",), reason, ""
    if schedule.cron is not None and schedule.timezone is None:
        try:
            zone_of(None)  # the one question to the machine: without an answer it would never run
        except ValueError as error:
            yield (), str(error), ""


def stack_findings(daemons: Mapping[str, DaemonConfig]) -> Iterator[Finding]:
    """Contradictions between daemons. `daemons` is the stack before its replicas are expanded."""
    base_of = {name: name for name in daemons}
    for name, config in daemons.items():
        if config.replicas <= 1:
            continue
        for number in range(1, config.replicas + 1):
            replica = f"{name}.{number}"
            if replica in daemons:
                yield ("daemon", replica), f"is also the name of a replica of {name}", "rename one of the two"
            base_of.setdefault(replica, name)
    pid_files: dict[str, str] = {}
    for name, config in daemons.items():
        yield from _after_findings(config, daemons, base_of)
        if config.pid_file is not None and (other := pid_files.setdefault(str(config.pid_file), name)) != name:
            yield ("daemon", name, "pid_file"), f"is also the pid file of {other}: {config.pid_file}", ""
    edges = {
        name: [base_of[target] for target in config.after if target in base_of and base_of[target] != name]
        for name, config in daemons.items()
        if config.after
    }
    yield from _on_failure_findings(daemons, base_of)
    for cycle in _cycles(edges):
        yield ("daemon", cycle[0], "after"), f"the daemons wait for each other: {' -> '.join([*cycle, cycle[0]])}", ""


def _after_findings(
    config: DaemonConfig, daemons: Mapping[str, DaemonConfig], base_of: Mapping[str, str]
) -> Iterator[Finding]:
    for target, condition in config.after.items():
        at: KeyPath = ("daemon", config.name, "after", target)
        base = base_of.get(target)
        if base is None:
            yield at, f"there is no daemon {target}", near_hint(target, list(daemons))
            continue
        if base == config.name and target != config.name:
            yield at, f"a daemon can't wait for its own replica {target}", ""
        if condition is Condition.HEALTHY and liveness_of(daemons[base]) is None:
            yield at, f"{target} has no health check, so it would never be healthy", 'wait for "ready", or add a check'


def _on_failure_findings(daemons: Mapping[str, DaemonConfig], base_of: Mapping[str, str]) -> Iterator[Finding]:
    starts = {
        name: config.on_failure.start
        for name, config in daemons.items()
        if config.on_failure is not None and config.on_failure.start is not None
    }
    for name, target in starts.items():
        at: KeyPath = ("daemon", name, "on_failure")
        if target not in base_of:
            yield at, f"there is no daemon {target}", near_hint(target, list(daemons))
        elif base_of[target] == name:
            yield at, "a daemon that has failed can't be its own remedy", "see its restart policy"
    edges = {
        name: [base_of[target]] for name, target in starts.items() if target in base_of and base_of[target] != name
    }
    for cycle in _cycles(edges):
        shown = " -> ".join([*cycle, cycle[0]])
        yield ("daemon", cycle[0], "on_failure"), f"the daemons would start each other for ever: {shown}", ""


def _cycles(edges: Mapping[str, list[str]]) -> Iterator[list[str]]:
    """One cycle for each edge that closes one, by depth-first search without recursion (a chain may be long)."""
    done: set[str] = set()
    for root in edges:
        trail: list[str] = []
        on_trail: dict[str, int] = {}
        work: list[tuple[str, Iterator[str]]] = []
        if root not in done:
            work.append((root, iter(edges[root])))
            on_trail[root] = 0
            trail.append(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target in on_trail:
                    yield trail[on_trail[target] :]
                elif target not in done and target in edges:
                    on_trail[target] = len(trail)
                    trail.append(target)
                    work.append((target, iter(edges[target])))
                    break
            else:
                work.pop()
                done.add(node)
                on_trail.pop(node)
                trail.pop()
