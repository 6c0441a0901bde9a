"""Programs that the world runs, under duende: ready when they are, back after a kill, stopped as they wish to be."""

from __future__ import annotations

import importlib.util
import os
import pwd
import signal
import socket
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.harness import Stack, free_port


def _provision() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "provision.py"
    spec = importlib.util.spec_from_file_location("provision", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _program(name: str) -> str:
    found: str | None = _provision().find(name)
    if found is None:
        pytest.skip(f"needs {name} (python tools/provision.py installs it)")
    return found


def _killed_and_back(stack: Stack, name: str) -> dict[str, Any]:
    before = stack.daemon(name)
    os.kill(before["pid"], signal.SIGKILL)
    after: dict[str, Any] = stack.until(
        lambda: (one := stack.daemon(name))["restarts"] == before["restarts"] + 1 and one["ready"] and one, "it is back"
    )
    assert after["pid"] != before["pid"]
    assert after["exit"]["signal"] == 9
    return after


def _logged(stack: Stack, name: str, words: str) -> None:
    stack.until(lambda: any(words in line for line in stack.log(name)), f"the line with {words!r}")


def _redis(port: int, *words: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall((" ".join(words) + "\r\n").encode())
        return sock.recv(4096).decode().strip()


def test_redis_is_ready_when_it_answers_and_saves_when_it_is_stopped(stack: Stack) -> None:
    redis, port = _program("redis-server"), free_port()
    stack.write(f"""
[daemon.redis]
command = ["{redis}", "--port", "{port}", "--dir", "{stack.folder}", "--save", "3600 1", "--dbfilename", "dump.rdb"]
ready = {{ tcp = "127.0.0.1:{port}" }}
restart = {{ policy = "always", delay = "0s" }}
health_check = {{ tcp = "127.0.0.1:{port}", interval = "200ms" }}
resources = {{ memory_bytes = "256MiB" }}
""")
    stack.up()
    assert _redis(port, "PING") == "+PONG"  # `up` comes back when it is ready, not before
    _killed_and_back(stack, "redis")
    assert _redis(port, "SET", "colour", "green") == "+OK"
    _logged(stack, "redis", "Ready to accept connections")
    stack.until(lambda: (stack.daemon("redis")["health"] or {}).get("healthy"), "its health")
    assert stack.run("stop", "redis").returncode == 0
    stopped = stack.daemon("redis")
    assert (stopped["status"], stopped["exit"]["reason"], stopped["exit"]["code"]) == ("stopped", "graceful", 0)
    _logged(stack, "redis", "DB saved on disk")
    assert (stack.folder / "dump.rdb").exists()
    assert stack.run("start", "redis").returncode == 0
    assert _redis(port, "GET", "colour").split("\r\n") == ["$5", "green"]


def test_nginx_serves_reloads_on_sighup_and_leaves_no_worker_behind(stack: Stack) -> None:
    nginx, port = _program("nginx"), free_port()
    (stack.folder / "index.html").write_text("one")
    stack.root.chmod(0o755)
    stack.file("nginx.conf", f"""
daemon off; pid {stack.folder}/nginx.pid; error_log stderr notice; worker_processes 2; user root;
events {{}}
http {{ access_log off; client_body_temp_path {stack.folder}/b; proxy_temp_path {stack.folder}/p;
  fastcgi_temp_path {stack.folder}/f; uwsgi_temp_path {stack.folder}/u; scgi_temp_path {stack.folder}/s;
  server {{ listen 127.0.0.1:{port}; root {stack.folder}; }} }}
""")  # fmt: skip
    stack.write(f"""
[daemon.nginx]
command = ["{nginx}", "-c", "{stack.folder}/nginx.conf", "-e", "stderr"]
ready = {{ http = "http://127.0.0.1:{port}/index.html" }}
stop_signal = "SIGQUIT"
restart = {{ delay = "0s" }}
""")
    stack.up()
    back = _killed_and_back(stack, "nginx")  # its workers had to be gone, or the port would not have been free
    assert len(stack.run("ps", "--json", "nginx").json["processes"]) == 3
    assert stack.run("reload", "nginx").returncode == 0
    _logged(stack, "nginx", "reconfiguring")
    assert stack.daemon("nginx")["pid"] == back["pid"]
    assert stack.run("stop", "nginx").returncode == 0
    stopped = stack.daemon("nginx")
    assert (stopped["exit"]["reason"], stopped["exit"]["code"]) == ("graceful", 0)
    _logged(stack, "nginx", "exit")
    assert not [pid for pid in _pids_of(nginx) if str(stack.folder).encode() in _cmdline(pid)]


def _pids_of(program: str) -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and program.encode() in _cmdline(int(entry))]


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("kind", ["unix", "exec"])
def test_postgres_as_its_own_user_recovers_from_a_kill_and_shuts_down_fast(stack: Stack, kind: str) -> None:
    postgres = _program("postgres")
    initdb, isready = _program("initdb"), _program("pg_isready")
    if os.geteuid() != 0:
        pytest.skip("needs root to become the user postgres (postgres refuses to run as root)")
    account = pwd.getpwnam("postgres")
    for folder in (stack.root, stack.folder):
        folder.chmod(0o755)
    place = stack.folder / "pg"
    place.mkdir()
    os.chown(place, account.pw_uid, account.pw_gid)
    subprocess.run([initdb, "-D", place / "data", "--no-sync", "-A", "trust", "-U", "postgres"], user="postgres",
                   group="postgres", extra_groups=[], check=True, capture_output=True, cwd="/", timeout=60)  # fmt: skip
    port = free_port()
    ready = {
        "unix": f'unix = "{place}/.s.PGSQL.{port}"',
        "exec": f'exec = ["{isready}", "-h", "{place}", "-p", "{port}"]',
    }
    stack.write(f"""
[daemon.db]
command = ["{postgres}", "-D", "{place}/data", "-k", "{place}", "-p", "{port}", "-c", "listen_addresses=", "-F"]
user = "postgres"
working_dir = "{place}"
ready = {{ {ready[kind]} }}
stop_signal = "SIGINT"
restart = {{ policy = "always", delay = "0s" }}
""")
    stack.up()
    assert os.stat(f"/proc/{stack.daemon('db')['pid']}").st_uid == account.pw_uid
    _killed_and_back(stack, "db")
    _logged(stack, "db", "database system was not properly shut down; automatic recovery in progress")
    assert subprocess.run([isready, "-q", "-h", place, "-p", str(port)], check=False, timeout=20).returncode == 0
    assert stack.run("stop", "db").returncode == 0
    stopped = stack.daemon("db")
    assert (stopped["exit"]["reason"], stopped["exit"]["code"]) == ("graceful", 0)
    _logged(stack, "db", "received fast shutdown request")
    _logged(stack, "db", "database system is shut down")
