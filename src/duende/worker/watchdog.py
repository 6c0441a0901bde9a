"""The watchdog's other end: while `health_check` passes, say WATCHDOG=1 (sd_watchdog_enabled(3)).

A `health_check` that does not pass, does not answer, or is a coroutine on a loop that stands still means silence, and
the manager does what the configuration says.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping

from duende.errors import PlatformError
from duende.model.health import HealthStatus

__all__ = ["interval_s", "keep_pinging"]

_PINGS_A_LIMIT = 3  # one may be lost and one late; systemd recommends two


def interval_s(environ: Mapping[str, str]) -> float | None:
    """How often to ping; None where nobody expects this very process to."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (usec.isdecimal() and int(usec) > 0 and environ.get("NOTIFY_SOCKET")) or pid not in ("", str(os.getpid())):
        return None
    return int(usec) / 1e6 / _PINGS_A_LIMIT


async def keep_pinging(every_s: float, is_well: Callable[[], Awaitable[HealthStatus]]) -> None:
    """Until cancelled."""
    from duende.system.notify import send  # here: few daemons have a watchdog

    said = ""
    while True:
        reason = ""
        if (await is_well()).is_healthy:
            try:
                send("WATCHDOG=1", limit_s=0.0)
            except PlatformError as error:  # the keeper is just being replaced: the next one may arrive
                reason = str(error)
                if reason != said:
                    print(f"duende: no sign of life could be given: {reason}", file=sys.stderr, flush=True)
            said = reason
        await asyncio.sleep(every_s)
