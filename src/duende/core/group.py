"""What one child's end means for its group, in OTP's words (Erlang's `supervisor`). Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["GroupPolicy", "Strategy", "also_restarted", "restart_counted"]


class Strategy(enum.Enum):
    """Who is restarted together with the one that has ended."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"  # those that were begun after it


@dataclass(frozen=True, slots=True)
class GroupPolicy:
    """More than `intensity` restarts within `period_s` seconds, and the group is given up; None is no limit."""

    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int | None = None
    period_s: float = 5.0


def also_restarted(strategy: Strategy, members: Sequence[str], ended: str) -> tuple[str, ...]:
    """The others to restart, in the order of their start, which is that of `members`. They are stopped in reverse."""
    match strategy:
        case Strategy.ONE_FOR_ONE:
            return ()
        case Strategy.ONE_FOR_ALL:
            return tuple(name for name in members if name != ended)
        case Strategy.REST_FOR_ONE:
            return tuple(members[members.index(ended) + 1 :])


def restart_counted(policy: GroupPolicy, recent_s: Sequence[float], now_s: float) -> tuple[tuple[float, ...], bool]:
    """Count one more restart; returns those that lie within the period, and whether they are too many."""
    if policy.intensity is None:
        return (), False
    within = (*(at_s for at_s in recent_s if now_s - at_s < policy.period_s), now_s)
    return within, len(within) > policy.intensity
