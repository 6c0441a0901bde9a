"""What a daemon counts about itself: rate, errors, duration (the RED method), in memory that does not grow.

Every recording is O(1) under one lock, so that any thread may record. Durations fall into logarithmic buckets, eight
per doubling, which bounds the error of a percentile at 9 %; the rate is kept in a ring of seconds.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

__all__ = ["BUCKET_BOUNDS_S", "DaemonMetrics", "MetricsSnapshot"]

# Upper bounds of the exported histogram: the defaults of the Prometheus client libraries, with two more at each end.
BUCKET_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_RATE_WINDOW_S = 60  # the usual window of a dashboard's "requests per second"
_STEPS_PER_DOUBLING = 8
_SMALLEST_S = 1e-6  # shorter durations count as this
_FINE_BUCKETS = 34 * _STEPS_PER_DOUBLING  # 1 µs · 2^34 is 4.8 hours; longer ones share the last bucket


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """The figures at one moment. Percentiles are 0.0 until a duration was recorded.

    `request_rate` is requests per second over the last minute (or since the start, if that is shorter). `buckets` are
    cumulative counts by upper bound in seconds; `duration_count` is the count of the bucket without a bound.
    """

    uptime_s: float
    requests_total: int
    errors_total: int
    request_rate: float
    error_ratio: float
    duration_count: int
    duration_sum_s: float
    duration_max_s: float
    duration_p50_s: float
    duration_p95_s: float
    duration_p99_s: float
    buckets: tuple[tuple[float, int], ...]

    def to_json(self) -> dict[str, Any]:
        """The wire form; `buckets` as a list of [upper bound, count]."""
        return asdict(self) | {"buckets": [list(bucket) for bucket in self.buckets]}


class DaemonMetrics:
    """Counts requests, errors and durations; may be used from any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started_s = clock()
        self._requests = 0
        self._errors = 0
        self._durations = 0
        self._sum_s = 0.0
        self._max_s = 0.0
        self._coarse = [0] * (len(BUCKET_BOUNDS_S) + 1)
        self._fine = [0] * _FINE_BUCKETS
        self._ring = [0] * _RATE_WINDOW_S  # requests by second, at index second % window
        self._ring_second = int(self._started_s)

    def record_request(self, count: int = 1) -> None:
        """Count requests served; ValueError below 0, since a counter never falls."""
        _check_count(count, "record_request")
        with self._lock:
            self._requests += count
            self._ring[self._advance() % _RATE_WINDOW_S] += count

    def record_error(self, count: int = 1) -> None:
        """Count errors; a failed request is recorded both as a request and as an error."""
        _check_count(count, "record_error")
        with self._lock:
            self._errors += count

    def record_duration(self, duration: float | timedelta) -> None:
        """Record how long one request took, in seconds; ValueError unless it is finite and not negative."""
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
        if not 0.0 <= seconds < math.inf:
            raise ValueError(f"cannot record a duration of {seconds!r} s: must be finite and not negative")
        with self._lock:
            self._durations += 1
            self._sum_s += seconds
            self._max_s = max(self._max_s, seconds)
            self._coarse[bisect_left(BUCKET_BOUNDS_S, seconds)] += 1
            self._fine[_fine_index(seconds)] += 1

    def snapshot(self) -> MetricsSnapshot:
        """Give all figures of this moment, consistent with each other."""
        with self._lock:
            self._advance()
            uptime_s = max(self._clock() - self._started_s, 0.0)
            cumulative: list[tuple[float, int]] = []
            running = 0
            for bound_s, count in zip(BUCKET_BOUNDS_S, self._coarse, strict=False):  # the last one has no bound
                running += count
                cumulative.append((bound_s, running))
            return MetricsSnapshot(
                uptime_s=uptime_s,
                requests_total=self._requests,
                errors_total=self._errors,
                request_rate=sum(self._ring) / min(max(uptime_s, 1.0), _RATE_WINDOW_S),
                error_ratio=min(self._errors / self._requests, 1.0) if self._requests else float(self._errors > 0),
                duration_count=self._durations,
                duration_sum_s=self._sum_s,
                duration_max_s=self._max_s,
                duration_p50_s=self._percentile(0.50),
                duration_p95_s=self._percentile(0.95),
                duration_p99_s=self._percentile(0.99),
                buckets=tuple(cumulative),
            )

    def _advance(self) -> int:
        """Empty the ring's seconds that have passed since the last call; return the present second."""
        second = max(int(self._clock()), self._ring_second)
        for passed in range(self._ring_second + 1, min(second, self._ring_second + _RATE_WINDOW_S) + 1):
            self._ring[passed % _RATE_WINDOW_S] = 0
        self._ring_second = second
        return second

    def _percentile(self, share: float) -> float:
        if self._durations == 0:
            return 0.0
        rank = math.ceil(share * self._durations)
        seen = 0
        for index, count in enumerate(self._fine):
            seen += count
            if seen >= rank:
                upper_s = _SMALLEST_S * math.exp2((index + 1) / _STEPS_PER_DOUBLING)
                return min(upper_s, self._max_s)
        raise AssertionError("the buckets hold fewer durations than were counted")


def _check_count(count: int, what: str) -> None:
    if count < 0:
        raise ValueError(f"{what}({count}): a counter can't fall")


def _fine_index(seconds: float) -> int:
    if seconds <= _SMALLEST_S:
        return 0
    return min(int(math.log2(seconds / _SMALLEST_S) * _STEPS_PER_DOUBLING), _FINE_BUCKETS - 1)
