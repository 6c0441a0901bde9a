"""The one table of what may stand in `duende.toml`: it drives reading, checking, the JSON Schema and the reference.

A `Section` is a TOML table: its fields, how it may be abbreviated, and how the read values become one of the values of
daemon.py. To add a field, add it to the dataclass and write one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from duende.config import containers, kinds, texts
from duende.config.daemon import HealthCheckConfig, KillMode, LogConfig, LogFormat, ReadyConfig
from duende.config.kinds import MISSING, Kind, Reader, WrongType, duration, integer, number, size
from duende.config.locate import KeyPath
from duende.model.limits import ResourceConfig
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy

__all__ = ["DAEMON", "HEALTH_CHECK", "LOG", "READY", "RESOURCES", "RESTART", "SECTIONS", "STACK", "Field", "Section"]

PERMANENT_EXIT_CODE = 125  # always permanent: our worker's «this can never work», as `docker run` and `timeout` use it
_COUNT_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Field:
    """One key. `attribute` is the dotted place of its value in the configuration; empty: folded into others."""

    key: str
    kind: Kind
    about: str  # for the reference and for editors
    default: str = ""  # as one would write it in the file
    attribute: str | None = None  # None: the same as the key
    section: Section | None = None

    @property
    def target(self) -> str:
        """The attribute that the value goes to."""
        return self.key if self.attribute is None else self.attribute


@dataclass(frozen=True, slots=True)
class Section:
    """One TOML table. `words` maps abbreviations (`restart = "always"`) to the table they stand for."""

    name: str
    about: str
    fields: tuple[Field, ...]
    make: Callable[[dict[str, Any]], Any]
    result: type = dict
    words: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    one_of: tuple[str, ...] = ()  # at most one of these may be set
    by_key: dict[str, Field] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_key", {entry.key: entry for entry in self.fields})

    def read_fields(self, reader: Reader, at: KeyPath, table: Mapping[str, Any]) -> dict[str, Any]:
        """The read values by key, without those that are unknown or wrong (each recorded)."""
        values = {}
        for key, value in table.items():
            entry = self.by_key.get(key)
            if entry is None:
                reader.fail((*at, key), "unknown key", self.hint_for(key))
            elif (read := reader.read(entry.kind, (*at, key), value)) is not MISSING:
                values[key] = read
        given = [key for key in self.one_of if values.get(key) not in (None, False)]
        if len(given) > 1:
            reason = f"only one of {', '.join(self.one_of)} can be set, found {' and '.join(given)}"
            reader.fail((*at, given[1]), reason)
        return values

    def hint_for(self, key: str) -> str:
        """What was probably meant by an unknown key."""
        return near_hint(key, list(self.by_key), _OTHER_TOOLS if self.name == "daemon" else {})

    def kind(self) -> Kind:
        """The section as a kind of value."""

        def read(reader: Reader, at: KeyPath, value: object) -> Any:
            if isinstance(value, str) and self.words:
                if value not in self.words:
                    known = ", ".join(f'"{word}"' for word in self.words)
                    raise ValueError(f'"{value[:60]}" is not one of {known}')
                value = self.words[value]
            if not isinstance(value, dict):
                raise WrongType
            failed_before = len(reader.problems)
            values = self.read_fields(reader, at, value)
            return self.make(values) if len(reader.problems) == failed_before else MISSING

        expected = "a table" + (" or one of " + ", ".join(f'"{word}"' for word in self.words) if self.words else "")
        return Kind("table", expected, {"$ref": f"#/$defs/{self.name}"}, read, (self.result,))


# Names that people bring from systemd, supervisor, Docker Compose, pm2 and others.
_OTHER_TOOLS = {
    "cmd": "command", "exec": "command", "exec_start": "command", "execstart": "command", "script": "command",
    "class": "daemon", "environment": "env", "environment_file": "env_file", "env_files": "env_file",
    "directory": "working_dir", "cwd": "working_dir", "chdir": "working_dir", "working_directory": "working_dir",
    "depends_on": "after", "requires": "after", "wants": "after", "autorestart": "restart", "restart_policy": "restart",
    "stopsignal": "stop_signal", "stopwaitsecs": "shutdown_timeout", "stop_timeout": "shutdown_timeout",
    "stop_grace_period": "shutdown_timeout", "kill_timeout": "shutdown_timeout", "numprocs": "replicas",
    "instances": "replicas", "limits": "resources", "logging": "log", "healthcheck": "health_check",
    "readiness": "ready", "startsecs": "start_timeout", "uid": "user", "gid": "group", "pidfile": "pid_file",
    "priority": "nice", "enabled": "autostart", "health": "health_check", "depends": "after",
}  # fmt: skip


def near_hint(word: str, known: list[str], synonyms: Mapping[str, str] | None = None) -> str:
    """`did you mean …?` for the nearest of `known`; empty when nothing is near."""
    import difflib  # here: only wrong files pay for it

    plain = word.lower().replace("-", "_")[:80]
    if synonyms and plain in synonyms:
        return f"did you mean `{synonyms[plain]}`?"
    by_plain = {name.lower().replace("-", "_"): name for name in known}
    near = difflib.get_close_matches(plain, by_plain, n=1, cutoff=0.6)
    return f"did you mean `{by_plain[near[0]]}`?" if near else ""


def _make_restart(values: dict[str, Any]) -> RestartConfig:
    backoff = {"initial_delay": values.get("delay", values.get("initial_delay"))}
    backoff |= {key: values.get(key) for key in ("max_delay", "multiplier", "max_retries", "jitter")}
    given = {key: value for key, value in backoff.items() if value is not None}
    if "initial_delay" in given and "max_delay" not in given:  # a long delay without a bound is not cut to the default
        given["max_delay"] = max(BackoffConfig().max_delay, given["initial_delay"])
    plain = ("policy", "reset_after", "crash_limit", "crash_window")
    rest: dict[str, Any] = {key: values[key] for key in plain if key in values}
    if "success_exit_codes" in values:
        rest["success_exit_codes"] = values["success_exit_codes"]
    permanent = values.get("permanent_exit_codes", frozenset()) | {PERMANENT_EXIT_CODE}
    return RestartConfig(backoff=BackoffConfig(**given), permanent_exit_codes=permanent, **rest)


RESOURCES = Section(
    "resources",
    "What one instance may use. A missing key or 0 sets no limit of ours.",
    (
        Field("memory_bytes", size(), "memory, without swap"),
        Field("memory_swap_bytes", size(), "swap beside the memory"),
        Field("cpu_quota_percent", number(0, 409600), "percent of one CPU; 150 is one and a half"),
        Field("cpu_shares", integer(0, 262144), "weight against others, 2 to 262144; the usual weight is 1024"),
        Field("io_read_bps", size(rate=True), "reading, bytes per second"),
        Field("io_write_bps", size(rate=True), "writing, bytes per second"),
        Field("pids_max", integer(0, 2**22), "processes and threads"),
        Field("open_files_max", integer(0, 2**30), "open files of each process (RLIMIT_NOFILE)"),
        Field("core_size_bytes", size(), "size of a core dump (RLIMIT_CORE)"),
        Field("lock_memory", kinds.boolean, "keep the memory from being swapped out (mlockall)", "false"),
        Field("lock_memory_required", kinds.boolean, "refuse to start when it can't be locked", "false"),
    ),
    lambda values: ResourceConfig(**values),
    ResourceConfig,
)

HEALTH_CHECK = Section(
    "health_check",
    "A check that is repeated while the daemon runs. Without `http`, `tcp` and `exec`, a Python class is asked itself.",
    (
        Field("http", texts.url, "healthy when this URL answers 2xx or 3xx"),
        Field("tcp", texts.address, "healthy when HOST:PORT accepts"),
        Field("exec", containers.command, "healthy when this command exits with 0"),
        Field("interval", duration(positive=True), "from one check to the next", '"10s"'),
        Field("timeout", duration(positive=True), "how long one check may take", '"1s"'),
        Field("retries", integer(1, _COUNT_MAX), "failures in a row until unhealthy", "3"),
        Field("enabled", kinds.boolean, "false switches the check off", "true"),
        Field("restart", kinds.boolean, "restart the daemon when it is unhealthy", "false"),
    ),
    lambda values: HealthCheckConfig(**values),
    HealthCheckConfig,
    one_of=("http", "tcp", "exec"),
)

READY = Section(
    "ready",
    "When the daemon counts as ready. Without it: as soon as it is executed; a Python class says so itself.",
    (
        Field("notify", kinds.boolean, "it says READY=1 by sd_notify(3)", "false"),
        Field("tcp", texts.address, "when HOST:PORT accepts"),
        Field("http", texts.url, "when this URL answers 2xx or 3xx"),
        Field("unix", texts.path_text, "when this Unix socket accepts"),
        Field("exec", containers.command, "when this command exits with 0"),
        Field("interval", duration(positive=True), "between tries", '"100ms"'),
    ),
    lambda values: ReadyConfig(**values),
    ReadyConfig,
    words={"notify": {"notify": True}},
    one_of=("notify", "tcp", "http", "unix", "exec"),
)

RESTART = Section(
    "restart",
    "Whether and when an ended daemon is started again. A table without `policy` means `on-failure`.",
    (
        Field("policy", kinds.choice(RestartPolicy), "which ends lead to a restart", '"on-failure"'),
        Field(
            "delay",
            duration(),
            "before the first restart of a row; the later ones of a row wait 100 ms at least",
            '"100ms"',
            "backoff.initial_delay",
        ),
        Field("initial_delay", duration(), "another name of `delay`", attribute=""),
        Field("multiplier", number(1, 1000), "growth from one delay to the next", "2.0", "backoff.multiplier"),
        Field("max_delay", duration(), "no delay is longer; at least `delay`", '"30s"', "backoff.max_delay"),
        Field("max_retries", integer(0, _COUNT_MAX), "restarts in a row; missing: no limit", "", "backoff.max_retries"),
        Field("jitter", number(0, 1), "share of the delay that chance adds or takes", "0.1", "backoff.jitter"),
        Field("reset_after", duration(), "a run this long ends the row", '"1m"'),
        Field("crash_limit", integer(0, _COUNT_MAX), "failures within `crash_window` that end it; 0: no limit", "0"),
        Field("crash_window", duration(positive=True), "see `crash_limit`", '"1m"'),
        Field("success_exit_codes", containers.exit_codes, "exit codes that are no failure", "[0]"),
        Field("permanent_exit_codes", containers.exit_codes, "exit codes that no restart mends, besides 125", "[]"),
    ),
    _make_restart,
    RestartConfig,
    # A word alone can't say how many retries.
    words={
        word: {"policy": word}
        for word, policy in kinds.spellings(RestartPolicy).items()
        if policy is not RestartPolicy.MAX_RETRIES
    },
    one_of=("delay", "initial_delay"),
)

LOG = Section(
    "log",
    "What becomes of standard output and standard error. 0 switches a bound off.",
    (
        Field("format", kinds.choice(LogFormat), "how a line is written", '"text"'),
        Field("directory", kinds.path, "where the files are; missing: the stack's log directory"),
        Field("max_size", size(), "a file is rotated at this size", '"10MiB"'),
        Field("max_age", duration(), "a file is rotated at this age", '"1w"'),
        Field("keep", integer(0, 1_000_000), "how many rotated files are kept", "5"),
        Field("total_size", size(), "of all rotated files together", "0"),
        Field("compress", kinds.boolean, "compress rotated files (gzip)", "true"),
    ),
    lambda values: LogConfig(**values),
    LogConfig,
)

_PROGRAM = (
    Field("command", containers.command, "program and arguments: a list, or a string quoted as for a shell"),
    Field("daemon", texts.daemon_class, 'a Python class instead: `"package.module:Class"` or `"file.py:Class"`'),
    Field("settings", containers.settings, "for the class, in its `init`; dates arrive as ISO 8601 text", "{}"),
    Field("binary_path", texts.program, "the program in the seed's form; without a slash, searched on PATH"),
    Field("args", containers.arguments, "further arguments", "[]"),
    Field("config_path", kinds.path, "the daemon's own configuration file, for the class's `init`"),
    Field("version", kinds.text, "the daemon's version, for labels", '"0.0.0"'),
    Field("description", kinds.text, "for people", '""'),
)
_ENVIRONMENT = (
    Field("env", containers.env, "variables; numbers and booleans become text (`8080`, `true`)", "{}"),
    Field("env_file", containers.env_file, "files of KEY=VALUE; `env` wins; `-PATH` may be missing", "[]", ""),
    Field("clean_env", kinds.boolean, "pass nothing of the manager's environment on", "false"),
    Field("user", texts.account, "the user to run as (the manager must be root)"),
    Field("group", texts.account, "the group to run as; missing: the user's"),
    Field("umask", kinds.umask, 'mask of new files, octal: `"022"`'),
    Field("nice", integer(-20, 19), "scheduling niceness"),
    Field("working_dir", kinds.path, "working directory; missing: the folder of `duende.toml`"),
)
_LIFECYCLE = (
    Field("start_timeout", duration(), "from the start until ready; 0: no limit", '"1m"'),
    Field("shutdown_timeout", duration(), "from the stop signal until SIGKILL", '"10s"'),
    Field("stop_signal", kinds.signal, "what asks it to stop", '"SIGTERM"'),
    Field("reload_signal", kinds.signal, "what `duende reload` sends", '"SIGHUP"'),
    Field("kill_mode", kinds.choice(KillMode), "whom a stop reaches, in systemd's words", '"mixed"'),
    Field("autostart", kinds.boolean, "start it with the stack", "true"),
    Field("after", containers.after, "wait for these; a list means `ready`", "{}"),
    Field("replicas", integer(0, 10_000), "how many instances; `{instance}` in its strings is the number, from 1", "1"),
    Field("pid_file", kinds.path, "written while it runs"),
    Field("platform", texts.platform, "where instances live", '"native"'),
)


def _section_field(section: Section, about: str) -> Field:
    return Field(section.name, section.kind(), about, section=section)


DAEMON = Section(
    "daemon",
    "One daemon. Exactly one of `command`, `daemon` and `binary_path` is set.",
    (
        *_PROGRAM,
        *_ENVIRONMENT,
        *_LIFECYCLE,
        _section_field(RESTART, "whether and when it is started again; a policy, or a table"),
        _section_field(READY, '`"notify"`, or a table'),
        _section_field(HEALTH_CHECK, "a repeated check"),
        _section_field(RESOURCES, "limits"),
        _section_field(LOG, "its output"),
    ),
    dict,
    one_of=("command", "daemon", "binary_path"),
)

STACK = Section(
    "stack",
    "The stack as a whole. It may stand only in the main file.",
    (Field("name", texts.daemon_name, "addresses it from anywhere (`duende -s NAME`); missing: the folder's name"),),
    dict,
)

SECTIONS = (STACK, DAEMON, RESTART, READY, HEALTH_CHECK, RESOURCES, LOG)


def kind_of(at: KeyPath) -> Kind | None:
    """The kind of value at a key path such as `("daemon", "web", "restart", "delay")`; None where nothing is known."""
    if len(at) < 3 or at[0] != "daemon":
        return None
    entry = DAEMON.by_key.get(str(at[2]))
    if entry is None or len(at) == 3:
        return entry.kind if entry else None
    if entry.key == "env" and len(at) == 4:
        return kinds.text
    sub = entry.section.by_key.get(str(at[3])) if entry.section and len(at) == 4 else None
    return sub.kind if sub else None
