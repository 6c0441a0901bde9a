"""The one table of what may stand in `duende.toml`: it drives reading, checking, the JSON Schema and the reference.

A `Section` is a TOML table: its fields, how it may be abbreviated, and how the read values become one of the values of
daemon.py. To add a field, add it to the dataclass and write one line here.
"""

from __future__ import annotations

from typing import Any

from duende.config import containers, events, kinds, ladders, probes, texts, times
from duende.config.daemon import (
    HealthCheckConfig,
    KillMode,
    LivenessConfig,
    LogConfig,
    LogFormat,
    ProbeConfig,
    ProbesConfig,
    ReadyConfig,
    StartupConfig,
    WatchdogConfig,
)
from duende.config.hook import OnFailureConfig
from duende.config.kinds import Kind, duration, integer, number, size
from duende.config.locate import KeyPath
from duende.config.section import Field, Section, near_hint, nearest
from duende.model.limits import ResourceConfig
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy
from duende.model.schedule import Missed, Overlap, ScheduleConfig
from duende.model.thresholds import ThresholdConfig

__all__ = [
    "DAEMON", "HEALTH_CHECK", "HOOK", "LOG", "ON_FAILURE", "READY", "RESOURCES", "RESTART", "RESTART_WHEN", "SCHEDULE",
    "SECTIONS", "STACK", "Field", "Section", "near_hint", "nearest",
]  # fmt: skip

PERMANENT_EXIT_CODE = 125  # always permanent: our worker's «this can never work», as `docker run` and `timeout` use it
_COUNT_MAX = 2**31 - 1


def _make_restart(values: dict[str, Any]) -> RestartConfig:
    backoff = {"initial_delay": values.get("delay", values.get("initial_delay"))}
    backoff |= {key: values.get(key) for key in ("max_delay", "multiplier", "max_retries", "jitter", "delays")}
    given = {key: value for key, value in backoff.items() if value is not None}
    if "initial_delay" in given and "max_delay" not in given:  # a long delay without a bound is not cut to the default
        given["max_delay"] = max(BackoffConfig().max_delay, given["initial_delay"])
    plain = ("policy", "reset_after", "crash_limit", "crash_window", "retry_in")
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
    "A check that is repeated while the daemon runs: the short form of `probe.liveness`. Without a question, a Python "
    "class is asked itself.",
    (
        Field("http", texts.url, "healthy when this URL answers 2xx or 3xx"),
        Field("tcp", texts.address, "healthy when HOST:PORT accepts"),
        Field("unix", probes.unix_socket, "healthy when this Unix socket accepts"),
        Field("log_age", duration(positive=True), "healthy when it wrote a line within this time"),
        Field("exec", containers.command, "healthy when this command exits with 0"),
        Field("interval", duration(positive=True), "from one check to the next", '"10s"'),
        Field("timeout", duration(positive=True), "how long one check may take", '"1s"'),
        Field("retries", integer(1, _COUNT_MAX), "failures in a row until unhealthy", "3"),
        Field("enabled", kinds.boolean, "false switches the check off", "true"),
        Field("restart", kinds.boolean, "restart the daemon when it is unhealthy", "false"),
    ),
    lambda values: HealthCheckConfig(**values),
    HealthCheckConfig,
    one_of=("http", "tcp", "unix", "exec", "log_age"),
)

_QUESTIONS = (
    Field("http", texts.url, "passes when this URL answers 2xx or 3xx"),
    Field("tcp", texts.address, "passes when HOST:PORT accepts"),
    Field("unix", probes.unix_socket, "passes when this Unix socket accepts; `@NAME` is an abstract one"),
    Field("exec", containers.command, "passes when this command exits with 0; with none of these a class is asked"),
)


def _timing(interval: str, failures: str) -> tuple[Field, ...]:
    return (
        Field("initial_delay", duration(), "from the moment it could be asked to the first time", '"0s"'),
        Field("interval", duration(positive=True), "from one time to the next; never two at once", interval),
        Field("timeout", duration(positive=True), "how long one may take; a command ends then, with its tree", '"1s"'),
        Field("failure_threshold", integer(0, _COUNT_MAX), "failures in a row until it fails; 0: no limit", failures),
        Field("success_threshold", integer(1, _COUNT_MAX), "passes in a row until it passes", "1"),
        Field("window", integer(0, 1000), "count failures among so many answers; 0: only in a row", "0"),
    )


STARTUP = Section(
    "probe.startup",
    "Asked until it has passed once; only then readiness and liveness are asked. When it fails, the daemon is stopped "
    "and its restart policy decides.",
    (*_QUESTIONS, *_timing('"1s"', "0")),
    lambda values: StartupConfig(**values),
    StartupConfig,
    one_of=("http", "tcp", "unix", "exec"),
)

