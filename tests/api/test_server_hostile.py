"""What clients do that they should not, and what the kernel says about who they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duende.api.client import ApiError, Client, NoManager
from duende.api.server import CONNECTIONS_MAX, ApiServer
from duende.errors import PlatformIoError
from tests.api.fake import FakeManager, Served, served

TARGETS = [b"/v1/stop", b"/v1/events?follow=0", b"/v1/status?name=%ff", b"http://[/", b"*"]
HEADERS = [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Content-Length: -1", b"A: b", b"::"]
GET = b"GET /v1/version HTTP/1.1\r\nHost: x\r\n"


@contextlib.contextmanager
def raw(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)  # without a timeout it waits for room in the backlog
        sock.settimeout(10.0)
        yield sock


def all_of(sock: socket.socket) -> bytes:
    """Everything until the end; a server that closed without reading all of our bytes is an end too."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(65536):
            got += data
    return got


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def problem_in(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    problem: dict[str, Any] = json.loads(body)
    return problem


def is_alive(api: Served) -> bool:
    return bool(Client(api.path).get("/v1/version")["version"])


def test_the_socket_is_private(api: Served) -> None:
    assert stat.S_IMODE(os.stat(api.path).st_mode) == 0o600
    assert os.listdir(os.path.dirname(api.path)) == ["duende.sock"]


def test_garbage_is_a_bad_request(api: Served) -> None:
    with raw(api.path) as sock:
        sock.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answer = all_of(sock)
    assert status_of(answer) == 400
    assert problem_in(answer)["kind"] == "bad-request"
    assert is_alive(api)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda method, target, headers, body: (
                method + b" " + target + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\n" + body
            ),
            st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"\xff"]),
            st.one_of(st.binary(max_size=40), st.sampled_from(TARGETS)),
            st.sampled_from(HEADERS),
            st.binary(max_size=60),
        ),
    )
)
def test_no_bytes_break_the_server(api: Served, data: bytes) -> None:
    with raw(api.path) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        answer = all_of(sock)
    for line in answer.split(b"\r\n"):
        if line.startswith(b"HTTP/1.1 "):
            assert 200 <= int(line.split(b" ")[1]) < 500, (data, answer)
    assert not answer or answer.startswith(b"HTTP/1.1 ")


def test_bugs_are_not_provoked_by_odd_targets(api: Served, caplog: pytest.LogCaptureFixture) -> None:
    for target in (b"http://[/", b"//", b"*", b"/v1/daemons/%ff/exec-environment", b"/v1/status?name=%ff"):
        with raw(api.path) as sock:
            sock.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert 400 <= status_of(all_of(sock)) < 500, target
    assert not caplog.records


def test_a_huge_header_is_refused(api: Served) -> None:
    with raw(api.path) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(GET + b"X: " + b"a" * 200_000)
        answer = all_of(sock)
    assert status_of(answer) == 431
    assert problem_in(answer)["kind"] == "header-too-large"


@pytest.mark.parametrize("announced", [True, False])
def test_a_huge_body_is_refused(api: Served, announced: bool) -> None:
    head = b"POST /v1/stop HTTP/1.1\r\nHost: x\r\n"
    with raw(api.path) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if announced:
                sock.sendall(head + b"Content-Length: 1048577\r\n\r\n")
            else:
                sock.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
                for _ in range(20):
                    sock.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        answer = all_of(sock)
    assert status_of(answer) == 413
    assert problem_in(answer)["kind"] == "body-too-large"
    assert api.manager.calls == []


def test_a_body_of_the_very_limit_is_read(api: Served) -> None:
    body = json.dumps({"names": ["web"]}).encode().ljust(1024 * 1024)
    with raw(api.path) as sock:
        head = b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1048576\r\n\r\n"
        sock.sendall(head + body)
        assert status_of(all_of(sock)) == 200


@pytest.mark.parametrize(
    "body",
    [b"{", b"[" * 100_000, b'{"names":["web"],"timeout_s":NaN}', b'{"names":["web"],"timeout_s":1e999}', b"\xff"],
)
def test_bodies_that_are_no_json(api: Served, body: bytes) -> None:
    with raw(api.path) as sock:
        head = b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        sock.sendall(head + body)
        assert status_of(all_of(sock)) in (400, 422)
    assert api.manager.calls == []


