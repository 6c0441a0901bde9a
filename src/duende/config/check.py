"""What is wrong with a configuration beyond its spelling: hand-built values, this machine, the limits of exec.

Three questions, asked at different times: `problems_of` (is this value sound? `DaemonConfig.validate`),
`machine_findings` (can it run here and now? `duende check`; not asked while loading, since a program may appear later),
and `environment_problems` (will execve(2) accept it? asked before each start).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from duende.config.containers import variable_name_reason
from duende.config.daemon import DaemonConfig, StackConfig
from duende.config.interpolate import expand_instance
from duende.config.layers import Origins, dotted
from duende.config.load import LoadFailed, read_stack
from duende.config.locate import KeyPath
from duende.config.paths import is_name
from duende.config.rules import Finding, daemon_findings
from duende.config.schema import DAEMON, Section
from duende.config.texts import name_problem
from duende.errors import ConfigurationError, Problem

__all__ = ["Findings", "check_file", "environment_of", "environment_problems", "find_program", "problems_of"]

# include/uapi/linux/binfmts.h: MAX_ARG_STRLEN is 32 pages; one string of argv or envp with its NUL.
_ARG_STRLEN_PAGES = 32
# fs/exec.c, bprm_stack_limits() and setup_arg_pages' figures since Linux 4.13: a quarter of the stack limit, at most
# three quarters of _STK_LIM (8 MiB), at least ARG_MAX (include/uapi/linux/limits.h). Pointers count as well as strings.
_STACK_SHARE = 4
_TOTAL_MAX_BYTES = 8 * 1024 * 1024 // 4 * 3
_ARG_MAX_BYTES = 131072
_POINTER_BYTES = 8
_IS_LINUX = os.uname().sysname == "Linux"  # elsewhere the kernel's one figure is ARG_MAX
_SHOWN_MAX = 3  # of the largest variables, in the message about the total


@dataclass(frozen=True, slots=True)
class Findings:
    """What `duende check` has to say: errors can't work, warnings are probably not what was meant."""

    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def problems_of(config: DaemonConfig) -> list[Problem]:
    """Everything that is wrong in one configuration by itself, however it was made."""
    findings: list[Finding] = []
    if not is_name(config.name):
        findings.append((("name",), name_problem(config.name), ""))
    findings += _field_findings(DAEMON, config, ())
    for key, value in config.env.items():
        if reason := variable_name_reason(key):
            findings.append((("env", key), reason, ""))
        elif not isinstance(value, str) or "\0" in value:
            findings.append((("env", key), "expected text without NUL bytes", ""))
    for word in (*(config.command or ()), *config.args):
        if not isinstance(word, str) or "\0" in word:
            findings.append((("command",), "expected strings without NUL bytes", ""))
            break
    if not findings:  # rules between fields expect fields of the right types
        findings += daemon_findings(config)
    file, _, line = config.source.rpartition(":")
    at_line = int(line) if line.isdecimal() else 0
    return [
        Problem(reason, file=file, line=at_line, key=dotted(("daemon", config.name, *at)), hint=hint)
        for at, reason, hint in findings
    ]


def _field_findings(section: Section, holder: object, at: KeyPath) -> Iterator[Finding]:
    """The checks of the schema's kinds, on values that may never have seen a file."""
    for entry in section.fields:
        if not entry.target:
            continue
        value: Any = holder
        for attribute in entry.target.split("."):
            value = getattr(value, attribute)
        here = (*at, entry.key)
        if value is None:
            continue
        types = (Mapping,) if dict in entry.kind.types else entry.kind.types
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            yield here, f"expected {entry.kind.expected}, found {value!r:.80}", ""
        elif entry.section is not None:
            yield from _field_findings(entry.section, value, here)
        elif reason := entry.kind.check(value):
            yield here, reason, ""