READINESS = Section(
    "probe.readiness",
    "Asked for as long as the daemon runs. Readiness may be lost and had again: `status` shows it, those who wait for "
    "`ready` see it, and nothing is restarted.",
    (*_QUESTIONS, *_timing('"10s"', "3")),
    lambda values: ProbeConfig(**values),
    ProbeConfig,
    one_of=("http", "tcp", "unix", "exec"),
)

LIVENESS = Section(
    "probe.liveness",
    "Asked for as long as the daemon runs. When it fails, `action` follows.",
    (
        *_QUESTIONS,
        Field("log_age", duration(positive=True), "passes when it wrote a line within this time"),
        *_timing('"10s"', "3"),
        Field("action", probes.action, "a restart, only an event, or a signal to the leader", '"restart"'),
    ),
    lambda values: LivenessConfig(**values),
    LivenessConfig,
    one_of=("http", "tcp", "unix", "exec", "log_age"),
)

PROBE = Section(
    "probe",
    "Probes in full, in Kubernetes' words.",
    (
        Field("startup", STARTUP.kind(), "has it started?", section=STARTUP),
        Field("readiness", READINESS.kind(), "can it do its work now?", section=READINESS),
        Field("liveness", LIVENESS.kind(), "must it be dealt with?", section=LIVENESS),
    ),
    lambda values: ProbesConfig(**values),
    ProbesConfig,
)


WATCHDOG = Section(
    "watchdog",
    "The daemon must say WATCHDOG=1 by sd_notify(3) at least this often once it is ready; a Python class does it while "
    "its `health_check` passes.",
    (
        Field("timeout", duration(positive=True), "how long it may say nothing"),
        Field("action", probes.action, "what follows: a restart, only an event, or a signal", '"restart"'),
    ),
    lambda values: WatchdogConfig(**values),
    WatchdogConfig,
    text_key="timeout",
    needs=("timeout",),
)

RESTART_WHEN = Section(
    "restart_when",
    "How much a running daemon may use, its whole tree, before it is restarted. Nothing is enforced.",
    (
        Field("memory", size(), "memory, shared pages in proportion; 0: any", "0"),
        Field("cpu", number(0, 409600), "percent of one processor; 0: any", "0.0"),
        Field("open_files", integer(0, _COUNT_MAX), "of the process that has most; 0: any", "0"),
        Field("for", duration(), "how long without a break", '"30s"', "lasting"),
    ),
    lambda values: ThresholdConfig(**{("lasting" if key == "for" else key): value for key, value in values.items()}),
    ThresholdConfig,
)

READY = Section(
    "ready",
    "When the daemon counts as ready. Without it: as soon as it is executed (`up`, `start` and `restart` look "
    "once more 100 ms later whether it has ended); a Python class says so itself.",
    (
        Field("notify", kinds.boolean, "it says READY=1 by sd_notify(3)", "false"),
        Field("fd", integer(3, 65535), "it writes a newline to this descriptor (s6's notification-fd)"),
        Field("log", probes.pattern, "a line of its output matches this regular expression"),
        Field("tcp", texts.address, "when HOST:PORT accepts"),
        Field("http", texts.url, "when this URL answers 2xx or 3xx"),
        Field("unix", probes.unix_socket, "when this Unix socket accepts; `@NAME` is an abstract one"),
        Field("exec", containers.command, "when this command exits with 0"),
        Field("interval", duration(positive=True), "between tries", '"100ms"'),
    ),
    lambda values: ReadyConfig(**values),
    ReadyConfig,
    words={"notify": {"notify": True}},
    one_of=("notify", "fd", "log", "tcp", "http", "unix", "exec"),
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
        Field("delays", ladders.durations, "a list in place of these four; its last goes on", "", "backoff.delays"),
        Field("retry_in", duration(), "one given up by crash_limit or max_retries is tried anew; 0: never", "0"),
        Field("jitter", number(0, 1), "share of the delay that chance adds or takes", "0.1", "backoff.jitter"),
        Field("reset_after", duration(), "a run this long ends the row", '"1m"'),
        Field("crash_limit", integer(0, _COUNT_MAX), "failures within `crash_window` that end it; 0: no limit", "0"),
        Field("crash_window", duration(positive=True), "see `crash_limit`", '"1m"'),
        Field("success_exit_codes", containers.exit_codes, "exit codes that are no failure", "[0]"),
        Field("permanent_exit_codes", containers.exit_codes, "exit codes that no restart mends, besides 125", "[]"),
    ),
    _make_restart,
    RestartConfig,
    words={
        word: {"policy": word}
        for word, policy in kinds.spellings(RestartPolicy).items()
        if policy is not RestartPolicy.MAX_RETRIES
    },
    not_alone={
        word: 'needs a number of retries; write restart = { policy = "max-retries", max_retries = 5 }'
        for word, policy in kinds.spellings(RestartPolicy).items()
        if policy is RestartPolicy.MAX_RETRIES
    },
    one_of=("delay", "initial_delay"),
)

