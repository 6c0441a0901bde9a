"""Groups: who is restarted with whom, and when restarts are too many."""

from __future__ import annotations

import pytest

from duende.core.group import GroupPolicy, Strategy, also_restarted, restart_counted

MEMBERS = ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("strategy", "ended", "others"),
    [
        (Strategy.ONE_FOR_ONE, "b", ""), (Strategy.ONE_FOR_ALL, "b", "acd"), (Strategy.ONE_FOR_ALL, "d", "abc"),
        (Strategy.REST_FOR_ONE, "a", "bcd"), (Strategy.REST_FOR_ONE, "b", "cd"), (Strategy.REST_FOR_ONE, "d", ""),
    ],
)  # fmt: skip
def test_who_is_restarted_too_in_the_order_of_their_start(strategy: Strategy, ended: str, others: str) -> None:
    assert also_restarted(strategy, MEMBERS, ended) == tuple(others)


def test_as_many_restarts_as_the_intensity_are_fine_and_one_more_is_too_many() -> None:
    policy = GroupPolicy(intensity=2, period_s=5.0)
    recent: tuple[float, ...] = ()
    answers = []
    for now_s in (0.0, 1.0, 4.9):
        recent, too_many = restart_counted(policy, recent, now_s)
        answers.append(too_many)
    assert answers == [False, False, True]


def test_restarts_older_than_the_period_do_not_count() -> None:
    policy = GroupPolicy(intensity=1, period_s=5.0)
    recent, too_many = restart_counted(policy, (0.0,), 5.0)
    assert (recent, too_many) == ((5.0,), False)
    assert restart_counted(policy, (0.1,), 5.0) == ((0.1, 5.0), True)


def test_an_intensity_of_zero_allows_no_restart_and_none_any_number_without_growing() -> None:
    assert restart_counted(GroupPolicy(intensity=0), (), 0.0)[1]
    assert restart_counted(GroupPolicy(), tuple(map(float, range(100))), 100.0) == ((), False)
