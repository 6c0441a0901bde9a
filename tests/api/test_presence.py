"""Who has a stack: read from the kernel, without ever being in the way of who has it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from duende.api import client as client_module
from duende.api.client import Client, ManagerGone, NoManager
from duende.api.presence import Presence, hold_as_restarter
from duende.config.paths import StackPaths
from duende.runtime.stacklock import StackLock
from tests.api.fake import served


@pytest.fixture
def paths(tmp_path: Path) -> StackPaths:
    for folder in ("r", "s"):
        (tmp_path / folder).mkdir(mode=0o700)
    return StackPaths("shop", str(tmp_path / "r"), str(tmp_path / "s"))


def test_nobody(paths: StackPaths) -> None:
    assert not Presence(paths).is_expected()
    Path(paths.lock).write_text("no number\n")
    assert Presence(paths).manager_pid() == 0


def test_a_manager_is_seen_as_long_as_it_holds_either_lock(paths: StackPaths) -> None:
    presence, lock = Presence(paths), StackLock("shop", paths)
    lock.take()
    assert presence.manager_pid() == os.getpid()
    Path(paths.lock).unlink()  # somebody empties the runtime directory
    assert presence.manager_pid() == os.getpid()
    lock.release()
    assert presence.manager_pid() == 0  # though its number stays in the file, and its process lives


def test_looking_never_takes_the_lock_from_a_manager_that_begins(paths: StackPaths) -> None:
    """Many looks while the lock is taken and released: a look that tried it would make `take` fail at times."""
    presence = Presence(paths)
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            presence.manager_pid()

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(500):
            lock = StackLock("shop", paths)
            lock.take()
            lock.release()
    finally:
        over.set()
        looker.join()


def test_a_restarter_is_seen_as_long_as_its_process_lives(paths: StackPaths) -> None:
    presence = Presence(paths)
    fd = hold_as_restarter(paths)
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], pass_fds=(fd,), stdin=subprocess.PIPE)
    os.close(fd)
    assert presence.has_restarter()
    again = hold_as_restarter(paths)  # a second one does not wait for the first
    os.close(again)
    assert presence.has_restarter()
    assert child.stdin is not None
    child.kill()
    child.wait()
    child.stdin.close()
    assert not presence.is_expected()


class Coming:
    """Expected until told otherwise."""

    def __init__(self) -> None:
        self.is_coming = True
        self.asked = threading.Event()

    def is_expected(self) -> bool:
        self.asked.set()
        return self.is_coming


@pytest.fixture
def socket_path(tmp_path: Path) -> str:
    return str(tmp_path / "a.sock")


def test_a_request_waits_for_a_manager_that_is_coming(tmp_path: Path, socket_path: str) -> None:
    coming = Coming()
    answers: list[object] = []
    asking = threading.Thread(
        target=lambda: answers.append(Client(socket_path, presence=coming).get("/v1/version"))  # type: ignore[arg-type]
    )
    asking.start()
    assert coming.asked.wait(10.0)
    assert answers == []
    with served(tmp_path, socket_path):
        asking.join(10.0)
    assert len(answers) == 1


def test_a_request_does_not_wait_where_nobody_comes_nor_for_ever(
    socket_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    coming = Coming()
    coming.is_coming = False
    client = Client(socket_path, presence=coming)  # type: ignore[arg-type]
    began_s = time.monotonic()
    with pytest.raises(NoManager):
        client.get("/v1/version")
    coming.is_coming = True
    monkeypatch.setattr(client_module, "RETURN_MAX_S", 0.1)
    with pytest.raises(NoManager):
        client.get("/v1/version")
    assert 0.1 <= time.monotonic() - began_s < 4.0


def test_a_question_whose_manager_dies_is_asked_again_but_an_order_is_not(
    tmp_path: Path, socket_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    coming = Coming()
    with served(tmp_path, socket_path) as shop:
        client = Client(socket_path, presence=coming)  # type: ignore[arg-type]
        request = client._request
        died: list[str] = []

        def dies_once(method: str, path: str, *rest: object) -> object:
            if not died:
                died.append(method)
                raise ManagerGone("planted")
            return request(method, path, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(client, "_request", dies_once)
        assert client.get("/v1/status")["stack"] == "shop"
        died.clear()
        with pytest.raises(ManagerGone):
            client.post("/v1/stop", {"names": ["*"]})
        assert shop.manager.calls == []
