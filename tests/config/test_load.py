"""Loading: examples of what works, and of every error with its file, line, key, reason and hint."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duende.config.daemon import (
    DaemonConfig,
    KillMode,
    LivenessConfig,
    LogFormat,
    ProbeAction,
    ProbeConfig,
    ProbesConfig,
    ReadyConfig,
    StackConfig,
    StartupConfig,
    WatchdogConfig,
)
from duende.config.kinds import Reader
from duende.config.layers import Layer, in_stack_shape
from duende.config.load import _daemon, _load, load_stack, load_text
from duende.config.schema import DAEMON
from duende.errors import ConfigurationError, Problem
from duende.model.condition import Condition
from duende.model.restart import RestartPolicy
from duende.model.schedule import Missed, Overlap, ScheduleConfig
from duende.model.signals import Signal

SHOP = """\
[stack]
name = "shop"

[daemon.cache]
command = ["redis-server", "--port", "6390"]
ready = { tcp = "127.0.0.1:6390" }
restart = { policy = "always", delay = "0s", multiplier = 2.0, max_delay = "30s", jitter = 0.1, reset_after = "1m" }
stop_signal = "SIGTERM"
shutdown_timeout = "10s"

[daemon.web]
daemon = "shop.web:Web"
settings = { port = 8080 }
after = { cache = "ready" }
env = { LOG_LEVEL = "info" }
resources = { memory_bytes = "512MiB", cpu_quota_percent = 50, open_files_max = 1024 }
health_check = { http = "http://127.0.0.1:8080/healthz", interval = "5s", timeout = "1s", retries = 3 }
log = { format = "json", max_size = "10MiB", keep = 5, compress = true }
replicas = 2
platform = "native"
"""


def load(text: str, **environ: str) -> StackConfig:
    return load_text(text, label="duende.toml", directory="/srv/shop", environ=environ)


def one(body: str, **environ: str) -> DaemonConfig:
    return load(f"[daemon.x]\n{body}", **environ).daemons["x"]


def errors(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(text, **environ)
    return [str(problem) for problem in caught.value.problems]


def test_the_example_of_the_design_loads() -> None:
    stack = load(SHOP)
    assert (stack.name, list(stack.daemons), stack.directory) == ("shop", ["cache", "web"], Path("/srv/shop"))
    cache, web = stack.daemons.values()
    assert cache.command == ("redis-server", "--port", "6390")
    assert cache.ready.tcp == "127.0.0.1:6390"
    assert (cache.restart.policy, cache.restart.backoff.initial_delay) == (RestartPolicy.ALWAYS, 0.0)
    assert (cache.stop_signal, cache.source) == (Signal.TERM, "duende.toml:4")
    assert (web.daemon, dict(web.settings)) == ("shop.web:Web", {"port": 8080})
    assert dict(web.after) == {"cache": Condition.READY}
    assert web.resources.memory_bytes == 512 * 1024**2
    assert (web.health_check.interval, web.log.format, web.replicas) == (5.0, LogFormat.JSON, 2)
    assert web.working_dir == Path("/srv/shop")


def test_the_shape_of_the_seed_loads() -> None:
    text = """
        name = "web"
        version = "1.2.3"
        description = "The shop"
        binary_path = "/usr/bin/web"
        config_path = "web.conf"
        args = ["-v", "--port", 80]
        user = "www"
        group = 33
        working_dir = "/var/www"
        shutdown_timeout = 30
        platform = "native"
        [env]
        A = "1"
        [resources]
        memory_bytes = 1048576
        lock_memory = true
        [health_check]
        enabled = true
        interval = 30
        timeout = 2.5
        retries = 4
        [restart]
        policy = "on_failure"
        initial_delay = 1
        max_retries = 5
        """
    stack = load(text)
    config = stack.daemons["web"]
    assert stack.name == "web"
    assert config.command == ("/usr/bin/web", "-v", "--port", "80")
    assert (config.binary_path, config.config_path) == (Path("/usr/bin/web"), Path("/srv/shop/web.conf"))
    assert (config.user, config.group, config.shutdown_timeout) == ("www", "33", 30.0)
    assert (config.health_check.timeout, config.health_check.retries) == (2.5, 4)
    assert config.restart.policy is RestartPolicy.ON_FAILURE
    assert (config.restart.backoff.initial_delay, config.restart.backoff.max_retries) == (1.0, 5)


FIELDS: list[tuple[Any, ...]] = [
    ("command = 'a \"b c\" d\\ e'", "command", ("a", "b c", "d e")),
    ("command = '  a   b '", "command", ("a", "b")),
    ('command = "run ${WHAT}"', "command", ("run", "two words")),
    ('command = ["a", ""]', "command", ("a", "")),
    ('command = "a"\nargs = ["b"]', "command", ("a", "b")),
    ('binary_path = "redis"', "command", ("redis",)),
    ('binary_path = "bin/x"\nargs = ["b"]', "command", ("/srv/shop/bin/x", "b")),
    ('daemon = "a.b:C"', "daemon", "a.b:C"),
    ('daemon = "x.py:C"', "daemon", "/srv/shop/x.py:C"),
    ('command = "a"\nenv = { A = 1, B = true, C = 0.5, D = "${WHAT}" }', "env",
     {"A": "1", "B": "true", "C": "0.5", "D": "two words"}),
    ('command = "a"\numask = "027"', "umask", 0o027),
    ('command = "a"\numask = 0o027', "umask", 0o027),
    ('command = "a"\nnice = -5', "nice", -5),
    ('command = "a"\nstop_signal = "int"', "stop_signal", Signal.INT),
    ('command = "a"\nstop_signal = 3', "stop_signal", Signal.QUIT),
    ('command = "a"\nkill_mode = "control_group"', "kill_mode", KillMode.CONTROL_GROUP),
    ('command = "a"\npid_file = "~/x.pid"', "pid_file", Path("/home/me/x.pid")),
    ('command = "a"\nworking_dir = "sub"', "working_dir", Path("/srv/shop/sub")),
    ('command = "a"\nclean_env = true', "clean_env", True),
    ('command = "a"\nstart_timeout = 0', "start_timeout", 0.0),
    ('daemon = "a:B"\nsettings = { d = 2020-01-02, s = ["${WHAT}"] }', "settings",
     {"d": "2020-01-02", "s": ["two words"]}),
    ('command = "a"\nschedule = " */5  * * * * "', "schedule", ScheduleConfig(cron="*/5 * * * *")),
    ('command = "a"\nevery = "5m"', "schedule", ScheduleConfig(every=300.0)),
    ('command = "a"\nschedule = { cron = "@daily", timezone = "Asia/Kolkata", jitter = "30s", overlap = "queue" }',
     "schedule", ScheduleConfig(cron="@daily", timezone="Asia/Kolkata", jitter=30.0, overlap=Overlap.QUEUE)),
    ('command = "a"\nschedule = { every = 60, missed = "once" }', "schedule",
     ScheduleConfig(every=60.0, missed=Missed.ONCE)),
    ('command = "a"\nready = { log = "^up$" }', "ready", ReadyConfig(log="^up$")),
    ('command = "a"\nready = { unix = "@name" }', "ready", ReadyConfig(unix="@name")),
    ('command = "a"\nready = { unix = "run/s" }', "ready", ReadyConfig(unix="/srv/shop/run/s")),
    ('command = "a"\nprobe.startup = { tcp = "x:1" }', "probe", ProbesConfig(StartupConfig(tcp="x:1"))),
    ('command = "a"\nprobe.liveness = { log_age = "5m", window = 5, action = "quit" }', "probe",
     ProbesConfig(liveness=LivenessConfig(log_age=300.0, window=5, action=Signal.QUIT))),
    ('daemon = "a:B"\nprobe.readiness = {}', "probe", ProbesConfig(readiness=ProbeConfig())),
    ('command = "a"\nwatchdog = 30', "watchdog", WatchdogConfig(30.0)),
    ('command = "a"\nwatchdog = { timeout = "30s", action = "tell" }', "watchdog",
     WatchdogConfig(30.0, ProbeAction.TELL)),
]  # fmt: skip


@pytest.mark.parametrize(("body", "attribute", "value"), FIELDS)
def test_fields_are_read(body: str, attribute: str, value: Any) -> None:
    assert getattr(one(body, WHAT="two words", HOME="/home/me"), attribute) == value


def test_restart_forms() -> None:
    assert one('command="a"\nrestart="always"').restart.policy is RestartPolicy.ALWAYS
    table = one('command="a"\nrestart={max_retries=3, delay="2m", permanent_exit_codes=[7]}').restart
    assert (table.policy, table.backoff.max_retries) == (RestartPolicy.ON_FAILURE, 3)
    assert table.backoff.max_delay == 120.0  # a long delay is not cut to the default bound
    assert table.permanent_exit_codes == {7, 125}


def test_a_list_of_dependencies_waits_for_readiness() -> None:
    text = '[daemon.a]\ncommand="x"\n[daemon.b]\ncommand="x"\nafter=["a"]\n[daemon.c]\ncommand="x"\nafter={a="started"}'
    stack = load(text)
    assert dict(stack.daemons["b"].after) == {"a": Condition.READY}
    assert dict(stack.daemons["c"].after) == {"a": Condition.STARTED}


def test_ready_may_be_a_word() -> None:
    assert one('command="a"\nready="notify"').ready.notify is True


def test_all_errors_are_told_at_once_each_in_its_place() -> None:
    text = """\
