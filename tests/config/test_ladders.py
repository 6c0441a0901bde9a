"""`stop = [...]`: signals, commands and waits in the order in which they are taken, and every way to write it wrong."""

from __future__ import annotations

import pytest

from duende.config.daemon import DaemonConfig
from duende.config.load import load_text
from duende.errors import ConfigurationError
from duende.model.signals import Signal
from duende.model.stop import StopStep


def ladder(text: str) -> tuple[StopStep, ...]:
    stack = load_text(f'[daemon.a]\ncommand = "true"\nstop = {text}\n', label="duende.toml", directory="/")
    return stack.daemons["a"].stop


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ('["SIGQUIT", "2s", "SIGTERM", "1s", "SIGKILL"]', [("SIGQUIT", 2), ("SIGTERM", 1), ("SIGKILL", 0)]),
        ('["quit"]', [("SIGQUIT", 10)]),
        ('["TERM", "1m30s"]', [("SIGTERM", 90)]),
        ('["SIGKILL"]', [("SIGKILL", 0)]),
        ('[["redis-cli", "shutdown"], "5s", "TERM", "500ms"]', [("redis-cli shutdown", 5), ("SIGTERM", 0.5)]),
    ],
)
def test_a_ladder_is_read(text: str, steps: list[tuple[str, float]]) -> None:
    assert [(str(step), step.wait_s) for step in ladder(text)] == steps


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"SIGTERM"', "daemon.a.stop: expected a list of signals, commands and times to wait"),
        ("[]", "daemon.a.stop: is empty"),
        ('["2s", "SIGTERM"]', "daemon.a.stop[0]: a time to wait must come after a signal or a command"),
        ('["SIGTERM", "2s", "3s"]', "daemon.a.stop[2]: a time to wait must come after"),
        ('["SIGTERM", 5]', "daemon.a.stop[1]: expected a signal such as"),
        ('["SIGKILL", "2s"]', "daemon.a.stop[1]: a time to wait must come after"),
        ('["SIGKILL", "SIGTERM"]', "daemon.a.stop: SIGKILL ends every process, so nothing can come after it"),
        ('["SIGSTOP"]', "daemon.a.stop: SIGSTOP never ends a program"),
        ('["SIGTREM"]', "daemon.a.stop[0]: "),
        ("[[]]", "daemon.a.stop[0]: is empty, expected a program"),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ladder(text)
    (problem,) = caught.value.problems
    assert reason in str(problem)
    assert "duende.toml:3" in str(problem)


def test_it_says_all_so_the_short_forms_cannot_stand_besides() -> None:
    text = '[daemon.a]\ncommand = "true"\nstop = ["TERM"]\nshutdown_timeout = "3s"\n'
    with pytest.raises(ConfigurationError, match="stop_signal and shutdown_timeout can't be set besides"):
        load_text(text, label="duende.toml", directory="/")


def test_the_worker_is_told_how_long_it_has() -> None:
    config = DaemonConfig("a", command=("true",), stop=(StopStep(Signal.QUIT, wait_s=2.0), StopStep(wait_s=3.0)))
    assert config.stop_limit == 5.0
    with pytest.raises(ConfigurationError, match="a step needs either a signal or a command"):
        config.validate()