def test_a_slow_request_is_given_up(tmp_path: Path, socket_path: str) -> None:
    with served(tmp_path, socket_path, request_s=0.3) as api, raw(api.path) as sock:
        begun_s = time.monotonic()
        sock.sendall(b"G")
        stop = threading.Event()

        def drip() -> None:  # a byte now and then must not win it more time
            with contextlib.suppress(OSError):
                while not stop.wait(0.05):
                    sock.sendall(b"E")

        dripping = threading.Thread(target=drip)
        dripping.start()
        answer = all_of(sock)
        stop.set()
        dripping.join()
        assert status_of(answer) == 408
        assert time.monotonic() - begun_s < 5.0


def test_an_idle_connection_is_closed_without_a_word(tmp_path: Path, socket_path: str) -> None:
    with served(tmp_path, socket_path, idle_s=0.2) as api, raw(api.path) as sock:
        assert all_of(sock) == b""


def test_keep_alive_and_pipelining(api: Served) -> None:
    with raw(api.path) as sock:
        sock.sendall(GET + b"\r\n" + GET + b"\r\n" + GET + b"Connection: close\r\n\r\n")
        assert all_of(sock).count(b"HTTP/1.1 200") == 3


def test_head_and_http_1_0(api: Served) -> None:
    with raw(api.path) as sock:
        sock.sendall(b"HEAD /v1/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = all_of(sock)
        assert status_of(answer) == 405
        assert b"allow: GET" in answer.lower().replace(b"get", b"GET")
        assert answer.endswith(b"\r\n\r\n")
    with raw(api.path) as sock:
        sock.sendall(b"GET /v1/version HTTP/1.0\r\n\r\n")
        assert status_of(all_of(sock)) == 200


def test_expect_continue(api: Served) -> None:
    with raw(api.path) as sock:
        head = b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n"
        sock.sendall(head + b"Content-Length: 17\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b'{"names":["web"]}')
        assert status_of(all_of(sock)) == 200


def test_a_half_closed_client_gets_its_answer(api: Served) -> None:
    with raw(api.path) as sock:
        sock.sendall(GET + b"\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert status_of(all_of(sock)) == 200


def test_a_half_closed_client_gets_its_stream(api: Served) -> None:
    with raw(api.path) as sock:
        sock.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        api.do(api.manager.events.add, "web", "started")
        got = b""
        while b"id: 1" not in got:
            got += sock.recv(65536)


def test_a_stream_ends_when_its_client_leaves(api: Served) -> None:
    stream = Client(api.path).stream("/v1/events")
    api.do(api.manager.events.add, "web", "started")
    assert next(stream) == b"id: 1"
    assert api.manager.events.followers == 1
    stream.close()
    _wait_for(lambda: api.manager.events.followers == 0)


def test_a_quiet_stream_shows_signs_of_life(tmp_path: Path, socket_path: str) -> None:
    with served(tmp_path, socket_path, heartbeat_s=0.05) as api:
        events, logs = Client(api.path).stream("/v1/events"), Client(api.path).stream("/v1/logs?follow=1")
        assert [next(events), next(events)] == [b":", b""]
        assert next(logs) == b""
        events.close()
        logs.close()


def test_a_wait_is_given_up_with_its_client_but_a_stop_is_carried_through(api: Served) -> None:
    api.manager.hangs = True
    with raw(api.path) as sock:
        body = b'{"names":["web"]}'
        sock.sendall(b"POST /v1/wait HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        api.run(asyncio.wait_for(_is_set(api.manager.begun), 10.0))
    api.run(asyncio.wait_for(_is_set(api.manager.cancelled), 10.0))
    api.manager.cancelled.clear()
    api.manager.begun.clear()
    with raw(api.path) as sock:
        sock.sendall(b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        api.run(asyncio.wait_for(_is_set(api.manager.begun), 10.0))
    assert is_alive(api)
    assert not api.manager.cancelled.is_set()
    api.do(api.manager.release.set)


def test_too_many_connections_are_told_so_and_later_ones_served(api: Served) -> None:
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(raw(api.path)) for _ in range(300)]
        for sock in socks:
            sock.sendall(GET + b"\r\n")
        answers = []
        for sock in socks:
            answers.append(status_of(sock.recv(65536)))
        assert answers.count(200) == CONNECTIONS_MAX
        assert answers.count(503) == 300 - CONNECTIONS_MAX
    _wait_for(lambda: _serves(api))


def test_a_reader_who_pauses_gets_everything_in_bounded_memory(api: Served) -> None:
    for _ in range(3000):
        api.do(api.manager.events.add, "web", "started", "x" * 1000)
    with raw(api.path) as sock:
        sock.sendall(b"GET /v1/events?follow=0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert sock.recv(100)
        assert is_alive(api)  # while that one is stuck
        assert len(api.manager.events.reads) < 6  # of 6 chunks: it does not run ahead of its reader
        assert all_of(sock).count(b"id: ") >= 2999


def test_foreign_users_are_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    code = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sock = socket.socket(socket.AF_UNIX); sock.connect(sys.argv[1])\n"
        "try: sock.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
        "except BrokenPipeError: pass\n"  # it does not wait for what a stranger has to say
        "sys.stdout.buffer.write(sock.recv(65536))\n"
    )
    with tempfile.TemporaryDirectory() as directory, served(tmp_path, f"{directory}/duende.sock") as api:
        # Let a stranger reach the socket, which the modes prevent, so that only the kernel's word about him is left.
        os.chmod(directory, 0o711)
        os.chmod(api.path, 0o666)
        done = subprocess.run([sys.executable, "-c", code, api.path], capture_output=True, timeout=30, check=True)
    assert status_of(done.stdout) == 403
    problem = problem_in(done.stdout)
    assert problem["kind"] == "foreign-user"
    assert "uid 65534" in problem["detail"]


def test_a_leftover_socket_is_replaced(tmp_path: Path, socket_path: str) -> None:
    with socket.socket(socket.AF_UNIX) as leftover:
        leftover.bind(socket_path)
    with pytest.raises(NoManager):
        Client(socket_path).get("/v1/version")
    with served(tmp_path, socket_path) as api:
        assert is_alive(api)
    assert not os.path.exists(socket_path)


def test_closing_leaves_the_socket_of_a_successor(tmp_path: Path, socket_path: str) -> None:
    async def scenario() -> None:
        first, second = ApiServer(FakeManager(tmp_path)), ApiServer(FakeManager(tmp_path))
        await first.listen(socket_path)
        await second.listen(socket_path)
        await first.close()
        left.append(os.listdir(os.path.dirname(socket_path)))
        await second.close()
        left.append(os.listdir(os.path.dirname(socket_path)))

    left: list[list[str]] = []
    asyncio.run(scenario())
    assert left == [["duende.sock"], []]


def test_closing_lets_an_answer_under_way_finish_and_ends_streams(tmp_path: Path, socket_path: str) -> None:
    async def scenario() -> tuple[bytes, bytes]:
        manager = FakeManager(tmp_path)
        manager.hangs = True
        server = ApiServer(manager)
        await server.listen(socket_path)
        streaming, stream_out = await asyncio.open_unix_connection(socket_path)
        stream_out.write(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        await streaming.readuntil(b"\r\n\r\n")
        waiting, wait_out = await asyncio.open_unix_connection(socket_path)
        wait_out.write(b'POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{"names":["web"]}')
        await manager.begun.wait()
        closing = asyncio.create_task(server.close(grace_s=600.0))
        cut_off = await streaming.read()
        manager.release.set()
        async with asyncio.timeout(60.0):  # the client keeps its end open: the grace is not for that
            await closing
        answer = await waiting.read()
        for writer in (stream_out, wait_out):
            writer.close()
        return cut_off, answer

    cut_off, answer = asyncio.run(scenario())
    assert b"0\r\n\r\n" not in cut_off  # no end mark: the client can tell that there would have been more
    assert status_of(answer) == 200
    assert b"connection: close\r\n" in answer.lower()


def test_a_path_that_can_not_be_is_told(tmp_path: Path) -> None:
    async def listen(path: str) -> None:
        await ApiServer(FakeManager(tmp_path)).listen(path)

    with pytest.raises(PlatformIoError, match=r"cannot listen at .*No such file or directory"):
        asyncio.run(listen(str(tmp_path / "missing" / "duende.sock")))
    with pytest.raises(PlatformIoError, match="longer than 107 bytes"):
        asyncio.run(listen(str(tmp_path / ("x" * 120) / "duende.sock")))


def test_a_bug_inside_a_stream_cuts_it_and_is_logged(api: Served, caplog: pytest.LogCaptureFixture) -> None:
    api.do(api.manager.events.add, "web", "started")
    del api.manager.events.kept[0]["kind"]
    with pytest.raises(Exception, match="before the end of its answer"):
        list(Client(api.path).stream("/v1/events?follow=0"))
    assert "KeyError" in caplog.text


async def _is_set(event: asyncio.Event) -> None:
    await event.wait()


def _serves(api: Served) -> bool:
    try:
        return is_alive(api)
    except ApiError:
        return False


def _wait_for(condition: Any) -> None:
    """The server's own loop has to notice; there is no event of its to wait for from here."""
    deadline_s = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen within 10 s"
        time.sleep(0.01)