def check_file(
    path: str | os.PathLike[str],
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Findings:
    """Load a stack and look whether it could run on this machine; never raises for what is wrong with it."""
    environ = os.environ if environ is None else environ
    try:
        loaded = read_stack(path, environ=environ, overrides=overrides)
    except LoadFailed as error:
        return Findings(errors=_with_machine_findings(error, environ))
    except ConfigurationError as error:
        return Findings(errors=error.problems)
    errors: list[Problem] = []
    warnings: list[Problem] = []
    for config in loaded.stack.daemons.values():
        errors += _located(loaded.origins, config, machine_findings(config, environ))
        warnings += _located(loaded.origins, config, doubts(config))
    errors += hook_problems(loaded.stack, environ)
    if not loaded.stack.daemons:
        warnings.append(Problem("describes no daemon", file=os.fspath(path), hint="write a [daemon.NAME] table"))
    return Findings(tuple(errors), tuple(warnings))


def _with_machine_findings(error: LoadFailed, environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """All at once: what this machine lacks as well, save where the value itself is what is wrong."""
    told = {problem.key for problem in error.problems}
    more = []
    for config in error.partial.stack.daemons.values():
        here = f"daemon.{config.name}."
        # Without its whole environment it can't be said what is on the daemon's PATH.
        unsure = {"command", "binary_path", "env"} if any(key.startswith(f"{here}env") for key in told) else set()
        for problem in _located(error.partial.origins, config, machine_findings(config, environ)):
            if problem.key not in told and problem.key.removeprefix(here) not in unsure:
                more.append(problem)
    return tuple(sorted((*error.problems, *more), key=lambda problem: (problem.file, problem.line)))


def _located(origins: Origins, config: DaemonConfig, findings: Iterator[Finding]) -> list[Problem]:
    return [origins.problem(("daemon", config.name, *at), reason, hint) for at, reason, hint in findings]


def machine_findings(config: DaemonConfig, environ: Mapping[str, str]) -> Iterator[Finding]:
    """What this machine lacks for the daemon, as far as this user can see."""
    folder = expand_instance(str(config.working_dir or os.getcwd()), 1)
    if not os.path.isdir(folder):
        reason = "is not a directory" if os.path.lexists(folder) else "does not exist"
        yield ("working_dir",), f"{folder} {reason}", ""
    if config.command is not None:
        program = expand_instance(config.command[0], 1)
        if reason := find_program(program, environment_of(config, environ), folder)[1]:
            key = "binary_path" if config.binary_path is not None else "command"
            yield (key,), reason, ""
    elif config.daemon is not None and config.daemon.rpartition(":")[0].endswith(".py"):
        file = config.daemon.rpartition(":")[0]
        if not os.path.isfile(file):
            yield ("daemon",), f"{file} does not exist", ""
    yield from _account_findings(config)
    env = environment_of(config, environ)
    for problem in environment_problems(env, config.command or ()):
        yield ("env",), problem.reason, problem.hint


def hook_problems(stack: StackConfig, environ: Mapping[str, str]) -> Iterator[Problem]:
    """What this machine lacks for the hooks."""
    on_failure = [
        config.on_failure.hook_for(config.name, config.source)
        for config in stack.daemons.values()
        if config.on_failure is not None
    ]
    for hook in (*stack.hooks, *on_failure):
        file, _, line = hook.source.rpartition(":")
        reason = ""
        if hook.command is not None:
            reason = find_program(expand_instance(hook.command[0], 1), environ, str(stack.directory))[1]
        elif hook.secret_file is not None and not os.access(hook.secret_file, os.R_OK):
            reason = f"the secret {hook.secret_file} does not exist, or can't be read"
        if reason:
            reason = reason.replace("the daemon's PATH", "the manager's PATH")
            yield Problem(reason, file=file, line=int(line) if line.isdecimal() else 0, key=f"hook {hook.name}")


def _account_findings(config: DaemonConfig) -> Iterator[Finding]:
    import grp  # here: of no use to a load
    import pwd

    if config.user is not None and not config.user.isdecimal():
        try:
            pwd.getpwnam(config.user)
        except KeyError:
            yield ("user",), f"there is no user {config.user}", ""
    if config.group is not None and not config.group.isdecimal():
        try:
            grp.getgrnam(config.group)
        except KeyError:
            yield ("group",), f"there is no group {config.group}", ""


def doubts(config: DaemonConfig) -> Iterator[Finding]:
    """What is allowed and probably not meant."""
    operators = {"|", "||", "&", "&&", ";", ">", ">>", "<", "2>&1"}
    if shell := [word for word in config.command or () if word in operators]:
        hint = 'for a shell, write ["sh", "-c", "…"]'
        yield ("command",), f"`{shell[0]}` is passed on as an argument: there is no shell", hint
    if config.replicas > 1 and not _mentions_instance(config):
        reason = "all replicas are the same: do they share a port or a file?"
        yield ("replicas",), reason, "{instance} is the number"
    if config.health_check.enabled and config.health_check.timeout > config.health_check.interval:
        yield ("health_check", "timeout"), "is longer than the interval, so checks will be late", ""
    for name in ("startup", "readiness", "liveness"):
        probe = getattr(config.probe, name)
        if probe is not None and probe.timeout > probe.interval:
            yield ("probe", name, "timeout"), "is longer than the interval, so probes will be late", ""


def _mentions_instance(config: DaemonConfig) -> bool:
    texts = [*(config.command or ()), *config.env.values(), str(config.working_dir)]
    return any("{instance}" in part for part in texts) or config.daemon is not None  # a class knows its number


def environment_of(config: DaemonConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """The daemon's own variables over the manager's, or alone with `clean_env`."""
    return {**({} if config.clean_env else environ), **config.env}


def find_program(program: str, env: Mapping[str, str], folder: str) -> tuple[str | None, str]:
    """The file that exec would run, or None and why not. Without a slash: searched on the PATH of `env`.

    A relative path starts in `folder`, the daemon's working directory.
    """
    if "/" in program:
        path = os.path.join(folder, program)
        reason = _why_not_executable(path)
        return (None, reason) if reason else (path, "")
    directories = os.get_exec_path(env)
    refused = ""
    for directory in directories:
        path = os.path.join(folder, directory, program)
        reason = _why_not_executable(path)
        if not reason:
            return path, ""
        if os.path.isfile(path):
            refused = refused or reason
    return None, refused or f"there is no program {program} on the daemon's PATH ({os.pathsep.join(directories)})"


def _why_not_executable(path: str) -> str:
    if os.path.isdir(path):
        return f"{path} is a directory"
    if not os.path.exists(path):
        return f"{path} does not exist"
    return "" if os.access(path, os.X_OK) else f"{path} is not executable"


def environment_problems(
    env: Mapping[str, str], argv: Sequence[str] = (), *, stack_limit_bytes: int | None = None
) -> list[Problem]:
    """Why execve(2) would refuse these strings with E2BIG; empty when it will not. Values are never shown.

    `stack_limit_bytes` is the soft RLIMIT_STACK in force at the exec; default: this process's.
    """
    problems = []
    sizes = {key: len(os.fsencode(key)) + len(os.fsencode(value)) + 2 for key, value in env.items()}  # = and NUL
    words = [len(os.fsencode(word)) + 1 for word in argv]
    one_max = _one_max_bytes()
    for key, size_bytes in sizes.items():
        if size_bytes > one_max:
            reason = f"the variable {key[:80]} has {size_bytes} bytes; the kernel takes {one_max} in one string"
            problems.append(Problem(reason, key="env", hint="put it into a file and pass the path"))
    for number, size_bytes in enumerate(words):
        if size_bytes > one_max:
            reason = f"argument {number} has {size_bytes} bytes; the kernel takes {one_max} in one string"
            problems.append(Problem(reason, key="command", hint="put it into a file and pass the path"))
    # execve(2) counts argv[0] once more as the file's name, which may have been found on PATH: at most PATH_MAX.
    total = sum(sizes.values()) + sum(words) + _POINTER_BYTES * (len(sizes) + max(1, len(words)))
    total += words[0] if words else 0
    total_max = _total_max_bytes(stack_limit_bytes)
    if total > total_max:
        largest = sorted(sizes, key=lambda key: -sizes[key])[:_SHOWN_MAX]
        shown = ", ".join(f"{key[:80]} {sizes[key]}" for key in largest)
        reason = f"environment and arguments have {total} bytes in all; the kernel takes {total_max} (largest: {shown})"
        problems.append(Problem(reason, key="env", hint="use clean_env, or raise the stack limit (ulimit -s)"))
    return problems


def _one_max_bytes() -> int:
    return _ARG_STRLEN_PAGES * os.sysconf("SC_PAGE_SIZE") if _IS_LINUX else os.sysconf("SC_ARG_MAX")


def _total_max_bytes(stack_limit_bytes: int | None) -> int:
    if not _IS_LINUX:
        return os.sysconf("SC_ARG_MAX")
    if stack_limit_bytes is None:
        import resource  # here: only a start needs it

        stack_limit_bytes = resource.getrlimit(resource.RLIMIT_STACK)[0]
    if stack_limit_bytes < 0:  # RLIM_INFINITY
        return _TOTAL_MAX_BYTES
    return max(min(stack_limit_bytes // _STACK_SHARE, _TOTAL_MAX_BYTES), _ARG_MAX_BYTES)
