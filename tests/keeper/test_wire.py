"""Frames and descriptors arrive whole and in order, however the stream is cut; rubbish is refused, never believed."""

from __future__ import annotations

import array
import json
import os
import resource
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duende.keeper import wire
from duende.keeper.wire import Channel, WireError

texts = st.text(max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
messages = st.lists(st.tuples(st.dictionaries(texts, values, max_size=5), st.integers(0, 3)), max_size=8)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, Channel]]:
    """A raw end, and a channel on the other."""
    raw, far = socket.socketpair()
    channel = Channel(far)
    with raw:
        yield raw, channel
    channel.close()


def _frame(payload: bytes, count: int = 0) -> bytes:
    return struct.pack(">IB", len(payload), count) + payload


def _number_in(fd: int) -> int:
    os.lseek(fd, 0, os.SEEK_SET)
    number = int(os.read(fd, 20))
    os.close(fd)
    return number


def _numbered_fd(number: int) -> int:
    fd = os.memfd_create("n")
    os.write(fd, str(number).encode())
    return fd


def _receive_all(channel: Channel) -> None:
    while True:
        channel.receive()


def _open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@given(sent=messages, chunk=st.integers(1, 60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_sent_arrives_in_order_with_its_descriptors(sent: list[tuple[Any, int]], chunk: int) -> None:
    """Through a socket that takes a few bytes at a time in both directions."""
    near, far = socket.socketpair()
    sender, receiver = Channel(near), Channel(far)
    before = _open_fds()
    number, got = 0, []
    original = wire._READ_BYTES
    wire._READ_BYTES = chunk
    try:
        for message, count in sent:
            sender.send(message, [_numbered_fd(number + n) for n in range(count)])
            number += count
        while len(got) < len(sent):
            sender.flush()
            got += receiver.receive()
    finally:
        wire._READ_BYTES = original
    assert [message for message, _ in got] == [message for message, _ in sent]
    assert [len(fds) for _, fds in got] == [count for _, count in sent]
    assert [_number_in(fd) for _, fds in got for fd in fds] == list(range(number))
    assert _open_fds() == before
    sender.close()
    receiver.close()


def test_a_full_socket_loses_neither_bytes_nor_descriptors() -> None:
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sender, receiver = Channel(near), Channel(far)
    for n in range(100):
        sender.send({"n": n, "text": "x" * 5000}, [_numbered_fd(n)])
    assert sender.wants_write
    got: list[tuple[dict[str, Any], list[int]]] = []
    while len(got) < 100:
        got += receiver.receive()
        sender.flush()
    assert [message["n"] for message, _ in got] == [_number_in(fds[0]) for _, fds in got] == list(range(100))
    assert not sender.wants_write
    sender.close()
    receiver.close()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_frame(b"no json"), "is not JSON"),
        (_frame(b"\xff\xfe"), "is not JSON"),
        (_frame(b"[1, 2]"), "not a JSON object"),
        (_frame(b"[" * 200_000), "is not JSON"),  # deeper than any stack
        (_frame(b"{}", 3), "announces 3 descriptors, 0 came"),
        (struct.pack(">IB", 64 * 1024 * 1024 + 1, 0), "the limit is 67108864"),
        (b"\xff" * 5, "the limit is"),
    ],
)
def test_rubbish_is_refused(pair: tuple[socket.socket, Channel], data: bytes, words: str) -> None:
    raw, channel = pair
    raw.sendall(data)
    with pytest.raises(WireError, match=words):
        _receive_all(channel)


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_anything_but_frames_or_a_wire_error(data: bytes) -> None:
    raw, far = socket.socketpair()
    channel = Channel(far)
    with raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        try:
            while True:
                for message, fds in channel.receive():
                    assert isinstance(message, dict)
                    assert fds == []
        except (WireError, EOFError):
            pass
    channel.close()


def test_too_large_a_message_is_refused_before_anything_is_sent(pair: tuple[socket.socket, Channel]) -> None:
    raw, channel = pair
    with pytest.raises(WireError, match="over the limit of 67108864"):
        channel.send({"x": "y" * (64 << 20)})
    channel.send({"after": 1})
    assert raw.recv(100) == _frame(b'{"after":1}')


def test_a_message_of_ten_mebibytes_of_escapes_fits(pair: tuple[socket.socket, Channel]) -> None:
    assert len(json.dumps({"env": "\x01" * (10 << 20)})) < 64 << 20


def test_descriptors_that_do_not_fit_are_told_and_none_leaks(pair: tuple[socket.socket, Channel]) -> None:
    """Without a free descriptor the kernel drops what was passed (MSG_CTRUNC, recv(2))."""
    raw, channel = pair
    before = _open_fds()
    fds = [_numbered_fd(n) for n in range(10)]
    raw.sendmsg([_frame(b"{}", 10)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(fds) + 3, limits[1]))
    try:
        assert channel.receive() == [({}, [])]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    for fd in fds:
        os.close(fd)
    channel.close()  # and with it the few that came
    assert len(_open_fds()) == len(before) - 1


def test_closing_closes_what_was_not_sent_and_what_nobody_took() -> None:
    near, far = socket.socketpair()
    before = _open_fds()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sender, receiver = Channel(near), Channel(far)
    for _ in range(50):
        sender.send({"text": "x" * 5000}, [_numbered_fd(0)])
    receiver.receive()
    receiver._in_fds.append([_numbered_fd(1)])
    sender.close()
    taken = receiver.receive()
    for _, fds in taken:
        for fd in fds:
            os.close(fd)
    receiver.close()
    assert len(_open_fds()) <= len(before) - 2


def test_received_descriptors_are_not_inherited(pair: tuple[socket.socket, Channel]) -> None:
    raw, channel = pair
    fd = _numbered_fd(1)
    raw.sendmsg([_frame(b"{}", 1)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    ((_, (got,)),) = channel.receive()
    assert not os.get_inheritable(got)
    os.close(got)
    os.close(fd)
