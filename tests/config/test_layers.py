"""Layers: who wins, what merges, and that a message names the layer that is to blame."""

from __future__ import annotations

from pathlib import Path

import pytest

from duende.config.daemon import DaemonConfig
from duende.config.layers import parse_overrides
from duende.config.load import load_stack
from duende.errors import ConfigurationError
from duende.model.restart import RestartPolicy

BASE = """\
[daemon.web]
command = "x"
nice = 1
restart = "always"
env = { A = "file", B = "file" }
[daemon."my-db.1"]
command = "y"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "duende.toml").write_text(BASE)
    (tmp_path / "conf.d").mkdir()
    return tmp_path


def web(folder: Path, overrides: dict[str, object] | None = None, **environ: str) -> DaemonConfig:
    return load_stack(folder / "duende.toml", environ=environ, overrides=overrides).daemons["web"]


def errors(folder: Path, overrides: dict[str, object] | None = None, **environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        web(folder, overrides, **environ)
    return [str(problem).replace(str(folder), "") for problem in caught.value.problems]


def test_each_layer_wins_over_the_one_before(folder: Path) -> None:
    assert web(folder).nice == 1
    (folder / "conf.d" / "10.toml").write_text("[daemon.web]\nnice = 2\n")
    assert web(folder).nice == 2
    (folder / "conf.d" / "20.toml").write_text("[daemon.web]\nnice = 3\n")
    assert web(folder).nice == 3
    assert web(folder, DUENDE_DAEMON__WEB__NICE="4").nice == 4
    assert web(folder, {"daemon.web.nice": "5"}, DUENDE_DAEMON__WEB__NICE="4").nice == 5


def test_tables_merge_deeply_and_words_count_as_their_table(folder: Path) -> None:
    (folder / "conf.d" / "a.toml").write_text("[daemon.web]\nrestart.delay = '5s'\nenv.B = 'drop-in'\n")
    config = web(folder, DUENDE_DAEMON__WEB__ENV__C="variable")
    assert dict(config.env) == {"A": "file", "B": "drop-in", "C": "variable"}
    assert (config.restart.policy, config.restart.backoff.initial_delay) == (RestartPolicy.ALWAYS, 5.0)


def test_drop_ins_may_add_daemons_and_be_of_the_seeds_shape(folder: Path) -> None:
    (folder / "conf.d" / "a.toml").write_text("name = 'extra'\nbinary_path = 'z'\n")
    (folder / "conf.d" / "ignored.txt").write_text("nonsense")
    (folder / "conf.d" / ".hidden.toml").write_text("nonsense")
    stack = load_stack(folder / "duende.toml", environ={})
    assert list(stack.daemons) == ["web", "my-db.1", "extra"]
    assert stack.daemons["extra"].source == f"{folder}/conf.d/a.toml:1"


def test_values_in_variables_are_typed_as_the_field_needs(folder: Path) -> None:
    config = web(
        folder,
        DUENDE_DAEMON__WEB__VERSION="1.10",
        DUENDE_DAEMON__WEB__CLEAN_ENV="true",
        DUENDE_DAEMON__WEB__SHUTDOWN_TIMEOUT="5s",
        DUENDE_DAEMON__WEB__COMMAND='["a", "b c"]',
        DUENDE_DAEMON__WEB__ENV__LIST="[1]",
        DUENDE_DAEMON__WEB__ENV__TWO__PARTS="007",
        DUENDE_DAEMON__WEB__RESTART__POLICY="never",
    )
    assert (config.version, config.clean_env, config.shutdown_timeout) == ("1.10", True, 5.0)
    assert config.command == ("a", "b c")
    assert (config.env["LIST"], config.env["TWO__PARTS"]) == ("[1]", "007")
    assert config.restart.policy is RestartPolicy.NEVER


def test_variables_find_daemons_whose_names_are_no_identifiers(folder: Path) -> None:
    stack = load_stack(folder / "duende.toml", environ={"DUENDE_DAEMON__MY_DB_1__NICE": "7"})
    assert stack.daemons["my-db.1"].nice == 7


def test_other_variables_of_duende_are_none_of_our_business(folder: Path) -> None:
    assert web(folder, DUENDE_CONFIG="x", DUENDE_SOMETHING="y").nice == 1


def test_messages_name_the_layer_to_blame(folder: Path) -> None:
    (folder / "conf.d" / "a.toml").write_text("\n[daemon.web]\nnice = 'x'\nfoo = 1\n[stack]\nname = 'q'\n")
    (folder / "conf.d" / "b.toml").write_text("broken")
    assert errors(folder, {"daemon.web.umask": "x"}, DUENDE_DAEMON__WEB__STOP_SIGNAL="HUPP") == [
        "/conf.d/b.toml:1: is not valid TOML: Expected '=' after a key in a key/value pair",
        "/conf.d/a.toml:3: daemon.web.nice: expected a whole number, found \"x\"",
        "/conf.d/a.toml:4: daemon.web.foo: unknown key",
        "/conf.d/a.toml:5: stack: only the main file can have [stack]",
        'environment variable DUENDE_DAEMON__WEB__STOP_SIGNAL: daemon.web.stop_signal: unknown signal \'HUPP\'; known '
        "are SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGUSR1, SIGUSR2, SIGTERM, SIGCONT, SIGSTOP",
        '--set daemon.web.umask: daemon.web.umask: "x" is not an octal mask such as "022"',
    ]


def test_a_variable_for_no_daemon_is_an_error(folder: Path) -> None:
    assert errors(folder, DUENDE_DAEMON__WEBB__NICE="1") == [
        "environment variable DUENDE_DAEMON__WEBB__NICE: no daemon 'WEBB' with a key after it (did you mean `WEB`?)"
    ]
    (folder / "conf.d" / "a.toml").write_text('[daemon."my_db.1"]\ncommand = "z"')
    assert "could mean any of the daemons my-db.1, my_db.1" in errors(folder, DUENDE_DAEMON__MY_DB_1__NICE="1")[0]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("daemon.wbe.nice", "there is no daemon wbe (did you mean `web`?)"),
        ("web.nice", "only keys of daemons can be set here"),
        ("daemon.web", "only keys of daemons can be set here"),
        ("stack.name", "the name is part of the main file"),
        ("a b", "is not a dotted key"),
        ("", "is not a dotted key"),
        ("x = 1\ny", "is not a dotted key"),
    ],
)
def test_wrong_flags_are_told(folder: Path, key: str, message: str) -> None:
    (problem,) = errors(folder, {key: "1"})
    assert problem.startswith(f"--set {key}")
    assert message in problem


def test_flags_reach_quoted_names_and_take_ready_values(folder: Path) -> None:
    overrides = {'daemon."my-db.1".nice': 3, "daemon.web.settings.x": "1"}
    overrides["daemon.web.command"] = "echo a=b"
    del overrides["daemon.web.settings.x"]
    stack = load_stack(folder / "duende.toml", environ={}, overrides=overrides)
    assert stack.daemons["my-db.1"].nice == 3
    assert stack.daemons["web"].command == ("echo", "a=b")


def test_flags_are_split_at_the_first_equals_sign() -> None:
    assert parse_overrides(["daemon.a.env.X=1=2", "b = 3"]) == {"daemon.a.env.X": "1=2", "b": " 3"}
    with pytest.raises(ConfigurationError, match="has no `=`"):
        parse_overrides(["daemon.a.nice"])


def test_a_file_in_place_of_the_drop_in_folder_is_told(folder: Path) -> None:
    (folder / "conf.d").rmdir()
    (folder / "conf.d").touch()
    assert errors(folder) == ["/conf.d: can't be listed: Not a directory"]
