"""sd_notify(3) over real sockets."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from duende.errors import InvalidState, NotFound, PlatformIoError
from duende.system import notify


@pytest.fixture(params=["file", "abstract"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "file" else f"@duende-test-{uuid.uuid4()}"


@pytest.fixture
def sock(path: str) -> Iterator[socket.socket]:
    with notify.make_socket(path) as made:
        yield made


def _open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_message_arrives_with_its_sender(sock: socket.socket, path: str) -> None:
    assert notify.receive(sock) is None
    pid = os.fork()
    if pid == 0:
        os._exit(0 if notify.send("READY=1\nSTATUS=läuft\n", path=path) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert notify.receive(sock) == ({"READY": ["1"], "STATUS": ["läuft"]}, pid, os.getuid(), [])
    assert notify.receive(sock) is None


def test_the_environment_names_the_socket(sock: socket.socket, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert notify.send("READY=1") is False
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    assert notify.send("READY=1") is True
    received = notify.receive(sock)
    assert received is not None
    assert received.message == {"READY": ["1"]}


@pytest.mark.parametrize("state", ["FDSTORE=1\nFDNAME=x", "BARRIER=1"])
def test_descriptors_come_with_what_may_have_them(sock: socket.socket, path: str, state: str) -> None:
    read, write = os.pipe()
    notify.send(state, [write], path)
    os.close(write)
    received = notify.receive(sock)
    assert received is not None
    (fd,) = received.fds
    assert not os.get_inheritable(fd)
    os.write(fd, b"through")
    os.close(fd)
    assert os.read(read, 99) == b"through"
    assert os.read(read, 99) == b""
    os.close(read)


@pytest.mark.parametrize("count", [1, 3, 253])
def test_descriptors_nobody_asked_for_are_closed(sock: socket.socket, path: str, count: int) -> None:
    before = _open_fds()
    read, write = os.pipe()
    os.set_blocking(read, False)  # a descriptor that stays open fails the test and doesn't hang it
    notify.send("READY=1", [write] * count, path)
    os.close(write)
    received = notify.receive(sock)
    assert received is not None
    assert received.message == {"READY": ["1"]}
    assert received.fds == []
    assert os.read(read, 1) == b""
    os.close(read)
    assert _open_fds() == before


def test_a_message_cut_off_loses_the_line_that_was_cut(sock: socket.socket, path: str) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    notify.send("READY=1\nSTATUS=" + "x" * notify.MESSAGE_LIMIT_BYTES, path=path)
    received = notify.receive(sock)
    assert received is not None
    assert received.message == {"READY": ["1"]}


def test_parse_keeps_what_it_does_not_know_and_survives_what_is_broken() -> None:
    data = b"A=1\nX_OWN=a=b\nno sign\n=nothing\nA=2\nSTATUS=\xff\xfe\n\0\0"
    assert notify.parse(data) == {"A": ["1", "2"], "X_OWN": ["a=b"], "STATUS": ["��"]}
    assert notify.parse(b"") == {}
    assert notify.parse(b"A=1\n" + b"B" * notify.MESSAGE_LIMIT_BYTES + b"=2") == {"A": ["1"]}


def test_a_stale_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    notify.make_socket(str(path)).close()
    with notify.make_socket(str(path), mode=0o622) as again:
        assert path.stat().st_mode & 0o777 == 0o622
        notify.send("READY=1", path=str(path))
        assert notify.receive(again) is not None
    path.unlink()
    path.write_text("precious")
    with pytest.raises(InvalidState, match="it is not a socket"):
        notify.make_socket(str(path))
    assert path.read_text() == "precious"


@pytest.mark.parametrize("path", ["relative", "vsock:2:1234", "/" + "x" * 107, "@"])
def test_an_unusable_address_is_refused_in_words(path: str) -> None:
    with pytest.raises(PlatformIoError, match="as a notification socket"):
        notify.send("READY=1", path=path)


def test_nobody_listening_is_an_error_that_names_the_socket(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"cannot notify {tmp_path}/none: No such file or directory"):
        notify.send("READY=1", path=f"{tmp_path}/none")
