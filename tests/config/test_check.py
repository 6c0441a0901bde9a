"""`duende check`, `DaemonConfig.validate`, and the limits of exec measured against the kernel itself (claim F108)."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from duende.config.check import check_file, environment_problems, find_program, problems_of
from duende.config.daemon import DaemonConfig, HealthCheckConfig, ReadyConfig
from duende.errors import ConfigurationError
from duende.model.limits import ResourceConfig
from duende.model.restart import BackoffConfig, RestartConfig, RestartPolicy

GOOD = DaemonConfig(name="x", command=("true",))


def test_a_sound_configuration_has_no_problems() -> None:
    assert problems_of(GOOD) == []
    GOOD.validate()
    DaemonConfig(name="x", binary_path=Path("/bin/true"), args=("a",)).validate()  # as the seed builds it
    assert DaemonConfig(name="x", binary_path=Path("/bin/true"), args=("a",)).command == ("/bin/true", "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "not a valid name"),
        ({"command": None}, "has neither"),
        ({"daemon": "a:B"}, "only one of"),
        ({"command": ()}, "is empty"),
        ({"command": ("a\0",)}, "NUL"),
        ({"nice": 99}, "must be -20 to 19"),
        ({"nice": "5"}, "expected a whole number, found '5'"),
        ({"umask": -1}, "must be 0 to 0o777"),
        ({"shutdown_timeout": -1.0}, "finite number of seconds"),
        ({"shutdown_timeout": float("inf")}, "finite number of seconds"),
        ({"env": {"A=": "x"}}, "can't contain `=`"),
        ({"env": {"A": "x\0"}}, "without NUL"),
        ({"env": {"A": 5}}, "expected text"),
        ({"restart": RestartConfig(backoff=BackoffConfig(jitter=2.0))}, "daemon.x.restart.jitter: must be 0 to 1"),
        ({"restart": RestartConfig(policy=RestartPolicy.MAX_RETRIES)}, "needs max_retries"),
        ({"resources": ResourceConfig(memory_bytes=-1)}, "daemon.x.resources.memory_bytes: must be at least 0"),
        ({"ready": ReadyConfig(tcp="x:1", notify=True)}, "only one of notify"),
        ({"health_check": HealthCheckConfig(http="x:1")}, "is not a URL"),
        ({"health_check": "yes"}, "expected a table"),
        ({"autostart": 1}, "expected true or false"),
        ({"replicas": True}, "expected a whole number, found True"),
    ],
)
def test_hand_built_values_are_checked_by_the_same_rules(change: dict[str, Any], message: str) -> None:
    bad = replace(GOOD, **change)
    with pytest.raises(ConfigurationError) as caught:
        bad.validate()
    (problem,) = caught.value.problems
    assert message in str(problem)


def check(tmp_path: Path, text: str, **environ: str) -> tuple[list[str], list[str]]:
    (tmp_path / "duende.toml").write_text(text)
    findings = check_file(tmp_path / "duende.toml", environ={"PATH": "/usr/bin:/bin"} | environ)
    strip = f"{tmp_path}/"
    return [str(p).replace(strip, "") for p in findings.errors], [str(p).replace(strip, "") for p in findings.warnings]


def test_what_the_machine_lacks_is_found_and_did_not_stop_the_load(tmp_path: Path) -> None:
    text = """\
