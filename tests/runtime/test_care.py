"""What a configuration says will be done to a daemon, in words."""

from __future__ import annotations

from typing import Any

import pytest

from duende.config.daemon import (
    DaemonConfig,
    HealthCheckConfig,
    LivenessConfig,
    ProbeAction,
    ProbeConfig,
    ProbesConfig,
    ReadyConfig,
    StartupConfig,
    WatchdogConfig,
)
from duende.config.hook import OnFailureConfig
from duende.model.signals import Signal
from duende.model.thresholds import ThresholdConfig
from duende.runtime.care import becomes_ready, checks, consequences


def config(**fields: Any) -> DaemonConfig:
    return DaemonConfig("a", **({"command": ("x",)} | fields))


@pytest.mark.parametrize(
    ("fields", "when"),
    [
        ({}, ""),
        ({"ready": ReadyConfig(notify=True)}, "it says READY=1 (sd_notify)"),
        ({"ready": ReadyConfig(fd=3)}, "it writes a newline to descriptor 3"),
        ({"ready": ReadyConfig(log="up$")}, "a line of its output matches 'up$'"),
        ({"ready": ReadyConfig(tcp=":80")}, ":80 accepts a connection"),
        ({"ready": ReadyConfig(unix="/s")}, "/s accepts a connection"),
        ({"ready": ReadyConfig(http="http://x/")}, "http://x/ answers 2xx or 3xx"),
        ({"ready": ReadyConfig(exec=("test", "-e", "a b"))}, "`test -e 'a b'` ends with code 0"),
        ({"command": None, "daemon": "m:C"}, "its `init` has returned"),
        (
            {"ready": ReadyConfig(notify=True), "probe": ProbesConfig(startup=StartupConfig(tcp=":1"))},
            "it says READY=1 (sd_notify) and its startup probe passes (:1 accepts a connection)",
        ),
        (
            {"command": None, "daemon": "m:C", "probe": ProbesConfig(readiness=ProbeConfig())},
            "its `init` has returned and its readiness probe passes (its health_check)",
        ),
    ],
)
def test_what_makes_it_ready(fields: dict[str, Any], when: str) -> None:
    assert becomes_ready(config(**fields)) == when


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, []),
        ({"health_check": HealthCheckConfig(tcp=":1", enabled=False)}, []),
        (
            {"health_check": HealthCheckConfig(tcp=":1", interval=90.0)},
            ["if 3 checks in a row fail, one every 1m30s: that is told"],
        ),
        (
            {"command": None, "daemon": "m:C", "health_check": HealthCheckConfig(restart=True, retries=2)},
            ["if 2 checks in a row fail, one every 10s: it is restarted"],
        ),
        (
            {"probe": ProbesConfig(liveness=LivenessConfig(tcp=":1", window=5, action=Signal.USR1))},
            ["if 3 liveness probes of 5 fail, one every 10s: it gets SIGUSR1"],
        ),
        ({"probe": ProbesConfig(liveness=LivenessConfig(tcp=":1", failure_threshold=0))}, []),
        (
            {"watchdog": WatchdogConfig(30.0, ProbeAction.TELL)},
            ["if it gives no sign of life for 30s (watchdog): that is told"],
        ),
        (
            {"restart_when": ThresholdConfig(memory=1 << 29, open_files=100, lasting=60.0)},
            ["if it uses more than 512MiB of memory or 100 open files for 1m: it is restarted"],
        ),
    ],
)
def test_what_may_be_done_to_it(fields: dict[str, Any], told: list[str]) -> None:
    assert [f"{one.condition}: {one.what}" for one in checks(config(**fields))] == told


def test_what_its_end_means_to_others() -> None:
    assert list(consequences(config())) == []
    spare = config(on_failure=OnFailureConfig(start="spare"), essential=True)
    assert [f"{one.condition}: {one.what}" for one in consequences(spare)] == [
        "once it has finally failed: spare is started (on_failure)",
        "once it has ended for good: the stack is stopped, and the manager ends with its exit code (essential)",
    ]
    (command,) = consequences(config(on_failure=OnFailureConfig(command=("tell", "me now"))))
    assert command.what == "`tell 'me now'` is run (on_failure)"
