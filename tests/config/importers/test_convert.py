"""All kinds: which one a file is, that whatever is generated loads, and that words of the other tool come through."""

from __future__ import annotations

import json
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from duende.config.importers.convert import KINDS, import_files
from duende.config.importers.detect import kind_of_file
from duende.config.importers.draft import INSTANCE, Draft, Findings, Origin, Sheet, spelled, variable
from duende.config.importers.write import toml_text
from duende.config.interpolate import expand_instance, interpolate
from duende.config.load import load_text
from duende.errors import ConfigurationError
from tests.config.importers.conftest import ENVIRON, Bring

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufdd0\ufdd1\ufdd2"), max_size=15)


@pytest.mark.parametrize(("name", "text", "kind"), [
    ("Procfile", "", "procfile"), ("Procfile.dev", "", "procfile"), ("x", "web: run\n# c\n", "procfile"),
    ("supervisord.conf", "[supervisord]\n", "supervisord"), ("web.conf", "; c\n[program:web]\n", "supervisord"),
    ("any.service", "", "systemd"), ("x.conf", "[Unit]\n[Service]\n", "systemd"),
    ("compose.yml", "", "compose"), ("docker-compose.prod.yaml", "", "compose"),
    ("x.yaml", "services:\n  a:\n", "compose"),
    ("ecosystem.config.json", "{", "pm2"), ("x", " [{", "pm2"),
])  # fmt: skip
def test_the_kind_is_found_out(name: str, text: str, kind: str) -> None:
    assert kind_of_file(name, text) == kind
    assert kind in KINDS


