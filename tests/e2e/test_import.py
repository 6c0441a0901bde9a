"""`duende import` through the real command line, and what it wrote run with real processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.harness import Stack

SUPERVISORD = """\
[unix_http_server]
file=/tmp/supervisor.sock

[supervisord]
environment=SHARED="by all"

[program:web]
command=sh -c 'trap "echo told to quit; exit 0" QUIT; echo "$SHARED, $OWN, %(ENV_TEST_STACK)s";
    while :; do sleep 0.05; done'
environment=OWN="a;b"     ; a comment
stopsignal=QUIT
stopwaitsecs=9
autorestart=true
priority=10

[program:crash]
command=sh -c 'echo once more; exit 3'
startretries=0
startsecs=60

[program:fine]
command=sh -c 'echo fine; exit 2'
exitcodes=0,2

[program:worker]
command=sleep 1000
process_name=%(program_name)s_%(process_num)02d
numprocs=2

[program:asleep]
command=sleep 1000
autostart=false

[group:shop]
programs=worker
"""

PROCFILE = """\
# the site
web: echo "web on $PORT says $GREETING" && exec sleep 1000
worker: sleep 1000
"""


def test_an_imported_supervisord_conf_runs(stack: Stack) -> None:
    stack.write("")
    (stack.folder / "duende.toml").unlink()
    stack.file("supervisord.conf", SUPERVISORD)
    done = stack.run("import", "supervisord.conf", "-o", "duende.toml")
    assert done.returncode == 6, done.stderr
    assert "not carried over: supervisord.conf:14: [program:web] priority: " in done.stderr
    assert done.stderr.count("not carried over") == 1
    assert stack.run("check").returncode == 0
    started = stack.run("up", "-d", "--no-restarter")
    assert "Traceback" not in started.stderr
    statuses = stack.until(
        lambda: (found := {one["name"]: one["status"] for one in stack.status()["daemons"]})["crash"] == "failed"
        and found["fine"] == "stopped" and found,
        "the end of crash and fine",
    )  # fmt: skip
    assert statuses == {
        "web": "running", "crash": "failed", "fine": "stopped", "shop.worker.1": "running", "shop.worker.2": "running",
        "asleep": stack.daemon("asleep")["status"],
    }  # fmt: skip
    assert statuses["asleep"] != "running"
    stack.until(lambda: stack.log("web"), "the line of web")
    assert stack.log("web") == [f"by all, a;b, {stack.root}"]
    assert stack.log("crash") == ["once more"]
    assert stack.run("down").returncode == 0
    assert "told to quit" in "".join(path.read_text() for path in stack.state.rglob("*.log") if "web" in str(path))
    assert not stack.our_processes()


def test_an_imported_procfile_runs(stack: Stack) -> None:
    (stack.folder / "duende.toml").unlink()
    stack.file("Procfile", PROCFILE)
    stack.file(".env", "GREETING='good day'\nPORT=6100\n")
    done = stack.run("import", "Procfile", "-o", "duende.toml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    stack.up()
    stack.until(lambda: stack.log("web"), "the line of web")
    assert stack.log("web") == ["web on 6100 says good day"]
    environ = Path(f"/proc/{stack.daemon('worker')['pid']}/environ").read_bytes().split(b"\0")
    assert b"PORT=6200" in environ
    assert stack.run("down").returncode == 0
    assert not stack.our_processes()


def test_what_is_written_and_what_is_not(stack: Stack) -> None:
    before = stack.write("[daemon.mine]\ncommand = 'x'\n").read_text()
    stack.file("Procfile", "web: x\n")
    refused = stack.run("import", "Procfile", "-o", "duende.toml")
    assert (refused.returncode, (stack.folder / "duende.toml").read_text()) == (2, before)
    assert "duende.toml exists already; choose another name, or replace it with --force" in refused.stderr
    stack.file("p.service", "[Service]\nExecStart=/bin/x\nPrivateTmp=yes\n")
    strict = stack.run("import", "p.service", "-o", "duende.toml", "--force", "--strict")
    assert (strict.returncode, (stack.folder / "duende.toml").read_text()) == (1, before)
    assert "p.service:3: [Service] PrivateTmp: " in strict.stderr
    assert "nothing is written: 1 not carried over (--strict)" in strict.stderr
    assert stack.run("import", "Procfile", "-o", "duende.toml", "--force", "--strict").returncode == 0
    assert "[daemon.web]" in (stack.folder / "duende.toml").read_text()
    assert sorted(os.listdir(stack.folder)) == ["Procfile", "duende.toml", "p.service"]


def test_standard_output_gets_the_file_and_nothing_else(stack: Stack) -> None:
    stack.file("p.service", "[Service]\nExecStart=/bin/sleep 1\nPrivateTmp=yes\n")
    done = stack.run("import", "p.service")
    assert done.returncode == 6
    stack.write(done.stdout)
    assert stack.run("check", "--json").json["errors"] == []
    wired = stack.run("import", "p.service", "--json")
    assert (wired.returncode, wired.stderr) == (6, "")
    assert wired.json["text"] == done.stdout
    assert wired.json["daemons"] == ["p"]
    assert [(one["file"], one["line"], one["key"]) for one in wired.json["dropped"]] == [
        ("p.service", 3, "[Service] PrivateTmp")
    ]


@pytest.mark.parametrize(("name", "text", "words"), [
    ("ecosystem.config.js", "module.exports = {}\n", "pm2 prettylist"),
    ("nonsense", "what is this?\n", "--from procfile|supervisord|pm2|compose|systemd"),
    ("x.json", json.dumps({"apps": []}), "x.json: has no apps"),
    ("x.service", "[Service]\nnothing\n", "x.service:2: is not KEY=VALUE"),
])  # fmt: skip
def test_a_file_that_cannot_be_imported_says_why(stack: Stack, name: str, text: str, words: str) -> None:
    stack.file(name, text)
    done = stack.run("import", name, "-o", "new.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert not (stack.folder / "new.toml").exists()
    missing = stack.run("import", "not-there")
    assert (missing.returncode, missing.stderr) == (2, "duende: not-there: does not exist\n")