[daemon.a]
command = "no-such-program-here"
user = "no-such-user"
group = "no-such-group"
[daemon.b]
command = "./gone.sh"
working_dir = "missing"
[daemon.c]
daemon = "gone.py:C"
[daemon.d]
command = "true"
"""
    found, warnings = check(tmp_path, text)
    assert found == [
        "duende.toml:2: daemon.a.command: there is no program no-such-program-here on the daemon's PATH "
        "(/usr/bin:/bin)",
        "duende.toml:3: daemon.a.user: there is no user no-such-user",
        "duende.toml:4: daemon.a.group: there is no group no-such-group",
        "duende.toml:7: daemon.b.working_dir: missing does not exist",
        "duende.toml:6: daemon.b.command: missing/./gone.sh does not exist",
        "duende.toml:9: daemon.c.daemon: gone.py does not exist",
    ]
    assert warnings == []


def test_doubts_are_warnings(tmp_path: Path) -> None:
    text = '[daemon.a]\ncommand = "true | cat"\nreplicas = 2\nhealth_check = {timeout = "1m", tcp = "x:1"}\n'
    found, warnings = check(tmp_path, text)
    assert found == []
    assert [warning.split(": ")[1] for warning in warnings] == [
        "daemon.a.command", "daemon.a.replicas", "daemon.a.health_check.timeout"
    ]  # fmt: skip
    assert check(tmp_path, "")[1] == ["duende.toml: describes no daemon (write a [daemon.NAME] table)"]


def test_a_file_that_does_not_load_is_all_errors(tmp_path: Path) -> None:
    assert check(tmp_path, "x = 1") == (["duende.toml:1: x: unknown key"], [])


def test_programs_are_searched_on_the_daemons_own_path(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "mine"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    text = '[daemon.a]\ncommand = "mine"\nenv = { PATH = "bin" }\n'
    assert "mine is not executable" in check(tmp_path, text)[0][0]
    program.chmod(0o755)
    assert check(tmp_path, text) == ([], [])
    assert find_program("./bin/mine", {}, str(tmp_path)) == (f"{tmp_path}/./bin/mine", "")
    assert find_program(str(tmp_path), {}, "/") == (None, f"{tmp_path} is a directory")
    clean = '[daemon.a]\ncommand = "mine"\nclean_env = true\n'
    assert "no program mine" in check(tmp_path, clean, PATH=str(program.parent))[0][0]


# --- exec's limits: what the function says is what the kernel does

PROGRAM = shutil.which("true") or "/bin/true"


def kernel_accepts(env: Mapping[str, str], argv: Sequence[str]) -> bool:
    try:
        pid = os.posix_spawn(PROGRAM, list(argv), dict(env))
    except OSError as error:
        assert error.errno == errno.E2BIG  # noqa: PT017  # other errors are not what this asks
        return False
    os.waitpid(pid, 0)
    return True


linux_only = pytest.mark.skipif(os.uname().sysname != "Linux", reason="figures of the Linux kernel")


@linux_only
@pytest.mark.parametrize("where", ["env", "argv"])
def test_the_longest_string_is_the_kernels(where: str) -> None:
    limit = 32 * os.sysconf("SC_PAGE_SIZE")
    for size, accepted in ((limit - 1, True), (limit, False)):  # and its NUL
        env = {"A": "x" * (size - 2)} if where == "env" else {}
        argv = [PROGRAM, "x" * size] if where == "argv" else [PROGRAM]
        assert kernel_accepts(env, argv) is accepted
        assert (environment_problems(env, argv) == []) is accepted


@linux_only
def test_the_total_is_the_kernels_to_the_word() -> None:
    """Grow the environment until the kernel refuses: the function must change its mind within one page of there."""
    chunk = 100_000
    limit = max(min(resource.getrlimit(resource.RLIMIT_STACK)[0] // 4, 6 * 1024**2), 131072)
    if resource.getrlimit(resource.RLIMIT_STACK)[0] < 0:
        limit = 6 * 1024**2
    base = {f"V{n:05}": "x" * chunk for n in range((limit - 200_000) // (chunk + 16))}

    def env(extra: int) -> dict[str, str]:
        return {**base, "E1": "y" * min(extra, chunk), "E2": "y" * min(max(extra - chunk, 0), chunk),
                "E3": "y" * max(extra - 2 * chunk, 0)}  # fmt: skip

    def edge(accepts: Any) -> int:
        low, high = 0, 320_000
        assert accepts(env(low))
        assert not accepts(env(high))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if accepts(env(middle)) else (low, middle)
        return low

    ours = edge(lambda candidate: not environment_problems(candidate, [PROGRAM]))
    kernels = edge(lambda candidate: kernel_accepts(candidate, [PROGRAM]))
    assert 0 <= kernels - ours <= 64, f"kernel {kernels}, ours {ours}"


@linux_only
def test_a_variable_of_a_mebibyte_and_ten_in_all_are_told_before_exec() -> None:
    (problem,) = environment_problems({"HUGE": "s" * 1024**2, "OK": "1"}, ["true"])
    assert "the variable HUGE has 1048582 bytes; the kernel takes 131072 in one string" in str(problem)
    assert "sss" not in str(problem)
    many = {f"V{n}": "s" * 100_000 for n in range(105)}
    (problem,) = environment_problems(many, ["true"])
    assert "in all; the kernel takes" in str(problem)
    assert not kernel_accepts(many, ["true"])


@linux_only
def test_a_small_stack_limit_lowers_the_total_to_its_floor() -> None:
    env = {"A": "x" * 100_000, "B": "x" * 100_000}
    assert environment_problems(env, ["true"], stack_limit_bytes=8 * 1024**2) == []
    (problem,) = environment_problems(env, ["true"], stack_limit_bytes=64 * 1024)
    assert "takes 131072" in str(problem)
    assert environment_problems({}, [], stack_limit_bytes=resource.RLIM_INFINITY) == []


def test_an_environment_too_large_is_found_by_check(tmp_path: Path) -> None:
    (tmp_path / "big.env").write_text("BIG=" + "x" * 200_000)
    found, _ = check(tmp_path, '[daemon.a]\ncommand = "true"\nenv_file = "big.env"\n')
    assert "the variable BIG has 200005 bytes" in found[0]


def test_what_the_machine_lacks_is_told_together_with_what_is_wrong_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "duende.toml"
    path.write_text(
        '[daemon.a]\ncommand = "true"\nuser = "nosuchusr"\nworking_dir = "/nope"\nenv_file = "/nope/env"\n'
        '[daemon.b]\ncommand = "nosuchprog"\nnice = 99\n'
    )
    found = check_file(path).errors
    assert [(problem.line, problem.key) for problem in found] == [
        (3, "daemon.a.user"), (4, "daemon.a.working_dir"), (5, "daemon.a.env_file"),
        (7, "daemon.b.command"), (8, "daemon.b.nice"),
    ]  # fmt: skip
