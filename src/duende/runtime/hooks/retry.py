"""Whether and when a failed delivery is tried again. Pure: time and chance are arguments."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime

__all__ = ["Outcome", "next_delay_s", "parse_retry_after_s"]

_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 300.0  # a receiver that is back after a long outage waits for us at most this long
_JITTER = 0.2  # so that many stacks do not knock at one endpoint in step


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt. `is_final`: trying again can't help; `retry_after_s`: the receiver's own wish."""

    ok: bool
    text: str
    is_final: bool = False
    retry_after_s: float | None = None


def next_delay_s(
    outcome: Outcome, *, attempts: int, tried_s: float, patience_s: float, uniform: float
) -> float | None:
    """Seconds until the next attempt, None to give up. `attempts` were made over `tried_s`; `uniform` is in [0, 1).

    The last attempt comes when `patience_s` is over, however long the next delay would be.
    """
    left_s = patience_s - tried_s
    if outcome.ok or outcome.is_final or left_s <= 0.0:
        return None
    delay_s = min(_FIRST_DELAY_S * 2.0 ** min(attempts - 1, 30), _LONGEST_DELAY_S)
    delay_s *= 1.0 + _JITTER * (2.0 * uniform - 1.0)
    if outcome.retry_after_s is not None:
        delay_s = max(delay_s, outcome.retry_after_s)
    return min(delay_s, left_s)


def parse_retry_after_s(value: str, *, now_unix_s: float) -> float | None:
    """The header's seconds or date (RFC 9110, 10.2.3) as seconds from now; None for anything else."""
    text = value.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - now_unix_s, 0.0)
    except (ValueError, OverflowError):
        return None
