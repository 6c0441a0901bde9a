"""DaemonMetrics: right figures, bounded memory, any thread."""

from __future__ import annotations

import json
import math
import random
import sys
import threading
import tracemalloc
from datetime import timedelta

import pytest

from duende.worker.metrics import DaemonMetrics


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_counts_errors_and_their_ratio():
    metrics = DaemonMetrics(clock=Clock())
    metrics.record_request()
    metrics.record_request(3)
    metrics.record_error()
    snapshot = metrics.snapshot()
    assert (snapshot.requests_total, snapshot.errors_total, snapshot.error_ratio) == (4, 1, 0.25)


def test_the_rate_is_that_of_the_last_minute():
    clock = Clock()
    metrics = DaemonMetrics(clock=clock)
    for _ in range(120):
        metrics.record_request(5)
        clock.now_s += 1.0
    assert metrics.snapshot().request_rate == pytest.approx(5.0, rel=0.02)
    clock.now_s += 30.0
    assert metrics.snapshot().request_rate == pytest.approx(2.5, rel=0.05)
    clock.now_s += 3600.0
    assert metrics.snapshot().request_rate == 0.0
    assert metrics.snapshot().requests_total == 600


@pytest.mark.parametrize("spread", ["uniform", "exponential", "constant"])
def test_percentiles_are_within_nine_percent(spread):
    chance = random.Random(7)
    draw = {
        "uniform": lambda: chance.uniform(0.001, 2.0),
        "exponential": lambda: chance.expovariate(20.0),
        "constant": lambda: 0.1,
    }
    durations = [draw[spread]() for _ in range(5000)]
    metrics = DaemonMetrics()
    for duration_s in durations:
        metrics.record_duration(duration_s)
    durations.sort()
    snapshot = metrics.snapshot()
    for share, value in (
        (0.5, snapshot.duration_p50_s),
        (0.95, snapshot.duration_p95_s),
        (0.99, snapshot.duration_p99_s),
    ):
        exact_s = durations[math.ceil(share * len(durations)) - 1]
        assert exact_s <= value * (1 + 1e-9)
        assert value <= exact_s * 1.0906
    assert snapshot.duration_max_s == durations[-1]
    assert snapshot.duration_sum_s == pytest.approx(sum(durations))


def test_buckets_are_cumulative_and_include_their_bound():
    metrics = DaemonMetrics()
    for duration in (0.0, 0.1, timedelta(milliseconds=100), 0.11, 1000.0):
        metrics.record_duration(duration)
    buckets = dict(metrics.snapshot().buckets)
    assert (buckets[0.05], buckets[0.1], buckets[0.25], buckets[60.0]) == (1, 3, 4, 4)
    assert metrics.snapshot().duration_count == 5


@pytest.mark.parametrize("duration", [-0.1, math.nan, math.inf])
def test_a_duration_that_is_none_is_refused(duration):
    with pytest.raises(ValueError, match="must be finite"):
        DaemonMetrics().record_duration(duration)


def test_a_counter_never_falls():
    with pytest.raises(ValueError, match="can't fall"):
        DaemonMetrics().record_request(-1)
    with pytest.raises(ValueError, match="can't fall"):
        DaemonMetrics().record_error(-1)


def test_the_wire_form_is_json_and_small():
    metrics = DaemonMetrics()
    metrics.record_duration(0.2)
    text = json.dumps(metrics.snapshot().to_json())
    assert len(text) < 2000
    assert json.loads(text)["duration_count"] == 1


def test_no_count_is_lost_among_threads():
    metrics = DaemonMetrics()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work() -> None:
        for _ in range(2000):
            metrics.record_request()
            metrics.record_error()
            metrics.record_duration(0.01)
            if metrics.snapshot().requests_total == 0:
                raise AssertionError("a snapshot lost our own request")

    threads = [threading.Thread(target=work) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    snapshot = metrics.snapshot()
    assert (snapshot.requests_total, snapshot.errors_total, snapshot.duration_count) == (8000, 8000, 8000)
    assert snapshot.buckets[-1][1] == 8000


def test_memory_does_not_grow():
    metrics = DaemonMetrics()

    def record(count: int) -> None:
        for n in range(count):
            metrics.record_request()
            metrics.record_duration(n * 0.00137)
            metrics.record_error()

    record(1000)
    tracemalloc.start()
    record(1000)
    before, _ = tracemalloc.get_traced_memory()
    record(30_000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 2000