[stack]
nme = "x"

[daemon.web]
comand = "x"
shutdown_timout = "5s"
nice = "high"
stop_signal = "SIGFOO"
env = { "A=B" = "1", C = [] }

[daemon.web.restart]
policy = "alwys"
delay = "5"

[daemon."not ok"]
command = "x"

[daemon.api]
command = "x"
daemon = "a:B"

[deamon.x]
"""
    assert errors(text) == [
        "duende.toml:2: stack.nme: unknown key (did you mean `name`?)",
        "duende.toml:5: daemon.web.comand: unknown key (did you mean `command`?)",
        "duende.toml:6: daemon.web.shutdown_timout: unknown key (did you mean `shutdown_timeout`?)",
        'duende.toml:7: daemon.web.nice: expected a whole number, found "high"',
        "duende.toml:8: daemon.web.stop_signal: unknown signal 'SIGFOO'; known are SIGHUP, SIGINT, SIGQUIT, SIGKILL, "
        "SIGUSR1, SIGUSR2, SIGTERM, SIGCONT, SIGSTOP",
        'duende.toml:9: daemon.web.env."A=B": a variable\'s name can\'t contain `=` or a NUL byte',
        "duende.toml:9: daemon.web.env.C: expected a string, number or boolean, found a list",
        'duende.toml:12: daemon.web.restart.policy: "alwys" is not one of "never", "on-failure", "always", '
        '"unless-stopped", "max-retries"',
        "duende.toml:13: daemon.web.restart.delay: '5' has no unit; write \"5s\", \"5ms\" …, or the number without "
        "quotes for seconds",
        'duende.toml:15: daemon."not ok": "not ok" is not a valid name: letters, digits and _ . @ -, at most 63, '
        "a letter or digit first (did you mean `not-ok`?)",
        "duende.toml:20: daemon.api.daemon: only one of command, daemon, binary_path can be set, "
        "found command and daemon",
        "duende.toml:22: deamon: unknown key (did you mean `daemon`?)",
    ]


@pytest.mark.parametrize("line", ['comand = "x"', 'deamon = "a:B"', 'cmd = "x"', 'binary_pth = "x"', 'script = "x"'])
def test_a_near_miss_of_what_to_run_is_one_problem_not_two(line: str) -> None:
    found = errors(f"[daemon.web]\n{line}\n")
    assert len(found) == 1, found
    assert "unknown key (did you mean `" in found[0]


def test_a_name_that_is_only_too_long_is_not_told_about_letters() -> None:
    long = "x" * 70
    assert errors(f'[stack]\nname = "{long}"\n[daemon.{long}]\ncommand = "true"\n') == [
        f'duende.toml:2: stack.name: "{"x" * 20}…" is too long for a name: 70 characters, at most 63 are allowed',
        f'duende.toml:3: daemon.{long}: "{"x" * 20}…" is too long for a name: 70 characters, at most 63 are allowed '
        "(shorten it)",
    ]


WRONG: list[tuple[Any, ...]] = [
    ('command = "a\'b"', "2: daemon.x.command: can't be split into words: no closing quotation"),
    ('command = ""', "2: daemon.x.command: is empty, expected a program"),
    ("command = []", "is empty, expected a program"),
    ('command = ["a",\n{}]', "3: daemon.x.command[1]: expected a string, found a table"),
    ("command = 5", "expected a command: a string, or a list of strings, found the number 5"),
    ('command = "a\\u0000b"', "contains a NUL byte"),
    ('command = "${NOT_SET}"', "2: daemon.x.command: ${NOT_SET} is not set in the environment"),
    ('command = "a"\nenv = { A = "${NO:?give it}" }', "3: daemon.x.env.A: ${NO} is not set: give it"),
    ('daemon = "nocolon"', 'is not "package.module:Class"'),
    ('daemon = "a.b:"', 'is not "package.module:Class"'),
    ('command = "a"\nsettings = { a = 1 }', "settings are for a Python class"),
    ('command = "a"\nreplicas = -1', "must be 0 to 10000, found -1"),
    ('command = "a"\nnice = 20', "must be -20 to 19, found 20"),
    ('command = "a"\nnice = true', "expected a whole number, found true"),
    ('command = "a"\numask = "999"', "is not an octal mask"),
    ('command = "a"\numask = 0o7777', "must be 0 to 0o777"),
    ('command = "a"\nready = { tcp = "x", http = "http://x" }', "not HOST:PORT"),
    ('command = "a"\nready = { tcp = "x:1", http = "http://x" }', "only one of notify, fd, log, tcp, http, unix, exec"),
    ('command = "a"\nready = "soon"', '"soon" is not one of "notify"'),
    ('command = "a"\nready = { fd = 2 }', "must be 3 to 65535, found 2"),
    ('command = "a"\nready = { log = "(" }', "is not a regular expression: missing )"),
    ('command = "a"\nready = { log = "x*" }', "matches an empty line"),
    ('command = "a"\nready = { unix = "@" }', "needs a name after the @"),
    ('daemon = "a:B"\nready = { fd = 3 }', "a Python class says itself when it is ready"),
    ('command = "a"\nready = { tcp = "x:1" }\nprobe.startup = { tcp = "x:1" }', "`ready` is its short form"),
    ('command = "a"\nhealth_check = { tcp = "x:1" }\nprobe.liveness = { tcp = "x:1" }', "`health_check` is its short"),
    ('command = "a"\nprobe.readiness = {}', "there is nothing to ask: none of http, tcp, unix, exec is set"),
    ('command = "a"\nprobe.readiness = { tcp = "x:1", log_age = "1s" }', "daemon.x.probe.readiness.log_age: unknown"),
    ('command = "a"\nprobe.startup = { tcp = "x:1", http = "http://x" }', "only one of http, tcp, unix, exec can be"),
    ('command = "a"\nprobe.liveness = { tcp = "x:1", window = 2 }', "2 answers never hold 3 failures"),
    ('command = "a"\nprobe.liveness = { tcp = "x:1", action = "die" }', '"die" is neither "restart" nor "tell"'),
    ('command = "a"\nwatchdog = {}', "3: daemon.x.watchdog: needs `timeout`"),
    ('command = "a"\nwatchdog = "0s"', "must be longer than 0"),
    ('command = "a"\nhealth_check = { tcp = "x:1", exec = "y" }', "only one of http, tcp, unix, exec, log_age"),
    ('command = "a"\nhealth_check = { http = "ftp://x" }', "is not a URL"),
    ('command = "a"\nhealth_check = { restart = true }', "there is nothing to check"),
    ('command = "a"\nhealth_check = { interval = 0 }', "must be longer than 0"),
    ('command = "a"\nrestart = "max-retries"', 'write restart = { policy = "max-retries", max_retries = 5 }'),
    ('command = "a"\nrestart = "max_retries"', "can't stand alone: it needs a number of retries"),
    ('command = "a"\nrestart = { policy = "max-retries" }', 'needs max_retries'),
    ('command = "a"\nrestart = { delay = "1m", max_delay = "1s" }', "3: daemon.x.restart.max_delay: is less than"),
    ('command = "a"\nrestart = { delay = 1, initial_delay = 1 }', "only one of delay, initial_delay"),
    ('command = "a"\nrestart = { success_exit_codes = [125] }', "125 can't be both"),
    ('command = "a"\nrestart = { success_exit_codes = [256] }', "success_exit_codes[0]: expected an exit code"),
    (f'command = "a"\nrestart = {{ multiplier = 1{"0" * 400} }}', "must be 1 to 1000, found a number"),
    ('command = "a"\nstop_signal = "STOP"', "SIGSTOP never ends a program"),
    ('command = "a"\nafter = ["x"]', "can't wait for itself"),
    ('command = "a"\nafter = ["../y"]', "is not a valid name"),
    ('command = "a"\nafter = { y = "soon" }', '"soon" is not one of "started"'),
    ('command = "a"\nresources = { memory_bytes = 1.5 }', "expected a size"),
    ('command = "a"\nworking_dir = ""', "is empty, expected a path"),
    ('command = "a"\nreplicas = 2\npid_file = "p"', "2 replicas would share one pid file"),
    ('command = "a"\nuser = ""', "is empty, expected a name or a number"),
    ('command = "a"\ncwd = "/"', "did you mean `working_dir`?"),
    ('command = "a"\nworking-dir = "/"', "did you mean `working_dir`?"),
    ('command = "a"\nlog = 5', "expected a table, found the number 5"),
    ('command = "a"\npid_file = "~/p"', "HOME is not set"),
    ('command = "a"\nschedule = "61 * * * *"', '"61 * * * *" is not a cron expression: bad minute'),
    ('command = "a"\nschedule = "* * * *"', "has 4 fields; cron has 5"),
    ('command = "a"\nschedule = "@dayly"', "is not one of @yearly, @annually"),
    ('command = "a"\nschedule = { cron = "0 0 */20 * 1L" }', 'daemon.x.schedule.cron: "0 0 */20 * 1L" never comes'),
    ('command = "a"\nschedule = "0 0 */20 * 1L"', '"0 0 */20 * 1L" never comes: no day of the next 50 years'),
    ('command = "a"\nschedule = 5', "3: daemon.x.schedule: expected a cron expression such as"),
    ('command = "a"\nschedule = {}', "has neither `cron` nor `every` (write schedule = "),
    ('command = "a"\nschedule = { cron = "@daily", every = "1m" }', "only one of cron, every can be set"),
    ('command = "a"\nschedule = "@daily"\nevery = "1m"', "4: daemon.x.every: only one of schedule and every can be"),
    ('command = "a"\nschedule = { cron = "@daily", timezone = "Europe/Berln" }',
     'no time zone "Europe/Berln" on this machine; did you mean `Europe/Berlin`?'),
    ('command = "a"\nschedule = { every = "1m", timezone = "UTC" }', "does not follow the wall clock"),
    ('command = "a"\nschedule = { every = "1m", jitter = "1m" }', "is not less than the time between two slots (60 s)"),
    ('command = "a"\nschedule = { cron = "*/5 * * * *", jitter = "10m" }', "not less than the time between two slots"),
    ('command = "a"\nschedule = { every = "1m", overlap = "forbid" }', 'is not one of "skip", "queue", "replace"'),
    ('command = "a"\nschedule = { every = "1m", missed = "all" }', 'is not one of "skip", "once"'),
    ('command = "a"\nevery = "500ms"', "3: daemon.x.every: must be at least 1 s, found 0.5 s"),
    ('command = "a"\nrestart = "always"\nevery = "1m"', "would start every run again when it has ended"),
    ('command = "a"\ncron = "@daily"', "unknown key (did you mean `schedule`?)"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), WRONG)
def test_wrong_values_are_told(body: str, message: str) -> None:
    (problem,) = errors(f"[daemon.x]\n{body}")
    assert message in problem
    assert problem.startswith("duende.toml:")


def test_cycles_are_printed() -> None:
    text = "".join(f'[daemon.{name}]\ncommand="x"\nafter=["{after}"]\n' for name, after in ("ab", "bc", "ca", "dc"))
    assert errors(text) == ["duende.toml:3: daemon.a.after: the daemons wait for each other: a -> b -> c -> a"]


def test_two_ways_to_one_daemon_are_no_cycle() -> None:
    after = {"a": "", "b": '"a"', "c": '"a"', "d": '"b", "c", "a"'}
    text = "".join(f'[daemon.{name}]\ncommand="x"\nafter=[{names}]\n' for name, names in after.items())
    assert list(load(text).daemons) == ["a", "b", "c", "d"]


def test_a_long_chain_of_dependencies_does_not_recurse() -> None:
    text = "".join(f'[daemon.d{n}]\ncommand="x"\nafter=["d{(n + 1) % 3000}"]\n' for n in range(3000))
    (problem,) = errors(text)
    assert problem.startswith("duende.toml:3: daemon.d0.after: the daemons wait for each other: d0 -> d1 -> d2 -> ")


def test_an_unknown_dependency_has_a_near_name() -> None:
    text = '[daemon.cache]\ncommand="x"\n[daemon.web]\ncommand="x"\nafter=[\n"cahe"]'
    assert errors(text) == ["duende.toml:5: daemon.web.after.cahe: there is no daemon cahe (did you mean `cache`?)"]


def test_waiting_for_health_needs_a_check() -> None:
    text = '[daemon.a]\ncommand="x"\n[daemon.b]\ncommand="x"\nafter={a="healthy"}'
    assert "a has no health check" in errors(text)[0]


def test_one_pid_file_for_two_is_told() -> None:
    text = '[daemon.a]\ncommand="x"\npid_file="p"\n[daemon.b]\ncommand="x"\npid_file="/srv/shop/p"'
    assert errors(text) == ["duende.toml:6: daemon.b.pid_file: is also the pid file of a: /srv/shop/p"]


def test_a_name_that_is_also_a_replica_is_told() -> None:
    text = '[daemon.a]\ncommand="x"\nreplicas=2\n[daemon."a.2"]\ncommand="x"'
    assert "is also the name of a replica of a" in errors(text)[0]


def test_a_single_daemon_needs_its_name() -> None:
    assert errors('command = "x"') == [
        "duende.toml:1: name: a file that describes one daemon needs its `name`, a string "
        "(or put the keys below a table header: [daemon.NAME])"
    ]
    assert "duende.toml:2: comand: unknown key" in errors('name = "x"\ncomand = "y"\nbinary_path = "z"')[0]


def test_daemon_config_load_reads_one_daemon(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('name = "x"\ncommand = "y"')
    assert DaemonConfig.load(tmp_path / "one.toml").command == ("y",)
    (tmp_path / "two.toml").write_text('[daemon.a]\ncommand="x"\n[daemon.b]\ncommand="x"')
    with pytest.raises(ConfigurationError, match=r"two\.toml: describes 2 daemons \(a, b\), not one"):
        DaemonConfig.load(tmp_path / "two.toml")


def test_header_lookalikes_do_not_confuse_the_source() -> None:
    text = '[daemon.a]\ncommand="x"\ndescription = """\n[daemon.b]\n"""\n\n[daemon.b]\ncommand="x"\n'
    text += '[daemon]\nc.command="x"'
    sources = {name: config.source for name, config in load(text).daemons.items()}
    assert sources == {"a": "duende.toml:1", "b": "duende.toml:7", "c": "duende.toml:10"}


def test_an_empty_file_is_a_stack_without_daemons() -> None:
    assert (load("").name, dict(load("").daemons)) == ("shop", {})


@settings(max_examples=200)
@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda data: data.decode("utf-8", "replace")))
def test_no_text_raises_anything_but_a_configuration_error(text: str) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        load(text)
    except ConfigurationError as error:
        problems = error.problems
    assert all(str(problem) and problem.reason for problem in problems)


_PRIMITIVES = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(max_size=12), st.dates(), st.sampled_from(["5s", "1MiB", "${A}"])
)
_ANY = st.recursive(
    _PRIMITIVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_SECTION_KEYS = [sub.key for entry in DAEMON.fields if entry.section for sub in entry.section.fields]


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(sorted(DAEMON.by_key)) | st.text(max_size=3),
        _ANY | st.dictionaries(st.sampled_from(_SECTION_KEYS), _ANY, max_size=4),
        max_size=6,
    )
)
def test_no_document_raises_anything_but_a_configuration_error(table: dict[str, Any]) -> None:
    reader = Reader({}, "/srv/shop")
    config = _daemon(reader, "x", table, "", "/srv/shop", is_whole=True)
    assert reader.problems or config.command or config.daemon
    assert all(path[:2] == ("daemon", "x") and reason for path, reason, _ in reader.problems)


_TOP = st.dictionaries(
    st.sampled_from(["daemon", "stack", "name", "command", "web", "x"]),
    _ANY | st.dictionaries(st.sampled_from(["web", "name", "a b", ""]), _ANY | st.just({"command": "x"}), max_size=2),
    max_size=3,
)


@settings(max_examples=300)
@given(_TOP, _TOP, st.text(max_size=12), st.text(max_size=6))
def test_no_layers_raise_anything_but_a_configuration_error(
    main: dict[str, Any], drop_in: dict[str, Any], key: str, value: str
) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        documents = [Layer(label, document) for label, document in (("main", main), ("drop-in", drop_in))]
        files = [in_stack_shape(layer) for layer in documents]
        environ = {f"DUENDE_DAEMON__{key}": value, "DUENDE_DAEMON__WEB__NICE": value}
        _load(files, [], "/srv/shop", None, environ, {key: value, f"daemon.web.{key}": value})
    except ConfigurationError as error:
        problems = error.problems
    assert all(problem.file and problem.reason for problem in problems)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_a_configuration_error(tmp_path_factory: Any, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_bytes(data)
    problems: tuple[Problem, ...] = ()
    try:
        load_stack(path, environ={})
    except ConfigurationError as error:
        problems = error.problems
    assert all(problem.file == str(path) for problem in problems)


def test_a_thousand_daemons_load_in_linear_time() -> None:
    def seconds(count: int) -> float:
        text = "".join(
            f'[daemon.d{n}]\ncommand = ["a", "{n}"]\nafter = ["d{n - 1}"]\nrestart = {{ policy = "always" }}\n'
            if n
            else '[daemon.d0]\ncommand = "x"\n'
            for n in range(count)
        )
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            assert len(load(text).daemons) == count
            best = min(best, time.process_time() - start)
        return best

    assert seconds(1000) < 10 * seconds(200) + 0.05  # five times the work; quadratic would be 25 times


def test_the_environment_defaults_to_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUENDE_TEST_WORD", "hello")
    text = '[daemon.x]\ncommand = "echo ${DUENDE_TEST_WORD}"'
    assert load_text(text).daemons["x"].command == ("echo", "hello")
    assert load_text(text).directory == Path(os.getcwd())
