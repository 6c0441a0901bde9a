"""supervisord.conf: what each line becomes, judged by the loaded configuration."""

from __future__ import annotations

import configparser
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duende.config.daemon import DaemonConfig
from duende.config.importers.draft import Findings, Origin, Place
from duende.config.importers.ini import parse_ini
from duende.config.importers.supervisord import environment_of
from duende.errors import ConfigurationError
from tests.config.importers.conftest import Bring

PLACE = Place("x.conf", "/x", True)


def value_of(config: DaemonConfig, path: str) -> Any:
    here: Any = config
    for part in path.split("."):
        here = getattr(here, part)
    return getattr(here, "value", here) if path.endswith(("policy", "kill_mode")) else here


CASES = [
    ("command=/bin/a 'b c' \"d\"", "command", ("/bin/a", "b c", "d")),
    ("command=/bin/a ; a comment", "command", ("/bin/a",)),
    ("command=/bin/a;b #c", "command", ("/bin/a;b",)),
    ("command=/bin/a -b\n    -c\n\n    -d", "command", ("/bin/a", "-b", "-c", "-d")),
    ("command: /bin/a", "command", ("/bin/a",)),
    ("COMMAND = /bin/a", "command", ("/bin/a",)),
    ("command=a %(ENV_PORT)s 5%%", "command", ("a", "9000", "5%")),
    ("command=a '${PORT}' $$ $x {instance}", "command", ("a", "${PORT}", "$$", "$x", "{{instance}}")),
    ("command=a %(program_name)s %(group_name)s %(numprocs)d", "command", ("a", "p", "p", "1")),
    ("command=a --n=%(process_num)03d", "command", ("a", "--n=000")),
    ("command=a\ndirectory=/srv", "working_dir", Path("/srv")),
    ("command=a\numask=027", "umask", 0o027),
    ("command=a\nuser=www-data", "user", "www-data"),
    ("command=a\nautostart=off", "autostart", False),
    ("command=a", "restart.policy", "on-failure"),
    ("command=a\nautorestart=true", "restart.policy", "always"),
    ("command=a\nautorestart=FALSE", "restart.policy", "never"),
    ("command=a", "restart.backoff.max_retries", 3),
    ("command=a\nstartretries=9", "restart.backoff.max_retries", 9),
    ("command=a", "restart.reset_after", 1.0),
    ("command=a\nstartsecs=0", "restart.reset_after", 0.0),
    ("command=a\nstartsecs=75", "restart.reset_after", 75.0),
    ("command=a\nexitcodes=0, 2", "restart.success_exit_codes", frozenset({0, 2})),
    ("command=a\nstopsignal=quit", "stop_signal", 3),
    ("command=a\nstopsignal=10", "stop_signal", 10),
    ("command=a\nstopwaitsecs=95", "shutdown_timeout", 95.0),
    ("command=a\nstopasgroup=true", "kill_mode", "control-group"),
    ("command=a\nkillasgroup=true", "kill_mode", "mixed"),
    ("command=a\nstdout_logfile=/var/log/a/x.log", "log.directory", Path("/var/log/a")),
    ("command=a\nstdout_logfile_maxbytes=2MB", "log.max_size", 2 * 1024**2),
    ("command=a\nstdout_logfile_maxbytes=0", "log.max_size", 0),
    ("command=a\nstdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0", "log.max_size", 10 * 1024**2),
    ("command=a\nstdout_logfile_backups=3", "log.keep", 3),
    ("command=a\nnumprocs=4\nprocess_name=p_%(process_num)d", "replicas", 4),
    ('command=a\nenvironment=A="1,2",B=\'x;y\',C=/a/b:c', "env", {"A": "1,2", "B": "x;y", "C": "/a/b:c"}),
    ('command=a\nenvironment=P="/opt:%(ENV_PATH)s",D="$${PORT}"', "env", {"P": "/opt:/bin", "D": "$${PORT}"}),
]


