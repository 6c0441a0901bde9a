"""Readiness by a newline on a descriptor, as s6 has it: the keeper holds the pipe, whoever manages."""

from __future__ import annotations

import os
import resource

import pytest

from tests.keeper.conftest import KeeperProcess, Peer, until

pytestmark = pytest.mark.real


def is_told(peer: Peer, key: str) -> bool:
    event = peer.wait(lambda message: message.get("ev") == "notify" and message.get("id") == key)
    return bool(event["notices"] == {"READY": "1"})


# Small numbers are taken by the keeper's own descriptors when it forks: none of them may get in the way.
@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 200])
def test_a_newline_means_ready_on_any_number(keeper: KeeperProcess, number: int) -> None:
    peer = keeper.hello()
    before = keeper.descriptors()
    go = f"{keeper.path}.go"
    os.mkfifo(go)
    program = f"""
import os, time
open({go!r}).read()
os.write({number}, b"almost")
os.write({number}, b" there\\n")
time.sleep(1000)
"""
    said = peer.spawn("a", "python3", "-I", "-S", "-c", program, ready_fd=number)
    assert said["notices"] == {}
    until(lambda: keeper.descriptors() == before + 4, "two pipes, a pidfd, and this one")
    with open(go, "w"):
        pass
    assert is_told(peer, "a")
    until(lambda: keeper.descriptors() == before + 3, "the end of a pipe that nobody needs any more")
    nowhere = peer.spawn("b", "/no/such/program", ready_fd=number)  # its status pipe is not the one that gave way
    assert (nowhere["error"]["stage"], nowhere["error"]["path"]) == ("exec", "/no/such/program")
    assert keeper.is_well()


def test_what_is_said_before_the_answer_or_without_a_manager_is_in_the_next_answer(keeper: KeeperProcess) -> None:
    first = keeper.hello()
    go = f"{keeper.path}.go"
    os.mkfifo(go)
    first.spawn("a", "sh", "-c", f"read x < {go}; echo >&5; exec sleep 1000", ready_fd=5)
    first.close()
    with open(go, "w"):
        pass
    second = keeper.connect()

    def has_said() -> bool:
        second.ask("hello", v=2)
        return second.event("instance", "a")["notices"] == {"READY": "1"}

    until(has_said, "READY=1")


def test_one_that_says_nothing_is_not_ready_and_one_that_has_no_such_number_is_told_so(keeper: KeeperProcess) -> None:
    peer = keeper.hello()
    before = keeper.descriptors()
    peer.spawn("closes", "sh", "-c", "exec 4>&-; exec sleep 1000", ready_fd=4)
    until(lambda: keeper.descriptors() == before + 3, "the end of its pipe")
    peer.spawn("leaves", "sh", "-c", "exit 0", ready_fd=4)
    peer.event("exit", "leaves")
    assert not [message for message, _ in peer.inbox if message.get("ev") == "notify"]
    limits = {"NOFILE": (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1])}
    refused = peer.spawn("far", "sleep", "1000", ready_fd=100, rlimits=limits)
    assert (refused["error"]["stage"], refused["error"]["path"]) == ("ready fd", "100")
    assert peer.spawn("wrong", "sleep", "1000", ready_fd="x")["error"]["stage"].startswith("setup: ")
    assert keeper.is_well()


def test_nobody_dies_of_writing_more_than_a_newline(keeper: KeeperProcess) -> None:
    peer = keeper.hello()
    said = peer.spawn("a", "sh", "-c", "echo >&4; while echo more >&4; do sleep 0.01; done", ready_fd=4)
    if not said["notices"]:
        assert is_told(peer, "a")
    peer.spawn("b", "sh", "-c", "sleep 0.3")
    peer.event("exit", "b")
    assert not [message for message, _ in peer.inbox if message.get("ev") == "exit"]
