"""Captured output: from the pipes of the instances to rotated files (`LogPump`), and back out (`LogStore`)."""

from __future__ import annotations

from duende.runtime.logs.pump import LogPump
from duende.runtime.logs.record import LogRecord
from duende.runtime.logs.store import LogStore

__all__ = ["LogPump", "LogRecord", "LogStore"]
