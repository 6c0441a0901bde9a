"""Backoff figures: growth, cap, floor, overflow, jitter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duende.model.restart import BackoffConfig, RestartConfig

FLOOR_S = 0.1


def delays(backoff: BackoffConfig, count: int) -> list[float]:
    """The first delays of a row."""
    return [backoff.delay_for(n) for n in range(count)]


def test_the_defaults_double_from_a_tenth_of_a_second_to_thirty() -> None:
    assert delays(BackoffConfig(), 10) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0])


def test_the_multiplier_counts() -> None:
    assert delays(BackoffConfig(1.0, 100.0, 3.0), 5) == [1.0, 3.0, 9.0, 27.0, 81.0]
    assert delays(BackoffConfig(1.0, 100.0, 1.0), 3) == [1.0, 1.0, 1.0]


def test_zero_delay_is_for_the_first_restart_only() -> None:
    assert delays(BackoffConfig(initial_delay=0.0), 4) == pytest.approx([0.0, 0.1, 0.2, 0.4])


def test_an_initial_delay_above_the_cap_is_capped() -> None:
    assert delays(BackoffConfig(5.0, 2.0), 3) == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("n", [10_000, 10**9])
@pytest.mark.parametrize("multiplier", [2.0, 2, 1e300])
def test_a_long_row_does_not_overflow(n: int, multiplier: float) -> None:
    assert BackoffConfig(multiplier=multiplier).delay_for(n) == 30.0


@pytest.mark.parametrize("n", [-1, 0])
def test_the_first_delay_is_the_initial_one(n: int) -> None:
    assert BackoffConfig(initial_delay=0.5).delay_for(n) == 0.5


def test_neither_a_zero_cap_nor_a_shrinking_delay_spins() -> None:
    assert delays(BackoffConfig(0.0, 0.0), 3) == [0.0, FLOOR_S, FLOOR_S]
    assert min(delays(BackoffConfig(1.0, multiplier=0.1), 50)[1:]) == FLOOR_S
    assert min(delays(BackoffConfig(0.01, multiplier=0.1), 50)[1:]) == 0.01


configs = st.builds(
    BackoffConfig,
    initial_delay=st.floats(0.0, 100.0),
    max_delay=st.floats(FLOOR_S, 1000.0),
    multiplier=st.floats(1.0, 10.0),
    jitter=st.floats(0.0, 1.0),
)


@given(configs, st.integers(0, 5000))
def test_delays_never_shrink_and_never_pass_the_cap(backoff: BackoffConfig, n: int) -> None:
    assert 0.0 <= backoff.delay_for(n) <= backoff.delay_for(n + 1) <= backoff.max_delay


@given(configs, st.integers(0, 5000), st.floats(0.0, 1.0, exclude_max=True))
def test_jitter_stays_in_its_bounds(backoff: BackoffConfig, n: int, uniform: float) -> None:
    middle_s, delay_s = backoff.delay_for(n), backoff.jittered_delay_for(n, uniform)
    rounding_s = middle_s * 1e-12  # of the sums and products of floats, which a tiny jitter does not cover
    assert abs(delay_s - middle_s) <= middle_s * backoff.jitter + rounding_s
    assert 0.0 <= delay_s <= backoff.max_delay


@given(configs, st.integers(0, 50))
def test_jitter_in_the_middle_of_chance_is_none(backoff: BackoffConfig, n: int) -> None:
    assert backoff.jittered_delay_for(n, 0.5) == backoff.delay_for(n)


def test_the_permanent_code_is_125_by_default() -> None:
    assert RestartConfig().permanent_exit_codes == {125}
    assert RestartConfig().success_exit_codes == {0}