@pytest.mark.parametrize(("text", "path", "wanted"), CASES)
def test_a_line_means_the_same(bring: Bring, text: str, path: str, wanted: object) -> None:
    outcome = bring("supervisord.conf", f"[program:p]\n{text}\n")
    assert value_of(outcome.only, path) == wanted
    assert not outcome.dropped


LOST = [
    "priority=5", "stdout_syslog=true", "stdout_logfile=NONE", "stdout_logfile=syslog", "stdout_capture_maxbytes=1MB",
    "stderr_events_enabled=true", "serverurl=AUTO", "stopsignal=WINCH", "stopwaitsecs=soon", "autorestart=perhaps",
    "umask=9", "exitcodes=0,x", "environment=A", "environment=A='1", "directory=%(nothing)s", "user=100%", "nonsense=1",
    "numprocs=some", "startsecs=-1", "autostart=maybe", "stderr_logfile=/elsewhere/x.err",
    "user=%(program_name)d",
]  # fmt: skip


@pytest.mark.parametrize("line", LOST)
def test_what_is_lost_is_named_with_line_and_key(bring: Bring, line: str) -> None:
    outcome = bring("supervisord.conf", f"[program:p]\ncommand=a\nstdout_logfile=/var/log/p.log\n{line}\n")
    if line.startswith("stdout_logfile="):  # comes twice then: the later one counts
        assert outcome.dropped == [(4, "[program:p] stdout_logfile")]
        return
    assert [place for place, _ in outcome.dropped] == [4], outcome.said
    assert outcome.dropped[0][1].startswith(f"[program:p] {line.partition('=')[0]}")


def test_switches_that_are_off_lose_nothing(bring: Bring) -> None:
    lines = "stdout_syslog=false\nstdout_events_enabled=no\nredirect_stderr=true\nstderr_logfile=NONE\n"
    assert not bring("supervisord.conf", f"[program:p]\ncommand=a\n{lines}").dropped


def test_a_number_in_the_command_makes_one_daemon_each(bring: Bring) -> None:
    outcome = bring("supervisord.conf", (
        "[program:shard]\ncommand=/bin/shard --port=80%(process_num)02d\nnumprocs=3\nnumprocs_start=9\n"
        "process_name=%(program_name)s_%(process_num)02d\n"
    ))  # fmt: skip
    assert {name: one.command for name, one in outcome.stack.daemons.items()} == {
        "shard_09": ("/bin/shard", "--port=8009"),
        "shard_10": ("/bin/shard", "--port=8010"),
        "shard_11": ("/bin/shard", "--port=8011"),
    }
    assert not outcome.dropped


def test_groups_become_the_beginning_of_names(bring: Bring) -> None:
    text = "[group:shop]\nprograms=web, db\npriority=5\n[program:web]\ncommand=a\n[program:db]\ncommand=b\n"
    outcome = bring("supervisord.conf", text + "[program:other]\ncommand=c\n")
    assert list(outcome.stack.daemons) == ["shop.web", "shop.db", "other"]
    assert outcome.dropped == [(3, "[group:shop] priority")]


def test_includes_are_read_and_their_places_are_told(bring: Bring) -> None:
    outcome = bring(
        "supervisord.conf",
        "[include]\nfiles = conf.d/*.conf %(here)s/more.ini none/*.conf %(ENV_X)s/*.conf\n",
        {"conf.d/b.conf": "[program:b]\ncommand=b\n", "conf.d/a.conf": "[program:a]\npriority=1\ncommand=a\n",
         "more.ini": "[include]\nfiles=/etc/*\n[program:c]\ncommand=%(here)s/c\n"},
    )  # fmt: skip
    assert list(outcome.stack.daemons) == ["a", "b", "c"]
    assert outcome["c"].command == (os.path.join(str(outcome.stack.directory), "c"),)
    assert [(p.file, p.line) for p in outcome.made.dropped] == [("supervisord.conf", 2), ("conf.d/a.conf", 2)]
    assert "none/*.conf matches no file" in outcome.said


