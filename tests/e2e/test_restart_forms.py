"""What happens when restarts come to an end: tried anew after a while, or the whole stack ends with its daemon."""

from __future__ import annotations

import json

from tests.harness import Stack


def test_one_that_was_given_up_is_tried_anew_and_delays_are_as_written(stack: Stack) -> None:
    stack.write(
        '[daemon.a]\ncommand = ["sh", "-c", "exit 4"]\n'
        'restart = { delays = ["0s", "100ms"], max_retries = 2, retry_in = "300ms", jitter = 0 }\n'
        '[daemon.b]\ncommand = ["sleep", "1000"]\n'
    )
    stack.run("up", "-d", "--no-wait")

    def gave_up() -> list[str]:
        events = map(json.loads, stack.run("events", "a", "--json").stdout.splitlines())
        return [event["message"] for event in events if event["kind"] == "failed"]

    stack.until(lambda: len(gave_up()) >= 2, "the second time it is given up")
    assert set(gave_up()) == {"exited with code 4; max retries: tried anew in 0.3 s"}
    stack.until(lambda: stack.daemon("a")["status"] == "failed" and stack.daemon("a")["next_start_s"], "its next try")
    assert stack.daemon("a")["next_start_s"] <= 0.3
    assert stack.run("stop", "a").returncode == 0
    count = stack.daemon("a")["restarts"]
    assert stack.daemon("a")["next_start_s"] is None
    assert (stack.daemon("a")["restarts"], stack.daemon("b")["status"]) == (count, "running")


def test_an_essential_daemon_takes_the_stack_with_it_and_no_restarter_brings_it_back(stack: Stack) -> None:
    stack.write(
        '[daemon.job]\ncommand = ["sh", "-c", "read x < go; exit 3"]\nrestart = "never"\nessential = true\n'
        '[daemon.other]\ncommand = ["sleep", "1000"]\n'
    )
    assert stack.run("run", "--", "mkfifo", "go").returncode == 0
    assert stack.run("up", "-d").returncode == 0  # with its restarter
    (stack.folder / "go").write_text("\n")
    stack.until(lambda: not stack.our_processes(), "the end of everything")
    assert "essential daemon did, with code 3" in (stack.state / stack.name / "manager.log").read_text()
    assert stack.run("up", "-d", "--no-wait").returncode == 0  # asked for again, it runs again
    assert stack.daemon("other")["status"] == "running"
    assert stack.run("stop", "job").returncode == 0  # by hand: that ends nothing
    assert stack.daemon("other")["status"] == "running"
    assert stack.run("down").returncode == 0


def test_in_the_foreground_its_exit_code_is_that_of_the_stack(stack: Stack) -> None:
    stack.write('[daemon.job]\ncommand = ["sh", "-c", "kill -9 $$$$"]\nrestart = "never"\nessential = true\n')
    assert stack.run("up").returncode == 128 + 9
    stack.write('[daemon.job]\ncommand = "true"\nessential = true\n')
    assert stack.run("up").returncode == 0
    assert not stack.our_processes()


def test_one_that_uses_too_much_is_restarted_and_told_why(stack: Stack) -> None:
    grow = 'hog=$(head -c 30000000 /dev/zero | tr "\\0" x); touch grown; while :; do sleep 0.1; done'
    stack.file("hog.sh", f"test -e grown || {{ {grow}; }}; sleep 1000\n")
    stack.write(
        '[daemon.hog]\ncommand = ["sh", "hog.sh"]\n'
        'restart_when = { memory = "20MiB", for = "0s" }\nrestart = { delay = "0s" }\n'
        '[daemon.files]\ncommand = ["sh", "-c", "exec 5</dev/null 6</dev/null 7</dev/null; sleep 1000"]\n'
        'restart_when = { open_files = 5, for = "0s" }\nrestart = { delay = "1h" }\n'
    )
    stack.up()
    again = stack.until(lambda: (one := stack.daemon("hog"))["restarts"] and one, "the restart")
    assert "unhealthy: memory " in again["exit"]["message"]
    assert " MiB, over 20.0 MiB; " in again["exit"]["message"]
    stack.until(lambda: (one := stack.daemon("files"))["status"] == "backoff" and one, "the other")
    assert "unhealthy: open files " in stack.daemon("files")["exit"]["message"]
