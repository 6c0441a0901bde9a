"""The small value types: signals, exits, health, ids, status."""

from __future__ import annotations

import json
import signal as os_signal
from dataclasses import FrozenInstanceError

import pytest

from duende.model.condition import Condition
from duende.model.exits import ExitInfo, ExitReason, signal_name
from duende.model.health import HealthStatus
from duende.model.ids import DaemonId
from duende.model.signals import Signal
from duende.model.status import DaemonStatus


@pytest.mark.parametrize("text", [15, "15", "TERM", "SIGTERM", "sigterm", "term", Signal.TERM])
def test_signal_is_read_in_every_spelling(text: str | int) -> None:
    assert Signal.parse(text) is Signal.TERM


@pytest.mark.parametrize("text", ["", "SIG", "SIGSIGTERM", "TERMINATE", "0", "-15", "64", " 15", "1.5", "²", 0, -1, 99])
def test_an_unknown_signal_is_refused_with_what_is_known(text: str | int) -> None:
    with pytest.raises(ValueError, match=r"unknown signal .*; known are SIGHUP, SIGINT, .*SIGSTOP") as caught:
        Signal.parse(text)
    assert repr(text) in str(caught.value)


def test_signal_numbers_are_those_of_this_kernel() -> None:
    for each in Signal:
        assert os_signal.Signals(each).name == each.full_name
        assert each.local_number == int(each)


def test_every_standard_signal_has_a_name() -> None:
    for each in os_signal.Signals:
        if each < 32:
            assert signal_name(int(each)) == each.name
    assert signal_name(40) == "signal 40"


EXITS = [
    (ExitInfo.from_code(0, at_s=1.5), ExitReason.GRACEFUL, "exited with code 0"),
    (ExitInfo.from_code(3), ExitReason.ERROR, "exited with code 3"),
    (ExitInfo.from_signal(15), ExitReason.SIGNAL, "killed by SIGTERM"),
    (ExitInfo.from_signal(11, core_dumped=True), ExitReason.SIGNAL, "killed by SIGSEGV (core dumped)"),
    (ExitInfo.out_of_memory(limit_bytes=1024), ExitReason.RESOURCE_EXHAUSTED, "out of memory (limit 1024 bytes)"),
    (ExitInfo.out_of_memory(limit_bytes=None), ExitReason.RESOURCE_EXHAUSTED, "out of memory"),
    (ExitInfo.unknown("nobody saw it", at_s=2.0), ExitReason.UNKNOWN, "nobody saw it"),
    (ExitInfo(ExitReason.POLICY_VIOLATION, "seccomp", signal=31, errno=1, transient=True), ExitReason.POLICY_VIOLATION,
     "seccomp"),
]  # fmt: skip


@pytest.mark.parametrize(("exit_info", "reason", "message"), EXITS, ids=lambda value: str(value)[:24])
def test_exit(exit_info: ExitInfo, reason: ExitReason, message: str) -> None:
    assert (exit_info.reason, exit_info.message) == (reason, message)
    stored = exit_info.to_json()
    assert set(stored) == set(ExitInfo.__slots__)
    assert ExitInfo.from_json(json.loads(json.dumps(stored))) == exit_info


def test_every_reason_to_end_is_stored() -> None:
    assert {reason for _, reason, _ in EXITS} == set(ExitReason)


@pytest.mark.parametrize("health", [HealthStatus.healthy(2.5), HealthStatus.unhealthy("no answer", 1000.0)])
def test_health_survives_json(health: HealthStatus) -> None:
    assert HealthStatus.from_json(json.loads(json.dumps(health.to_json()))) == health


def test_healthy_and_unhealthy_say_so() -> None:
    assert HealthStatus.healthy(2.5) == HealthStatus(True, 2.5, "")
    assert HealthStatus.unhealthy("no answer") == HealthStatus(False, 0.0, "no answer")


def test_an_id_is_its_canonical_text() -> None:
    new = DaemonId.new()
    assert DaemonId.parse(str(new)) == new
    assert DaemonId.new() != new
    with pytest.raises(ValueError):
        DaemonId.parse("web")


def test_values_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        ExitInfo.from_code(0).code = 1  # type: ignore[misc]


def test_status_knows_where_an_instance_may_be() -> None:
    with_instance = {status for status in DaemonStatus if status.has_instance}
    assert with_instance == {DaemonStatus.STARTING, DaemonStatus.RUNNING, DaemonStatus.PAUSED, DaemonStatus.STOPPING}


def test_the_configuration_knows_the_same_condition() -> None:
    from duende.config import daemon  # here: the model itself must not need the configuration

    assert daemon.Condition is Condition
