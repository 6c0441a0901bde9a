"""When an ended daemon is started again, and how long to wait before."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

__all__ = ["BackoffConfig", "RestartConfig", "RestartPolicy"]

# A delay of zero applies to the first restart of a row; later ones of the same row start from this, and no `max_delay`
# or `multiplier` makes them shorter, so that a daemon that dies at once can never spin the machine.
_ZERO_DELAY_FLOOR_S = 0.1


class RestartPolicy(enum.Enum):
    """The five policies. `unless-stopped` is `always` that also survives a reboot unless stopped by hand."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"
    UNLESS_STOPPED = "unless-stopped"
    MAX_RETRIES = "max-retries"  # on-failure, at most `max_retries` times in a row


@dataclass(frozen=True, slots=True)
class BackoffConfig:
    """Exponential backoff; durations in seconds.

    `jitter` is the share of the delay that chance may add or take (0.1 = ±10%). `max_retries` counts restarts in a row
    without a stable run between them; None is no limit.
    """

    initial_delay: float = 0.1
    max_delay: float = 30.0
    multiplier: float = 2.0
    max_retries: int | None = None
    jitter: float = 0.1
    delays: tuple[float, ...] | None = None  # in place of all that: the first, the second, ...; the last goes on

    def delay_for(self, n: int) -> float:
        """Seconds before restart number `n` of a row (0 is the first), without jitter.

        Never above `max_delay`, but only the first is ever shorter than 0.1 s or a shorter `initial_delay`.
        """
        if self.delays:
            floor_s = _ZERO_DELAY_FLOOR_S if n > 0 else 0.0
            return max(self.delays[min(max(n, 0), len(self.delays) - 1)], floor_s)
        if n <= 0:
            return min(self.initial_delay, self.max_delay)
        base_s, power = self.initial_delay, n
        if base_s <= 0.0:
            base_s, power = _ZERO_DELAY_FLOOR_S, n - 1
        try:
            delay_s = min(base_s * float(self.multiplier) ** power, self.max_delay)
        except OverflowError:
            delay_s = self.max_delay
        return max(delay_s, min(base_s, _ZERO_DELAY_FLOOR_S))

    def jittered_delay_for(self, n: int, uniform: float) -> float:
        """`delay_for` spread by `uniform` in [0, 1); it stays within ±jitter, and not above `max_delay`."""
        delay_s = self.delay_for(n)
        longest_s = max(self.delays) * (1.0 + self.jitter) if self.delays else max(delay_s, self.max_delay)
        return min(delay_s * (1.0 + self.jitter * (2.0 * uniform - 1.0)), longest_s)


@dataclass(frozen=True, slots=True)
class RestartConfig:
    """The whole restart decision of one daemon; durations in seconds.

    A run of at least `reset_after` seconds is stable: the next failure counts as the first of a new row. With
    `crash_limit` > 0, that many failures within `crash_window` seconds end the attempts. With `retry_in` > 0 they begin
    anew that long after they have ended (by the crash limit or by `max_retries`).
    """

    policy: RestartPolicy = RestartPolicy.ON_FAILURE
    backoff: BackoffConfig = field(default_factory=BackoffConfig)
    reset_after: float = 60.0
    crash_limit: int = 0
    crash_window: float = 60.0
    retry_in: float = 0.0
    success_exit_codes: frozenset[int] = frozenset({0})
    permanent_exit_codes: frozenset[int] = frozenset({125})
