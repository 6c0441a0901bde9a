"""systemd service units: what each setting becomes, judged by the loaded configuration."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duende.config.importers.unitfile import size_bytes, span_s, split_words
from duende.errors import ConfigurationError
from tests.config.importers.conftest import Bring
from tests.config.importers.test_supervisord import value_of

HEAD = "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/a\n"
LINE = 5  # of the line that a case adds


@pytest.mark.parametrize(("lines", "path", "wanted"), [
    ("ExecStart=\nExecStart=/bin/b 'c d' \"e\\tf\" g\\x20h\\si $$i %%j", "command",
     ("/bin/b", "c d", "e\tf", "g h i", "$i", "%j")),
    ("ExecStart=\nExecStart=/bin/b \\\n  # comment\n  c \\\n  d", "command", ("/bin/b", "c", "d")),
    ("ExecStart=\nExecStart=/bin/b \\", "command", ("/bin/b",)),
    ("ExecStart=\nExecStart=:/bin/b ${X} $$", "command", ("/bin/b", "${X}", "$$")),
    ("ExecStart=\nExecStart=/bin/b %n %N %p %t %S %h", "command",
     ("/bin/b", "p.service", "p", "p", "/run", "/var/lib", "/root")),
    ("Environment=A=1 \"B=2 3\" 'C=%p'\nEnvironment=D=$x ${Y}", "env",
     {"A": "1", "B": "2 3", "C": "p", "D": "$x"}),
    ("Environment=A=1\nEnvironment=\nEnvironment=B=2", "env", {"B": "2"}),
    ("PassEnvironment=PORT NOPE", "env", {"PORT": "9000", "NOPE": ""}),
    ("User=ann\nGroup=staff", "group", "staff"),
    ("WorkingDirectory=/srv/%p", "working_dir", Path("/srv/p")),
    ("", "working_dir", Path("/")),
    ("UMask=0027", "umask", 0o027),
    ("Nice=-5", "nice", -5),
    ("Type=notify", "ready.notify", True),
    ("Type=notify", "start_timeout", 90.0),
    ("Type=notify\nTimeoutStartSec=infinity", "start_timeout", 0.0),
    ("Type=notify-reload", "reload_signal", 1),
    ("", "restart.policy", "never"),
    ("Restart=always", "restart.policy", "always"),
    ("Restart=on-failure", "restart.policy", "on-failure"),
    ("Restart=no", "restart.policy", "never"),
    ("Restart=always", "restart.backoff.initial_delay", 0.1),
    ("Restart=always\nRestartSec=1min 30s", "restart.backoff.initial_delay", 90.0),
    ("Restart=always\nRestartSec=5", "restart.backoff.multiplier", 1.0),
    ("Restart=always\nRestartSec=1\nRestartSteps=3\nRestartMaxDelaySec=8", "restart.backoff.multiplier", 2.0),
    ("Restart=always\nRestartSec=1\nRestartSteps=3\nRestartMaxDelaySec=8", "restart.backoff.max_delay", 8.0),
    ("Restart=always", "restart.crash_limit", 5),
    ("Restart=always\nStartLimitBurst=9\nStartLimitInterval=1min", "restart.crash_window", 60.0),
    ("Restart=always\nStartLimitInterval=0", "restart.crash_limit", 0),
    ("Restart=on-failure\nSuccessExitStatus=143 TEMPFAIL", "restart.success_exit_codes", frozenset({0, 75, 143})),
    ("Restart=on-failure\nRestartPreventExitStatus=2 CONFIG", "restart.permanent_exit_codes", frozenset({2, 78, 125})),
    ("", "kill_mode", "control-group"),
    ("KillMode=mixed", "kill_mode", "mixed"),
    ("KillMode=process", "kill_mode", "process"),
    ("KillSignal=SIGINT", "stop_signal", 2),
    ("ExecStop=/bin/kill -s QUIT $MAINPID", "stop_signal", 3),
    ("ExecReload=kill -USR2 ${MAINPID}", "reload_signal", 12),
    ("ExecReload=/bin/r 'a b'", "reload_command", ("/bin/r", "a b")),
    ("ExecReload=/bin/r -t\nExecReload=/bin/kill -HUP $MAINPID", "reload_command",
     ("/bin/sh", "-c", "set -f; set -e; /bin/r -t; /bin/kill -HUP $MAINPID")),
    ("WatchdogSec=1min", "watchdog.timeout", 60.0),
    ("", "shutdown_timeout", 90.0),
    ("TimeoutStopSec=7", "shutdown_timeout", 7.0),
    ("TimeoutSec=2min", "shutdown_timeout", 120.0),
    ("TimeoutStopSec=infinity", "shutdown_timeout", 604800.0),
    ("LimitNOFILE=1024:4096", "resources.open_files_max", 4096),
    ("LimitCORE=1G", "resources.core_size_bytes", 1024**3),
    ("MemoryMax=1.5G", "resources.memory_bytes", 3 * 1024**3 // 2),
    ("MemoryMax=infinity", "resources.memory_bytes", None),
    ("MemorySwapMax=64M", "resources.memory_swap_bytes", 64 * 1024**2),
    ("TasksMax=50", "resources.pids_max", 50),
    ("CPUQuota=150%", "resources.cpu_quota_percent", 150.0),
    ("StandardOutput=append:/var/log/p/x.log", "log.directory", Path("/var/log/p")),
    ("StandardOutput=journal\nStandardInput=null\nPrivateTmp=no\nWatchdogSec=0\n[X-Mine]\na=b", "replicas", 1),
    ("[Unit]\nDescription=A %p\nDocumentation=man:a(1)", "description", "A p (man:a(1))"),
])  # fmt: skip
def test_a_setting_means_the_same(bring: Bring, lines: str, path: str, wanted: object) -> None:
    outcome = bring("p.service", f"{HEAD}{lines}\n")
    if "Y}" in lines:  # a word without `=`, as systemd sees it
        assert outcome.dropped == [(LINE + 1, "[Service] Environment")]
        assert outcome.only.env == {"A": "1", "B": "2 3", "C": "p", "D": "$x"}
        return
    assert value_of(outcome.only, path) == wanted
    assert not outcome.dropped, outcome.said


@pytest.mark.parametrize("line", [
    "Type=forking", "Type=dbus", "PIDFile=/run/x", "ExecStartPre=/bin/x", "ExecStop=/bin/x", "ExecReload=/bin/x %b",
    "Restart=on-success", "Restart=on-abort", "WatchdogSec=x", "LimitNPROC=5", "LimitNOFILE=infinity", "PrivateTmp=yes",
    "ProtectSystem=strict", "CapabilityBoundingSet=", "RuntimeDirectory=x", "DynamicUser=yes", "KillMode=none",
    "SendSIGKILL=no", "KillSignal=SIGWINCH", "SuccessExitStatus=SIGKILL", "StandardOutput=tty", "StandardInput=tty",
    "Environment=nothing", "Environment='A=1", "WorkingDirectory=~", "WorkingDirectory=-/srv", "UMask=9", "Nice=x",
    "Nice=50", "CPUQuota=x", "TasksMax=10%", "MemoryMax=50%", "TimeoutStopSec=soon", "User=%b", "User=%", "Nonsense=1",
    "EnvironmentFile=/etc/x/*", "OOMScoreAdjust=5", "Slice=x.slice", "UnsetEnvironment=A", "RuntimeMaxSec=5",
])  # fmt: skip
def test_what_systemd_has_and_duende_lacks_is_named(bring: Bring, line: str) -> None:
    if line == "CapabilityBoundingSet=":  # empty: resets what was not set
        assert not bring("p.service", f"{HEAD}{line}\n").dropped
        return
    outcome = bring("p.service", f"{HEAD}{line}\n")
    assert outcome.dropped == [(LINE, f"[Service] {line.partition('=')[0]}")], outcome.said


@pytest.mark.parametrize("line", [
    "OnFailure=x.service", "BindsTo=x.service", "ConditionPathExists=/x", "Requires=x.service", "After=x.service",
    "PartOf=x.service",
])  # fmt: skip
def test_what_is_lost_of_the_unit_section_is_named(bring: Bring, line: str) -> None:
    outcome = bring("p.service", f"{HEAD}[Unit]\n{line}\n")
    assert outcome.dropped == [(6, f"[Unit] {line.partition('=')[0]}")]


def run(argv: tuple[str, ...], env: dict[str, str]) -> list[str]:
    env = {"PATH": os.environ["PATH"], **env}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.splitlines()


@pytest.mark.parametrize(("line", "words"), [
    ("${A}", ["1 *"]),
    ("$B", ["x", "*"]),
    ("$NONE end", ["end"]),
    ("${NONE} end", ["", "end"]),
    ("--a=${A}-${B} '$$C' \"it's\" $$$${A}", ["--a=1 *-x *", "$C", "it's", "$${A}"]),
    ("--b=$B ${A}", ["--b=$B", "1 *"]),
    ("%p ${A}%%", ["p", "1 *%"]),
])  # fmt: skip
def test_variables_of_a_command_line_are_the_daemons_own(bring: Bring, line: str, words: list[str]) -> None:
    outcome = bring("p.service", f"[Service]\nEnvironment='A=1 *' 'B=x *'\nExecStart=printf '%%s\\\\n' {line}\n")
    command = outcome.only.command
    assert command is not None
    assert run(command, dict(outcome.only.env)) == words


def test_several_commands_of_a_oneshot_run_one_after_the_other(bring: Bring) -> None:
    outcome = bring("p.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=echo one\nExecStart=-false\n"
                    "ExecStart=echo 'two three'\nExecStart=false\nExecStart=echo four\n")  # fmt: skip
    command = outcome.only.command
    assert command is not None
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout, done.returncode) == ("one\ntwo three\n", 1)
    assert not outcome.dropped


@pytest.mark.parametrize("prefix", ["@", "+", "!!", "-"])
def test_prefixes_that_change_something_are_named(bring: Bring, prefix: str) -> None:
    outcome = bring("p.service", f"[Service]\nExecStart={prefix}/bin/a b c\n")
    assert outcome.dropped == [(2, "[Service] ExecStart")]
    assert outcome.only.command == (("/bin/a", "c") if prefix == "@" else ("/bin/a", "b", "c"))


def test_drop_ins_are_read_last_and_told_by_their_own_names(bring: Bring) -> None:
    outcome = bring("app@one.service", f"{HEAD}Nice=1\n", {
        "app@.service.d/10.conf": "[Service]\nNice=2\nUMask=077\n",
        "app@one.service.d/20.conf": "[Service]\nNice=3\nPrivateTmp=yes\nExecStart=\nExecStart=/bin/b %i\n",
    })  # fmt: skip
    assert (outcome.only.name, outcome.only.nice, outcome.only.umask) == ("app@one", 3, 0o077)
    assert outcome.only.command == ("/bin/b", "one")
    assert [(p.file, p.line) for p in outcome.made.dropped] == [("app@one.service.d/20.conf", 3)]


def test_a_template_becomes_numbered(bring: Bring) -> None:
    outcome = bring("app@.service", "[Service]\nExecStart=/bin/a --port=80%i\n")
    assert (outcome.only.name, outcome.only.command) == ("app", ("/bin/a", "--port=80{instance}"))
    outcome = bring("brace@.service", "[Service]\nExecStart=/bin/a\nEnvironment=A={%i} B=x%i\n")
    assert outcome.only.env == {"B": "x{instance}"}
    assert outcome.dropped == [(3, "[Service] Environment")]
    outcome = bring("dflt@.service", "[Service]\nExecStart=/bin/a %i\n[Install]\nDefaultInstance=x-y\n")
    assert outcome.only.command == ("/bin/a", "x-y")


def test_a_users_unit_has_a_users_folders(bring: Bring) -> None:
    outcome = bring("systemd/user/p.service", "[Service]\nExecStart=/bin/a %h %t\n")
    assert outcome.only.command == ("/bin/a", "/home/ann", "/run/user/5")
    assert outcome.only.working_dir == Path("/home/ann")


def test_units_that_are_imported_together_keep_their_order(bring: Bring) -> None:
    web = f"{HEAD}[Unit]\nAfter=db.service init.service network.target\nRequires=db.service\n"
    outcome = bring("web.service", web, {
        "db.service": f"{HEAD}Type=notify\n", "init.service": f"{HEAD}Type=oneshot\n[Unit]\nBefore=db.service\n",
    }, also=("db.service", "init.service"))  # fmt: skip
    after = {name: {target: one.value for target, one in config.after.items()}
             for name, config in outcome.stack.daemons.items()}  # fmt: skip
    assert after == {"web": {"db": "ready", "init": "completed"}, "db": {"init": "completed"}, "init": {}}
    assert not outcome.dropped
    assert "network.target: the machine is up" in outcome.said


def test_what_is_started_on_failure_is_not_started_with_the_stack(bring: Bring) -> None:
    text = f"{HEAD}[Unit]\nOnFailure=tell.service\n"
    outcome = bring("p.service", text, {"tell.service": HEAD}, also=("tell.service",))
    on_failure = outcome["p"].on_failure
    assert on_failure is not None
    assert (on_failure.start, outcome["p"].autostart, outcome["tell"].autostart) == ("tell", True, False)
    assert not outcome.dropped


def test_a_circle_of_units_is_broken_and_named(bring: Bring) -> None:
    outcome = bring("a.service", f"{HEAD}[Unit]\nAfter=b.service\n",
                    {"b.service": f"{HEAD}[Unit]\nAfter=a.service\n"}, also=("b.service",))  # fmt: skip
    assert len(outcome.dropped) == 1
    assert "the daemons wait for each other" in outcome.said


def test_a_file_of_variables_wins_over_the_unit(bring: Bring, tmp_path: Path) -> None:
    (tmp_path / "e").write_text("A=file\n")
    files = f"EnvironmentFile={tmp_path}/e\nEnvironmentFile=-/none\n"
    outcome = bring("p.service", f"{HEAD}Environment=A=unit B=unit\n{files}")
    assert outcome.only.env == {"A": "file", "B": "unit"}
    assert "A is taken from" in outcome.said


@pytest.mark.parametrize(("name", "text", "words"), [
    ("p.service", "[Unit]\nDescription=x\n", "has no [Service] section"),
    ("p.service", "ExecStart=/bin/a\n", "p.service:1: is not KEY=VALUE in a [section]"),
    ("p.service", "[Service]\nnonsense\n", "p.service:2: is not KEY=VALUE"),
    ("p.service", "[Service]\nType=oneshot\nExecStop=/bin/x\n", "there is no command to run"),
    ("p.service", "[Service]\nExecStart=/bin/a %b\n", "the specifier %b has no counterpart"),
    ("p.service", "[Service]\nExecStart=/bin/a \\q\n", "\\q is no escape that systemd knows"),
    ("p.timer", "[Timer]\n", "is a systemd unit, but not a .service"),
])  # fmt: skip
def test_a_unit_that_gives_nothing_says_why(bring: Bring, name: str, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        bring(name, text)
    assert words in str(caught.value)


def test_times_and_sizes() -> None:
    assert [span_s(one) for one in ("5", "1h 30min", "1.5s", "20ms", "2w")] == [5, 5400, 1.5, 0.02, 1209600]
    assert span_s("infinity") == float("inf")
    assert [size_bytes(one) for one in ("5", "1K", "1.5M", "2G")] == [5, 1024, 1572864, 2 * 1024**3]
    for wrong in ("", "x", "5 parsecs", "5s x"):
        with pytest.raises(ValueError):
            span_s(wrong)


@given(st.lists(st.text(alphabet="ab '\"\\\t$%", max_size=6), max_size=5))
def test_quoted_words_come_through(words: list[str]) -> None:
    quoted = ['"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words]
    assert split_words(" ".join(quoted)) == words