def test_what_supervisord_gives_to_all_programs_is_given(bring: Bring) -> None:
    outcome = bring("supervisord.conf", (
        "[supervisord]\nenvironment=A=1,B=2\numask=077\ndirectory=/srv\nlogfile=/x\nminfds=1024\n"
        "[program:p]\ncommand=a\nenvironment=B=3\n[program:q]\ncommand=a\ndirectory=/q\n"
    ))  # fmt: skip
    assert (outcome["p"].env, outcome["p"].umask) == ({"A": "1", "B": "3"}, 0o077)
    assert (outcome["p"].working_dir, outcome["q"].working_dir) == (Path("/srv"), Path("/q"))
    assert outcome.dropped == [(6, "[supervisord] minfds")]


@pytest.mark.parametrize("section", ["inet_http_server", "eventlistener:x", "fcgi-program:x", "nonsense"])
def test_other_sections_are_named(bring: Bring, section: str) -> None:
    outcome = bring("supervisord.conf", f"[program:p]\ncommand=a\n[{section}]\nport=9001\n")
    assert outcome.dropped == [(3, f"[{section}]")]


@pytest.mark.parametrize(("text", "words"), [
    ("[program:p]\nautostart=true\n", "there is no command to run"),
    ("[supervisord]\n", "has no [program:NAME]"),
    ("command=a\n[program:p]\n", "supervisord.conf:1: stands before the first [section]"),
    ("[program:p]\nnonsense\n", "supervisord.conf:2: is not KEY=VALUE"),
])  # fmt: skip
def test_a_file_that_gives_nothing_says_why(bring: Bring, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        bring("supervisord.conf", text)
    assert words in str(caught.value)


def test_a_program_without_a_command_does_not_hide_the_others(bring: Bring) -> None:
    outcome = bring("supervisord.conf", "[program:p]\ncommand='a\n[program:q]\ncommand=b\n")
    assert list(outcome.stack.daemons) == ["q"]
    assert outcome.dropped == [(2, "[program:p] command"), (1, "[program:p]")]


_WORD = st.text(alphabet="abAB01 ;#=:[]%'\"\t-_", max_size=12)


_LINE = st.tuples(st.sampled_from(["", " ", "  "]), st.one_of(_WORD, st.just("[s]"), st.just("k = v")))


@given(st.lists(_LINE, max_size=8))
def test_ini_is_read_as_configparser_does_with_the_options_of_supervisord(lines: list[tuple[str, str]]) -> None:
    text = "[first]\n" + "\n".join(indent + line for indent, line in lines)
    judge = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False, default_section="\0")
    try:
        judge.read_string(text)
        wanted = {name: {key: [line for line in value.split("\n") if line] for key, value in judge.items(name)}
                  for name in judge.sections()}  # fmt: skip
    except (configparser.Error, AttributeError):  # the latter for a key without value that goes on
        with pytest.raises(ConfigurationError):
            parse_ini(text, PLACE)
        return
    found = {one.name: {key: [line for line in value.split("\n") if line] for key, (value, _) in one.values.items()}
             for one in parse_ini(text, PLACE)}  # fmt: skip
    assert found == wanted


_VALUE = st.characters(exclude_characters="'\"\n\r\0\ufdd0\ufdd1\ufdd2", codec="utf-8")
_NAME = st.from_regex(r"[A-Z][A-Z0-9_]{0,6}", fullmatch=True)


@given(st.dictionaries(_NAME, st.text(_VALUE, min_size=1, max_size=20), max_size=5))
def test_variables_in_quotes_come_through(variables: dict[str, str]) -> None:
    text = ",".join(f'{name}="{value}"' for name, value in variables.items())
    findings = Findings()
    assert environment_of(text, Origin("x"), findings) == variables
    assert not findings.dropped
