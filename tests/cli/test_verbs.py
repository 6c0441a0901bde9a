"""Each verb against a served fake manager: what it asks for, what it prints, how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from duende.cli import exits
from duende.errors import PermissionDenied
from tests.api.fake import Served, daemon_status
from tests.cli.conftest import Run
from tests.cli.test_main import START, environ

CRASHED = {
    "exit": {"reason": "error", "message": "exited with code 7", "code": 7, "signal": None, "at_s": 1.0},
    "restarts": 3,
    "next_start_s": 4.2,
    "message": "exited with code 7; try 4 in 4.2 s",
    "log_tail": ["about to \x1b[31mcrash", "Traceback"],
}
WAITING = {"wait": True, "timeout_s": None}


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_operations_wait_by_default(run: Run, shop: Served, verb: str) -> None:
    ran = run(verb, "worker.*", "web")
    # A start of what is named, not found by a pattern, may be refused.
    extra = {"refuse_running": frozenset({"web"})} if verb == "start" else {}
    assert shop.manager.calls == [(verb, ["web", "worker.1", "worker.2"], {**WAITING, **extra})]
    assert ran == (exits.OK, "web       ok  running\nworker.1  ok  running\nworker.2  ok  running\n", "")


def test_no_wait_and_a_timeout_with_units(run: Run, shop: Served) -> None:
    run("stop", "web", "--no-wait", "--timeout", "1m30s", "cache")
    assert shop.manager.calls == [("stop", ["cache", "web"], {"wait": False, "timeout_s": 90.0})]


def test_one_failure_is_exit_code_1_and_a_time_out_5(run: Run, shop: Served) -> None:
    shop.manager.results["web"] = {"ok": False, "changed": True, "status": "failed", "message": "exited with code 1"}
    ran = run("start", "*")
    assert ran.code == exits.FAILED
    assert "web       failed  failed: exited with code 1\n" in ran.out
    shop.manager.results["web"] = {"ok": False, "timed_out": True, "status": "starting", "message": "still starting"}
    ran = run("start", "*", "--timeout", "1")
    assert ran.code == exits.TIMED_OUT
    assert "web       timed out  starting: still starting\n" in ran.out
    shop.manager.results["cache"] = {"ok": False, "status": "failed", "message": "no"}
    assert run("start", "*").code == exits.FAILED  # the worse of the two


def test_what_was_so_already_is_said(run: Run, shop: Served) -> None:
    shop.manager.results["web"] = {"changed": False}
    assert run("start", "web").out == "web  unchanged  running\n"


def test_results_as_json(run: Run, shop: Served) -> None:
    ran = run("stop", "web", "--json")
    result = {"name": "web", "ok": True, "changed": True, "status": "running", "message": ""}
    assert ran.json == {"ok": True, "results": [result]}


def test_an_unknown_daemon_is_exit_code_4(run: Run, shop: Served) -> None:
    for verb in ("stop", "status", "logs", "events", "exec"):
        ran = run(verb, "nope", *(["--", "true"] if verb == "exec" else []))
        assert (ran.code, ran.out) == (exits.NO_SUCH_DAEMON, "")
        assert "cannot find daemon 'nope'" in ran.err
        assert "Traceback" not in ran.err
    assert shop.manager.calls == []


def test_a_refused_user_is_exit_code_77(run: Run, shop: Served) -> None:
    shop.manager.raises = PermissionDenied("not yours")
    assert run("status") == (exits.PERMISSION, "", "duende: not yours\n")


def test_reload_signal_and_wait(run: Run, shop: Served) -> None:
    run("reload", "web")
    run("signal", "HUP", "web", "cache")
    run("signal", "--tree", "SIGSTOP", "web")
    run("wait", "web", "--for", "healthy", "--timeout", "500ms")
    assert shop.manager.calls == [
        ("reload", ["web"], {}),
        ("signal", ["cache", "web"], {"signal": 1, "tree": False}),
        ("signal", ["web"], {"signal": 19, "tree": True}),
        ("wait", ["web"], {"until": "healthy", "timeout_s": 0.5}),
    ]
    ran = run("signal", "NOPE", "web")
    assert ran.code == exits.USAGE
    assert "unknown signal 'NOPE'" in ran.err


def test_status_as_a_table(run: Run, shop: Served) -> None:
    shop.manager.daemons["worker.2"] = daemon_status("worker.2", "stopped", waiting_for=["cache"])
    lines = run("status").out.splitlines()
    assert lines[0].split() == ["NAME", "STATUS", "READY", "HEALTH", "PID", "UPTIME", "RESTARTS", "NEXT/EXIT"]
    assert lines[1].split() == ["cache", "running", "yes", "-", "77", "12s", "0", "-"]
    assert lines[4].split(None, 7) == ["worker.2", "stopped", "no", "-", "-", "-", "0", "waits for cache"]
    assert len(lines) == 5


def test_status_of_one_in_trouble_says_why_in_words(run: Run, shop: Served) -> None:
    shop.manager.daemons["web"] = daemon_status("web", "backoff", **CRASHED)
    ran = run("status", "web")
    assert ran.code == exits.NOT_RUNNING
    assert ran.out.startswith("web is backoff: exited with code 7; try 4 in 4.2 s\n")
    assert "  last exit      exited with code 7, " in ran.out
    assert "  restarts       3, by duende\n" in ran.out
    assert "  next try       in 4.2s\n" in ran.out
    assert "    | about to \\x1b[31mcrash\n    | Traceback\n" in ran.out
    assert "\x1b" not in ran.out
    everything = run("status")
    assert everything.code == exits.OK  # the question was answered
    assert ran.out in everything.out


def test_a_kill_is_told_with_its_signal(run: Run, shop: Served) -> None:
    killed = {"reason": "resource exhausted", "message": "out of memory", "code": None, "signal": 9, "at_s": 1.0}
    shop.manager.daemons["web"] = daemon_status("web", "failed", exit=killed)
    assert "last exit      resource exhausted: out of memory (signal 9), " in run("status", "web").out


@pytest.mark.parametrize(
    ("status", "code"),
    [("running", 0), ("paused", 0), ("starting", 3), ("stopping", 3), ("stopped", 3), ("failed", 3), ("backoff", 3)],
)
def test_status_of_a_name_has_lsb_exit_codes(run: Run, shop: Served, status: str, code: int) -> None:
    shop.manager.daemons["web"] = daemon_status("web", status)
    assert run("status", "web").code == code
    assert run("status", "web", "cache").code == code
    assert run("status", "web", "--json").code == code
    assert run("status").code == exits.OK


def test_a_stack_without_daemons(run: Run, shop: Served) -> None:
    shop.manager.daemons.clear()
    assert run("status") == (exits.OK, "stack shop has no daemons\n", "")
    assert run("ps").code == run("logs").code == exits.OK


def test_health_in_words(run: Run, shop: Served) -> None:
    shop.manager.daemons["web"]["health"] = {"healthy": False, "latency_ms": 2.0, "reason": "503 \x07"}
    assert "  health         unhealthy: 503 \\x07\n" in run("status", "web").out
    assert run("status").out.splitlines()[2].split()[3] == "unhealthy"


def test_ps(run: Run, shop: Served) -> None:
    line = run("ps", "web").out.splitlines()[1]
    assert " ".join(line.split()) == "web 77 1 S 3.0 MiB 1.5s run web"
    assert run("ps", "web", "--json").json["processes"][0]["rss_bytes"] == 3 << 20


LOG = (
    b"2026-11-21T02:36:00.000000Z stdout F plain\n"
    b"2026-11-21T02:36:01.000000Z stderr F:3 \x1b]0;pwned\x07 \xff\n"
)


def test_logs_are_prefixed_and_harmless(run: Run, shop: Served, tmp_path: Path) -> None:
    (tmp_path / "web.log").write_bytes(LOG)
    assert run("logs").out == "web      | plain\nweb      | \\x1b]0;pwned\\x07 \\xff\n"
    assert run("logs", "web").out == "web | plain\nweb | \\x1b]0;pwned\\x07 \\xff\n"
    assert run("logs", "--no-prefix", "-n", "1", "web").out == "\\x1b]0;pwned\\x07 \\xff\n"
    assert run("logs", "--no-prefix", "--stdout").out == "plain\n"
    assert run("logs", "-t", "--no-prefix", "--stdout").out == "2026-11-21T02:36:00.000000Z plain\n"
    assert run("logs", "--no-prefix", "--since", "2026-11-21T02:36:00.5Z", "web").out.count("\n") == 1
    assert run("logs", "--since", "1s", "web").out == ""
    assert [json.loads(line)["stream"] for line in run("logs", "--json").out.splitlines()] == ["stdout", "stderr"]


def test_raw_logs_are_the_bytes(shop: Served, tmp_path: Path) -> None:
    (tmp_path / "web.log").write_bytes(LOG)
    done = subprocess.run([*START, "logs", "--raw"], env=environ(), capture_output=True, check=True, timeout=30)
    assert done.stdout == b"plain\n\x1b]0;pwned\x07 \xff\n"


def test_followed_logs_appear_at_once(shop: Served, tmp_path: Path) -> None:
    (tmp_path / "web.log").write_bytes(LOG)
    with subprocess.Popen([*START, "logs", "-f", "-n1", "web"], env=environ(), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"web | \\x1b]0;pwned\\x07 \\xff\n"
        with (tmp_path / "web.log").open("ab") as file:
            file.write(b"2026-11-21T02:36:02.000000Z stdout F new\n")
        assert child.stdout.readline() == b"web | new\n"
        child.terminate()


@pytest.mark.parametrize("value", ["-5", "x", "１"])
def test_bad_counts_are_usage_errors(run: Run, shop: Served, value: str) -> None:
    assert run("logs", f"--lines={value}").code == exits.USAGE
    assert run("events", f"--since-seq={value}").code == exits.USAGE


def test_events(run: Run, shop: Served) -> None:
    shop.do(shop.manager.events.add, "web", "exited", "code 1\x1b")
    shop.do(shop.manager.events.add, "cache", "started")
    assert run("events").out == (
        "1  2026-11-21T02:36:00.000000Z  web  exited  code 1\\x1b\n2  2026-11-21T02:36:00.000000Z  cache  started\n"
    )
    assert json.loads(run("events", "--json", "--since-seq", "1").out)["seq"] == 2
    assert run("events", "-n", "1", "web").out == ""
    assert run("events", "web").out.count("\n") == 1


def test_down_waits_for_the_end_of_the_manager(run: Run, shop: Served) -> None:
    ran = run("down", "--timeout", "0.1s")  # the fake manager is this very process, so it can't end
    assert shop.manager.calls == [("shutdown", [], {"stop_daemons": True})]
    assert ran.code == exits.TIMED_OUT
    assert "still stops its daemons after 0.1 s" in ran.out
    assert run("down", "--no-wait", "--leave-daemons", "--json").json == {"ok": True, "waited": False}
    run("version")  # a later request is served later, so the one before has arrived
    assert ("shutdown", [], {"stop_daemons": False}) in shop.manager.calls


def test_exec_becomes_the_command(shop: Served, tmp_path: Path) -> None:
    shop.manager.environment = {
        "argv": ["web"], "env": {"PATH": os.environ["PATH"], "ONLY": "this"}, "cwd": str(tmp_path), "user": None,
        "group": None, "umask": 0o027,
    }  # fmt: skip
    command = [*START, "exec", "web", "--", "sh", "-c", "echo $ONLY-$DUENDE_RUNTIME_DIR; pwd; umask; exit 9"]
    done = subprocess.run(command, env=environ(), capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (9, f"this-\n{tmp_path}\n0027\n")
    for program, code in (("no-such-program", exits.NOT_FOUND), ("/etc/passwd", exits.NOT_EXECUTABLE)):
        done = subprocess.run([*START, "exec", "web", "--", program], env=environ(), capture_output=True, text=True)
        assert done.returncode == code
        assert f"cannot execute {program}" in done.stderr


def test_exec_takes_on_the_daemons_user(shop: Served) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    base = {"argv": [], "env": {"PATH": os.environ["PATH"]}, "cwd": "/", "umask": None}
    shop.manager.environment = {**base, "user": "nobody", "group": None}
    command = [*START, "exec", "web", "--", "id", "-u"]
    assert subprocess.run(command, env=environ(), capture_output=True, timeout=30).stdout == b"65534\n"
    shop.manager.environment = {**base, "user": "no-such-user", "group": None}
    done = subprocess.run(command, env=environ(), capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (exits.USAGE, "")
    assert "no such user or group: no-such-user" in done.stderr


def test_exec_needs_a_command(run: Run, shop: Served) -> None:
    assert run("exec", "web").code == run("exec", "web", "--").code == exits.USAGE


def test_up_with_a_running_manager_asks_it(run: Run, shop: Served) -> None:
    ran = run("up", "-d")
    assert shop.manager.calls == [("start", [], WAITING)]
    assert ran.out.startswith("a manager of stack shop runs already; asking it to start what is missing\n")
    run("up", "web", "--no-wait")
    assert shop.manager.calls[1] == ("start", ["web"], {"wait": False, "timeout_s": None})
    assert run("up", "--set", "daemon.web.nice=1").code == exits.USAGE


def test_up_refuses_a_file_of_another_stack(run: Run, home: Path) -> None:
    (home / "duende.toml").write_text('[daemon.web]\ncommand = ["true"]\n')
    ran = run("up", "-s", "other")
    assert ran.code == exits.USAGE
    assert "is of stack shop, not other" in ran.err


@pytest.mark.parametrize(
    "argv", [[], ["a:b", "--", "true"], ["true"], ["--env", "X", "--", "true"], ["--set", "=x", "a:B"]]
)
def test_run_needs_one_thing_to_run(run: Run, argv: list[str]) -> None:
    ran = run("run", *argv)
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert "duende: run: " in ran.err


def test_check_says_all_at_once(run: Run, home: Path) -> None:
    (home / "duende.toml").write_text('[daemon.web]\ncomand = ["true"]\nnice = "x"\n')
    ran = run("check")
    assert ran.code == exits.USAGE
    assert ran.out.count("error: ") >= 2
    assert "duende.toml:2" in ran.out
    found = run("check", "--json").json
    assert found["ok"] is False
    assert {"daemon.web.comand", "daemon.web.nice"} <= {error["key"] for error in found["errors"]}
    (home / "good.toml").write_text(f'[daemon.web]\ncommand = ["{sys.executable}"]\n')
    assert run("check", "good.toml", "--json").json["ok"] is True
    assert run("check", "good.toml", "--set", "daemon.web.nice=999").code == exits.USAGE


def test_schema_is_a_json_schema(run: Run) -> None:
    assert run("schema").json["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_version(run: Run, shop: Served, tmp_path: Path) -> None:
    assert run("version").out.startswith("duende 0.")
    found = run("--version", "--json").json
    assert found["manager"] == found["version"]
    assert run("version", "-s", "nobody", "--json").json["manager"] is None


def test_doctor_tries_things_out(run: Run, shop: Served, tmp_path: Path) -> None:
    ran = run("doctor", "--json")
    levels = {finding["what"]: finding["level"] for finding in ran.json["findings"]}
    assert levels["Python"] == levels["kernel"] == levels["runtime directory"] == levels["manager of shop"] == "ok"
    assert set(levels.values()) <= {"ok", "warn", "fail"}
    (tmp_path / "run" / "shop").chmod(0o777)
    ran = run("doctor")
    assert ran.code == exits.FAILED
    assert "can be written by group or others" in ran.out
    assert "-> chmod 700" in ran.out


def test_claims_are_run_where_they_are(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    asked: list[Any] = []
    fake = types.ModuleType("duende.testing.claims")
    fake.main = lambda argv: asked.append(argv) or 1  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "duende.testing.claims", fake)
    assert run("claims", "--json").code == 1
    assert asked == [["--json"]]
