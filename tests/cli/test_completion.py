"""Completion: what is offered, and that the shells' scripts really offer it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from duende.cli.completion import SCRIPTS
from tests.api.fake import Served
from tests.cli.conftest import Run
from tests.cli.test_main import environ


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["st"], ["start", "stop", "status"]),
        (["-s", "shop", "sta"], ["start", "status"]),
        (["--j"], ["--json"]),
        (["stop", "w"], ["web", "worker.1", "worker.2"]),
        (["stop", "web", "--no-w"], ["--no-wait"]),
        (["wait", "web", "--for", "h"], ["healthy"]),
        (["signal", "US"], ["USR1", "USR2"]),
        (["signal", "USR1", "ca"], ["cache"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["-c", ""], []),
        (["-s", ""], ["shop"]),
        (["exec", "web", "--", ""], []),
        (["nonsense", ""], []),
        (["schema", ""], []),
    ],
)
def test_what_fits_is_offered(run: Run, shop: Served, words: list[str], offered: list[str]) -> None:
    assert run("__complete", *words).out.split() == offered


def test_without_a_manager_the_file_knows_the_names(run: Run, home: Path) -> None:
    assert run("__complete", "stop", "") == (0, "", "")
    (home / "duende.toml").write_text('[daemon.web]\ncommand = ["true"]\n[daemon.cache]\ncommand = ["true"]\n')
    assert run("__complete", "stop", "").out.split() == ["web", "cache"]
    (home / "duende.toml").write_text("broken")
    assert run("__complete", "stop", "") == (0, "", "")


def test_each_shell_has_a_script(run: Run) -> None:
    for shell, script in SCRIPTS.items():
        assert run("completion", shell).out == script
    assert run("completion", "tcsh").code == 2


def with_duende_on_path(directory: Path) -> dict[str, str]:
    program = directory / "bin" / "duende"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom duende.cli.main import entry\nentry()\n")
    program.chmod(0o755)
    return {**environ(), "PATH": f"{program.parent}:{os.environ['PATH']}"}


def test_bash_completes(shop: Served, tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    script = (
        'eval "$(duende completion bash)"\n'
        'COMP_WORDS=(duende stop worker) COMP_CWORD=2; _duende; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=(duende resta) COMP_CWORD=1; _duende; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=(duende stop "") COMP_CWORD=2; _duende; echo "${#COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script], env=with_duende_on_path(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("worker.1 worker.2\nrestart\n4\n", "")


def test_fish_completes(shop: Served, tmp_path: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("needs fish (python tools/provision.py installs it)")
    script = 'duende completion fish | source; complete -C "duende stop worker"; complete -C "duende resta"'
    env = with_duende_on_path(tmp_path)
    done = subprocess.run(["fish", "--no-config", "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["worker.1", "worker.2", "restart"]


def test_zsh_script_parses(tmp_path: Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("needs zsh (python tools/provision.py installs it)")
    (tmp_path / "_duende").write_text(SCRIPTS["zsh"])
    done = subprocess.run(["zsh", "-n", str(tmp_path / "_duende")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
