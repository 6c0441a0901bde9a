"""Reads a stream that goes on over managers: when one ends, its successor is asked to go on where this one stopped."""

from __future__ import annotations

import time

from duende.api.client import LOOK_AGAIN_S, ManagerGone, NoManager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from duende.api.client import Client

__all__ = ["SUCCESSOR_S", "streams"]

# From the end of a manager until another has to listen. A `down --leave-daemons && up -d` has it after half a second;
# where a restarter lives, the client itself waits for that first.
SUCCESSOR_S = 5.0


def streams(client: Client, path: Callable[[], str]) -> Iterator[Iterator[bytes]]:
    """One stream after the other; `path` says what to ask for next. NoManager when none comes within SUCCESSOR_S."""
    lost_s = 0.0  # when the last one ended; 0 before the first: there was nobody whose successor may come

    def lines() -> Iterator[bytes]:
        nonlocal lost_s
        try:
            for line in client.stream(path()):
                lost_s = 0.0
                yield line
        except ManagerGone:
            pass  # cut off, as streams are by the end of their manager
        except NoManager:
            if not lost_s or time.monotonic() - lost_s >= SUCCESSOR_S:
                raise
        lost_s = lost_s or time.monotonic()

    while True:
        yield lines()
        time.sleep(LOOK_AGAIN_S)
