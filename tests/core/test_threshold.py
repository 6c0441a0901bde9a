"""Thresholds: every sample of the whole time must be over, and the reason is told in words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from duende.core.threshold import Sample, ThresholdWatch
from duende.model.thresholds import ThresholdConfig

MIB = 1024 * 1024


def test_memory_must_be_over_for_the_whole_time() -> None:
    watch = ThresholdWatch(ThresholdConfig(memory=100 * MIB, lasting=30.0))
    for at_s, mib in ((0, 200), (10, 200), (20, 100), (30, 200), (40, 200), (50, 200)):
        assert watch.judge(Sample(at_s, memory_bytes=mib * MIB)) == ""  # at 20 it was not over
    assert watch.judge(Sample(60, memory_bytes=101 * MIB)) == "memory 101.0 MiB, over 100.0 MiB for 30 s"


def test_the_share_of_a_processor_is_that_between_two_samples() -> None:
    watch = ThresholdWatch(ThresholdConfig(cpu=80.0, lasting=0.0))
    assert watch.judge(Sample(100.0, cpu_s=5000.0)) == ""  # what it used before says nothing
    assert watch.judge(Sample(110.0, cpu_s=5008.0)) == ""
    assert watch.judge(Sample(120.0, cpu_s=5025.0)) == "cpu 170 %, over 80 %"
    assert watch.judge(Sample(130.0, cpu_s=1.0)) == ""  # a child has ended and taken its seconds along


def test_several_are_told_together_and_what_could_not_be_found_out_changes_nothing() -> None:
    watch = ThresholdWatch(ThresholdConfig(memory=MIB, open_files=10, lasting=5.0))
    assert watch.judge(Sample(0, memory_bytes=2 * MIB, open_files=11)) == ""
    assert watch.judge(Sample(5, memory_bytes=None, open_files=None)) == ""
    told = watch.judge(Sample(6, memory_bytes=2 * MIB, open_files=11))
    assert told == "memory 2.0 MiB, over 1.0 MiB for 5 s; open files 11, over 10 for 5 s"


@given(
    st.lists(st.tuples(st.floats(0.1, 60.0), st.integers(0, 20)), max_size=40), st.integers(1, 20), st.floats(0.0, 90.0)
)
def test_it_is_told_exactly_when_a_whole_row_was_over(
    steps: list[tuple[float, int]], limit: int, lasting: float
) -> None:
    watch = ThresholdWatch(ThresholdConfig(open_files=limit, lasting=lasting))
    at_s, since_s = 0.0, None
    for pause_s, files in steps:
        at_s += pause_s
        since_s = (at_s if since_s is None else since_s) if files > limit else None
        told = watch.judge(Sample(at_s, open_files=files))
        assert bool(told) == (since_s is not None and at_s - since_s >= lasting)


def test_without_thresholds_there_is_nothing_to_look_at_and_looks_are_not_too_frequent() -> None:
    assert not ThresholdConfig().any
    assert ThresholdConfig(cpu=1.0).any
    assert [ThresholdConfig(lasting=s).interval_s for s in (0.0, 3.0, 15.0, 3600.0)] == [1.0, 1.0, 5.0, 10.0]
