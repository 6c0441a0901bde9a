"""The causes that events are recorded with, in words. Pure.

A cause is the name of the core's event that led to it, and of a few things that the shell does by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["CAUSES", "cause_text"]

CAUSES: Mapping[str, str] = {
    "StartRequested": "a start was asked for",
    "DependenciesMet": "what it waited for was there",
    "StopRequested": "a stop was asked for",
    "RestartRequested": "a restart was asked for",
    "KillRequested": "its end was asked for, at once",
    "Spawned": "its process was executed",
    "SpawnFailed": "its process could not be made",
    "SaidReady": "it said that it is ready",
    "BecameReady": "it said that it is ready, or was found to be",
    "Exited": "its process ended",
    "Paused": "it got SIGSTOP",
    "Continued": "it got SIGCONT",
    "BecameUnready": "its readiness probe failed too often",
    "BecameUnhealthy": "its health check or its watchdog failed",
    "TimeAskedFor": "it asked for more time",
    "StopStepFailed": "a command of its stop ladder failed",
    "TimerFired": "its time had come",
    "ScheduleResumed": "its schedule was resumed",
    "RunDue": "a slot of its schedule had come",
    "SlotPassed": "a slot of its schedule had passed",
    "PolicyChanged": "its configuration changed",
    "StableRun": "it had run long enough",
    "HealthChecked": "its health was checked",
}

# What a timer was for is seen in where it stood and where it went.
_TIMERS = {
    ("backoff", "starting"): "the wait before the next try was over",
    ("failed", "starting"): "the time after which it is tried anew (retry_in) was over",
    ("starting", "stopping"): "its time to become ready was over",
    ("stopping", "stopping"): "its time to end was over",
}


def cause_text(event: Mapping[str, Any]) -> str:
    """Why an event of the log came, for people; empty where nothing is recorded."""
    cause = event["cause"]
    if not cause:
        return ""
    if cause == "TimerFired":
        return _TIMERS.get((event["data"].get("before", ""), event["status"] or ""), CAUSES[cause])
    return CAUSES.get(cause) or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", cause).lower()
