"""Finding the verb, help, usage errors, and what is imported for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from duende.cli import exits
from duende.cli.main import VERBS, help_text
from tests.api.fake import Served
from tests.cli.conftest import Run

SRC = str(Path(__file__).resolve().parents[2] / "src")
DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "exit-codes.md"
START = [sys.executable, "-c", "from duende.cli.main import entry; entry()"]
# What `duende status` may import beyond what the bare interpreter has: the figure is in docs, the list is what it is.
HEAVY = {
    "asyncio", "concurrent", "dataclasses", "difflib", "h11", "http", "importlib.metadata", "inspect", "logging",
    "pathlib", "shutil", "sqlite3", "subprocess", "tomllib", "traceback", "urllib", "duende.runtime", "duende.model",
    "duende.config.schema",
}  # fmt: skip


def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": SRC}


def test_help_lists_every_verb_with_examples(run: Run) -> None:
    ran = run("--help")
    assert ran.code == exits.OK
    assert all(f"  {verb} " in ran.out for verb in VERBS)
    assert "examples:" in ran.out


def test_nothing_at_all_is_a_usage_error(run: Run) -> None:
    assert run() == (exits.USAGE, "", help_text())


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_verb_has_help_with_examples(run: Run, verb: str, flag: str) -> None:
    ran = run(verb, flag)
    assert ran.code == exits.OK
    assert ran.out.startswith(f"usage: duende {verb}")
    assert f"examples:\n  duende {verb}" in ran.out
    assert all(len(line) <= 110 for line in ran.out.splitlines())


def test_help_as_a_verb(run: Run) -> None:
    assert run("help", "status").out.startswith("usage: duende status")
    assert run("help").out == help_text()


def test_a_misspelt_verb_is_recognised(run: Run) -> None:
    assert run("staus") == (exits.USAGE, "", "duende: unknown verb 'staus': did you mean 'status'?\n")


@pytest.mark.parametrize(
    "argv", [["status", "--nope"], ["stop"], ["wait", "web", "--for", "x"], ["stop", "a", "--timeout", "x"]]
)
def test_bad_arguments_are_usage_errors(run: Run, argv: list[str]) -> None:
    ran = run(*argv)
    assert ran.code == exits.USAGE
    assert ran.err.startswith(f"usage: duende {argv[0]}")


def test_global_options_stand_before_or_after_the_verb(run: Run, shop: Served) -> None:
    before = run("--json", "-s", "shop", "status", "web")
    after = run("status", "web", "-s", "shop", "--json")
    assert before == after
    assert before.json["daemons"][0]["name"] == "web"
    config = str(Path.cwd() / "duende.toml")
    for argv in (["-c", config, "status"], ["-c" + config, "status"], ["--config=" + config, "status"]):
        assert run(*argv).code == exits.OK


def test_the_stack_is_found_from_below_by_variable_and_by_name(
    run: Run, shop: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    below = Path.cwd() / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert run("status").code == exits.OK
    monkeypatch.chdir(tmp_path)
    ran = run("status")
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert "no duende.toml here or in a folder above" in ran.err
    assert run("status", "-s", "shop").code == exits.OK
    monkeypatch.setenv("DUENDE_STACK", "shop")
    assert run("status").code == exits.OK
    assert run("status", "-s", "../x").code == exits.USAGE


def test_no_manager_is_told_with_what_to_do(run: Run, tmp_path: Path) -> None:
    ran = run("status", "-s", "shop")
    socket_path = tmp_path / "run" / "shop" / "duende.sock"
    assert ran == (
        exits.NO_MANAGER,
        "",
        f"duende: no manager is running for stack shop (socket {socket_path}); start it with `duende up`\n",
    )


def test_the_page_of_exit_codes_is_fresh() -> None:
    assert DOCS.read_text() == exits.reference_markdown()


def test_status_imports_nothing_heavy(shop: Served) -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from duende.cli.main import main\n"
        "assert main(['status']) == 0\n"
        "print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environ(), capture_output=True, text=True, check=True)
    assert "web" in done.stdout
    imported = set(done.stderr.split())
    assert "duende.api.client" in imported
    heavy = {name for name in imported if name in HEAVY or any(name.startswith(f"{one}.") for one in HEAVY)}
    assert not heavy


def test_a_start_in_the_background_imports_no_manager() -> None:
    """Whoever says `up -d` waits for another process; that one imports the manager."""
    code = "import sys, duende.cli.up, duende.api.background; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    imported = done.stdout.split()
    assert "duende.config.load" in imported
    heavy = [name for name in imported if name.startswith(("duende.runtime", "duende.adapters", "asyncio", "sqlite3"))]
    assert heavy == []


def following(shop: Served) -> subprocess.Popen[bytes]:
    """`duende events -f`, which will have one line to say."""
    shop.do(shop.manager.events.add, "web", "started")
    return subprocess.Popen([*START, "events", "-f"], env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_reader_that_leaves_is_quiet(shop: Served) -> None:
    with following(shop) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline()
        child.stdout.close()
        shop.do(shop.manager.events.add, "web", "ready")
        assert child.wait(20) == exits.PIPE_CLOSED
        assert child.stderr.read() == b""


def test_ctrl_c_is_quiet(shop: Served) -> None:
    with following(shop) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline()
        child.send_signal(2)
        try:
            assert child.wait(20) == exits.INTERRUPTED
        finally:
            child.kill()  # `with` would wait for ever
        assert child.stderr.read() == b""


def test_a_full_disk_is_told(shop: Served) -> None:
    with open("/dev/full", "w") as full:
        pipe = subprocess.PIPE
        done = subprocess.run([*START, "status"], env=environ(), stdout=full, stderr=pipe, text=True, timeout=30)
    assert done.returncode == exits.FAILED
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_output_is_nobodys_fault(shop: Served) -> None:
    shell = f'{sys.executable} -c "from duende.cli.main import entry; entry()" status >&-'
    done = subprocess.run(["sh", "-c", shell], env=environ(), capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (exits.OK, "")


def test_an_old_encoding_does_not_break_status(shop: Served) -> None:
    shop.manager.daemons["web"]["message"] = "日本"
    env = {**environ(), "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([*START, "status", "web"], env=env, capture_output=True, timeout=30)
    assert done.returncode == exits.OK
    assert rb"\u65e5" in done.stdout
    done = subprocess.run([*START, "status", "web", "--json"], env=env, capture_output=True, timeout=30)
    assert b'"\\u65e5\\u672c"' in done.stdout


def test_a_bug_shows_its_traceback(run: Run, shop: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.manager.daemons["web"].pop("status")
    ran = run("status")
    assert ran.code == exits.FAILED
    assert "KeyError: 'status'" in ran.err
    assert "a bug in duende" in ran.err
