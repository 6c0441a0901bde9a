"""What messages of sd_notify mean, with the times at which the keeper took them."""

from __future__ import annotations

import pytest

from duende.adapters.base import (
    AdapterEvent,
    InstanceAlive,
    InstanceAsksTime,
    InstanceKey,
    InstanceNote,
    InstanceReady,
    InstanceWatchdog,
)
from duende.adapters.native.notices import told_by

KEY = InstanceKey("a", 1)


@pytest.mark.parametrize(
    ("notices", "events"),
    [
        ({"READY": "1", "STATUS": "up"}, [InstanceReady(KEY), InstanceNote(KEY, "status", "up")]),
        ({"READY": "0"}, []),
        ({"WATCHDOG": "1", "WATCHDOG@": "99.5"}, [InstanceAlive(KEY, 99.5)]),
        ({"WATCHDOG": "1"}, [InstanceAlive(KEY, 100.0)]),
        ({"WATCHDOG": "trigger", "WATCHDOG@": "99.5"}, [InstanceAlive(KEY, 99.5, is_trouble=True)]),
        ({"WATCHDOG": "x"}, []),
        ({"WATCHDOG_USEC": "2500000"}, [InstanceWatchdog(KEY, 2.5)]),
        ({"WATCHDOG_USEC": "0"}, [InstanceWatchdog(KEY, 0.0)]),
        ({"WATCHDOG_USEC": "-1"}, []),
        ({"WATCHDOG_USEC": "9" * 5000}, []),
        ({"WATCHDOG_USEC": "٣"}, []),
        ({"EXTEND_TIMEOUT_USEC": "3000000", "EXTEND_TIMEOUT_USEC@": "100.0"}, [InstanceAsksTime(KEY, 3.0)]),
        ({"EXTEND_TIMEOUT_USEC": "3000000", "EXTEND_TIMEOUT_USEC@": "98.0"}, [InstanceAsksTime(KEY, 1.0)]),
        ({"EXTEND_TIMEOUT_USEC": "3000000", "EXTEND_TIMEOUT_USEC@": "90.0"}, []),  # told again to a later manager
        ({"EXTEND_TIMEOUT_USEC": "0"}, []),
        ({"EXTEND_TIMEOUT_USEC": "soon"}, []),
    ],
    ids=str,
)
def test_messages(notices: dict[str, str], events: list[AdapterEvent]) -> None:
    assert list(told_by(KEY, notices, now_s=100.0)) == events