SCHEDULE = Section(
    "schedule",
    "When a daemon that ends by itself is run. It is not started with the stack; its restart policy holds for a run "
    "that fails, until the next slot. Set one of `cron` and `every`.",
    (
        Field("cron", times.cron, "minute, hour, day of month, month, day of week; or `@daily` and the like"),
        Field("every", times.interval, "from one slot to the next, whatever becomes of the wall clock; at least 1s"),
        Field("timezone", times.timezone, "in which `cron` is meant; missing: the machine's"),
        Field("jitter", duration(), "each run is late by up to this, the same for the same slot", '"0s"'),
        Field("overlap", kinds.choice(Overlap), "what a slot does while the run before it is not over", '"skip"'),
        Field("missed", kinds.choice(Missed), "what becomes of slots that passed while nobody could act", '"skip"'),
    ),
    lambda values: ScheduleConfig(**values),
    ScheduleConfig,
    text_key="cron",
    one_of=("cron", "every"),
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

ON_FAILURE = Section(
    "on_failure",
    "What is done once when the daemon has finally failed (`failed`), not at each retry. Set one of `start` and "
    "`command`. Delivered as a hook's events are.",
    (
        Field("start", texts.daemon_name, "the daemon that is started"),
        Field("command", containers.command, "what is run; it gets the event as a hook's command does"),
        Field("timeout", duration(positive=True), "how long the command may take", '"30s"'),
    ),
    lambda values: OnFailureConfig(**values),
    OnFailureConfig,
    text_key="start",
    one_of=("start", "command"),
)

HOOK = Section(
    "hook",
    "Who is told what happens: a `[[hook]]` for each, in the main file or in `conf.d`. Exactly one of `command`, "
    "`webhook`, `entry_point` and `start` is set.",
    (
        Field("name", texts.daemon_name, "for `duende hooks`, and for its place in the log of events"),
        Field("on", events.event_words, "[kinds of events](events.md), globs, or a status: `status:stopped`"),
        Field("daemons", events.daemon_patterns, "only of these (names, globs); empty: all, and our own", "[]"),
        Field("command", containers.command, "gets the event as JSON on standard input, and in `DUENDE_EVENT_*`"),
        Field("webhook", texts.url, "the event is posted to it as JSON"),
        Field("entry_point", events.entry_point_name, "a function of the group `duende.hooks`, called with the event"),
        Field("start", texts.daemon_name, "a daemon that is started"),
        Field("secret_file", kinds.path, "signs a webhook's requests (HMAC-SHA256, Standard Webhooks)"),
        Field("timeout", duration(positive=True), "for one attempt", '"10s"'),
        Field("give_up_after", duration(), "how long a failure is tried again; missing: 1h for a webhook, else 0"),
    ),
    dict,
    one_of=("command", "webhook", "entry_point", "start"),
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
    Field("stop", ladders.stop_ladder, 'instead of these two: `["SIGQUIT", "5s", "SIGTERM", "2s", "SIGKILL"]`'),
    Field("reload_signal", kinds.signal, "what `duende reload` sends", '"SIGHUP"'),
    Field("reload_command", containers.command, "what `duende reload` runs instead; `MAINPID` is the daemon's"),
    Field("reload_timeout", duration(), "how long that may take; 0: no limit", '"1m"'),
    Field("kill_mode", kinds.choice(KillMode), "whom a stop reaches, in systemd's words", '"mixed"'),
    Field("autostart", kinds.boolean, "start it with the stack", "true"),
    Field("essential", kinds.boolean, "when it ends for good the stack is stopped, with its exit code", "false"),
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
        Field("every", times.interval, "the same as `schedule = { every = … }`", attribute=""),
        _section_field(SCHEDULE, "when it is run, if not with the stack; a cron expression, or a table"),
        _section_field(ON_FAILURE, "done once when it has finally failed; a daemon to start, or a table"),
        _section_field(RESTART_WHEN, "what it may use before it is restarted"),
        _section_field(READY, '`"notify"`, or a table'),
        _section_field(HEALTH_CHECK, "a repeated check"),
        _section_field(PROBE, "startup, readiness and liveness apart"),
        _section_field(WATCHDOG, "how long it may give no sign of life; a duration, or a table"),
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

SECTIONS = (
    STACK, DAEMON, RESTART, RESTART_WHEN, ON_FAILURE, SCHEDULE, READY, HEALTH_CHECK, PROBE, STARTUP, READINESS,
    LIVENESS, WATCHDOG, RESOURCES, LOG, HOOK,
)  # fmt: skip


def kind_of(at: KeyPath) -> Kind | None:
    """The kind of value at a key path such as `("daemon", "web", "restart", "delay")`; None where nothing is known."""
    if len(at) < 3 or at[0] != "daemon":
        return None
    if at[2] == "env" and len(at) == 4:
        return kinds.text
    entry: Field | None = None
    section: Section | None = DAEMON
    for part in at[2:]:
        entry = section.by_key.get(str(part)) if section else None
        section = entry.section if entry else None
    return entry.kind if entry else None