@pytest.mark.parametrize(("name", "words"), [
    ("ecosystem.config.js", "node -p"), ("x.mjs", "pm2 prettylist"), ("a.timer", "not a .service"), ("x", "--from"),
    ("a.socket", "import the .service"),
])  # fmt: skip
def test_what_is_no_such_file_is_refused_with_what_to_do(name: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind_of_file(name, "export default {}\n")
    assert words in str(caught.value)


def test_several_files_become_one_stack(bring: Bring) -> None:
    outcome = bring("Procfile", "web: x\n", {"q.service": "[Service]\nExecStart=/bin/q\n"}, also=("q.service",))
    assert list(outcome.stack.daemons) == ["web", "q"]
    assert outcome.made.kinds == ("procfile", "systemd")


def test_every_table_says_where_it_came_from(bring: Bring) -> None:
    env = ",".join(f'LONG_NAME_{number}="value"' for number in range(9))
    text = f"[program:a]\ncommand=a\npriority=1\nenvironment={env}\n\n[program:b]\ncommand=b\n[fcgi-program:c]\n"
    lines = bring("supervisord.conf", text).made.text.split("\n")
    for header in (number for number, line in enumerate(lines) if line.startswith("[daemon")):
        above = [line for line in lines[max(header - 2, 0) : header] if line.startswith("# supervisord.conf:")]
        assert above, lines[header]
    assert lines[lines.index("[daemon.a]") - 1] == "# not carried over: supervisord.conf:3: [program:a] priority"
    assert "# not carried over: supervisord.conf:8: [fcgi-program:c]" in lines[: lines.index("[daemon.a]")]


def test_noncharacters_are_refused(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("a: x\nb: \ufdd0\n")
    with pytest.raises(ConfigurationError, match=":2: contains Unicode noncharacters"):
        import_files([str(tmp_path / "Procfile")])


# --- the writer


@given(TEXT, TEXT)
def test_literal_text_comes_back_as_it_was(before: str, after: str) -> None:
    """Through duende's variables and the number of an instance, with a variable in the middle or without."""
    assert expand_instance(interpolate(spelled(before, is_numbered=True), {}), 7) == before
    text = spelled(before + variable("X") + after, is_numbered=True)
    assert expand_instance(interpolate(text, {"X": "-"}), 7) == f"{before}-{after}"


@given(TEXT, TEXT)
def test_the_number_of_an_instance_stands_between_literal_text(before: str, after: str) -> None:
    assume(not (before.endswith("{") and after.startswith("}")))  # can't be written, and is named: test_systemd.py
    text = spelled(before + INSTANCE + after, is_numbered=True)
    assert expand_instance(interpolate(text, {}), 7) == f"{before}7{after}"


@given(st.sampled_from(["", "$", "$$", "{", "${", "x$"]), st.sampled_from(["", "}", "$", "{instance}"]))
def test_dollars_and_braces_beside_the_number_stay(before: str, after: str) -> None:
    assume(not (before.endswith("{") and after.startswith("}")))
    text = spelled(before + INSTANCE + after, is_numbered=True)
    assert expand_instance(interpolate(text, {}), 7) == f"{before}7{after}"


_NUMBER = st.integers(-(2**40), 2**40)
_VALUE: st.SearchStrategy[Any] = st.one_of(TEXT, st.booleans(), _NUMBER, st.lists(TEXT, max_size=3))


@given(st.lists(st.tuples(TEXT, TEXT, st.dictionaries(TEXT, _VALUE, max_size=4)), max_size=3))
def test_whatever_is_written_is_toml_and_says_the_same(drafts: list[tuple[str, str, dict[str, Any]]]) -> None:
    findings, sheet, wanted = Findings(), Sheet(Origin("f"), head=["a\nb\x7f"]), {}
    for number, (key, description, env) in enumerate(drafts):
        draft = Draft(f"d{number}", Origin(f"f\n{key}", 1, key), findings)
        draft.put(draft.at, description, "description")
        for name, value in env.items():
            draft.put(draft.at, value, "env", name)
        sheet.drafts.append(draft)
        wanted[draft.name] = {"description": description} | ({"env": env} if env else {})
    document = tomllib.loads(toml_text([sheet], findings.dropped))

    def plain(value: Any) -> Any:
        match value:
            case str():
                return expand_instance(interpolate(value, {}), 1)
            case list():
                return [plain(item) for item in value]
            case _:
                return value

    found = {
        name: {"description": interpolate(table["description"], {})}
        | ({"env": {key: plain(value) for key, value in table["env"].items()}} if "env" in table else {})
        for name, table in document.get("daemon", {}).items()
    }
    assert found == wanted


# --- whatever is generated loads, or import says why

_WORD = st.sampled_from([
    "a", "/bin/x -y", "yes", "no", "true", "0", "1", "3", "-1", "99999999999999999999", "1.5", "5s", "1h", "infinity",
    "10%", "512M", "1GB", "${X}", "${X:-y}", "$X", "$$", "$", "%n", "%(ENV_X)s", "%(process_num)02d", "%", "'open",
    "{instance}", "TERM", "SIGKILL", "SIGSTOP", "0,2", "A=1", 'A="1",B=2', "/var/log/x.log", "/dev/stdout", "always",
    "on-failure", "unexpected", "web", "db", "~", "", "é\u2028", "\x01", "no:such",
])  # fmt: skip


def _one_of(words: str) -> st.SearchStrategy[str]:
    return st.sampled_from(words.split())


_SERVICE_KEYS = _one_of(
    "Type ExecStart ExecStop ExecReload Restart RestartSec TimeoutSec Environment EnvironmentFile User "
    "WorkingDirectory UMask Nice KillMode KillSignal SuccessExitStatus RestartPreventExitStatus MemoryMax TasksMax "
    "CPUQuota CPUWeight CPUShares LimitNOFILE StandardOutput StartLimitBurst StartLimitInterval RestartSteps "
    "RestartMaxDelaySec PassEnvironment Nonsense"
)
_PROGRAM_KEYS = _one_of(
    "command process_name numprocs numprocs_start priority autostart startsecs startretries autorestart exitcodes "
    "stopsignal stopwaitsecs stopasgroup user stdout_logfile umask directory stdout_logfile_maxbytes "
    "stdout_logfile_backups stderr_logfile environment redirect_stderr nonsense"
)
_COMPOSE_KEYS = _one_of(
    "command entrypoint environment env_file depends_on restart healthcheck user working_dir stop_signal "
    "stop_grace_period scale deploy mem_limit memswap_limit cpus cpu_shares pids_limit ulimits logging image profiles"
)
_COMPOSE_INNER = _one_of(
    "test interval retries timeout replicas resources limits memory restart_policy condition delay window "
    "max_attempts path required options max-size max-file nofile hard web db"
)
_PM2_KEYS = _one_of(
    "script args interpreter node_args cwd env instances autorestart max_restarts min_uptime restart_delay "
    "exp_backoff_restart_delay kill_timeout stop_exit_codes out_file error_file pid_file uid gid port exec_mode name "
    "treekill nonsense env_x"
)
_ANY: st.SearchStrategy[Any] = st.recursive(
    st.one_of(_WORD, st.booleans(), st.none(), st.integers(-2, 10**6), st.floats(0, 9, allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_COMPOSE_INNER, inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip


def _lines(keys: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(keys, _WORD), max_size=6)
    return pairs.map(lambda some: "".join(f"{key}={value}\n" for key, value in some if "\u2028" not in value))


_UNIT = _lines(_SERVICE_KEYS).map(lambda text: f"[Service]\nExecStart=/bin/a\n{text}")
_SUPERVISOR = st.lists(_lines(_PROGRAM_KEYS), min_size=1, max_size=3).map(
    lambda programs: "".join(f"[program:p{n}]\ncommand=a\n{text}" for n, text in enumerate(programs))
)


def _compose(services: list[dict[str, Any]]) -> str:
    return json.dumps({"services": {f"s{n}": {"command": "a", **one} for n, one in enumerate(services)}})


def _procfile(words: list[str]) -> str:
    return "".join(f"p{n}: {word}\n" for n, word in enumerate(words))


_COMPOSE = st.lists(st.dictionaries(_COMPOSE_KEYS, _ANY, max_size=5), min_size=1, max_size=2).map(_compose)
_PM2 = st.lists(st.dictionaries(_PM2_KEYS, _ANY, max_size=5), min_size=1, max_size=2).map(
    lambda apps: json.dumps({"apps": [{"script": "./x", **app} for app in apps]})
)
_FILES = {
    "p.service": _UNIT,
    "supervisord.conf": _SUPERVISOR,
    "compose.yaml": _COMPOSE,
    "x.json": _PM2,
    "Procfile": st.lists(_WORD, min_size=1, max_size=4).map(_procfile),
}
ANY_FILE = st.one_of(*(st.tuples(st.just(name), files) for name, files in _FILES.items()))


@settings(max_examples=400, deadline=None)
@given(ANY_FILE)
def test_whatever_is_generated_loads_or_import_says_why(file: tuple[str, str]) -> None:
    name, text = file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text)
        try:
            made = import_files([str(path)], directory=folder)
        except ConfigurationError as refused:
            silent = [problem for problem in refused.problems if not (problem.file and problem.reason)]
            assert not silent
            return
        for problem in (*made.dropped, *made.notes):
            assert problem.file == str(path)
            assert problem.reason
            assert problem.line or problem.key
        if any("does not exist here" in problem.reason for problem in made.notes):
            return  # an env file that duende will ask for: import has said so
        stack = load_text(made.text, directory=folder, environ={**ENVIRON, "X": "1", "ENV_X": "1"})
        assert tuple(stack.daemons) == made.names


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.text(max_size=80))
def test_no_text_at_all_makes_import_fail_in_another_way(kind: str, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.service"
        path.write_text(text, encoding="utf-8", errors="replace")
        try:
            made = import_files([str(path)], kind=kind, directory=folder)
        except ConfigurationError:
            return
        load_text(made.text, directory=folder, environ=ENVIRON)
