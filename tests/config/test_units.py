"""Durations and sizes: what is read, what is refused and why, and that writing undoes reading."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duende.config.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("500ms", 0.5), ("1m30s", 90.0), ("1.5h", 5400.0), ("0s", 0.0), ("2d", 172800.0), ("1w", 604800.0),
        ("250us", 0.00025), ("300ms", 0.3), ("1h2m3s4ms", 3723.004), (30, 30.0), (0.25, 0.25), (0, 0.0),
    ],
)  # fmt: skip
def test_durations_are_read_as_seconds(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("30", "no unit"), ("", "empty"), ("-5s", "negative"), (-1, "negative"), ("5 s", "not a duration"),
        ("5x", "unknown unit 'x'"), ("30s1m", "large to small"), ("1s1s", "large to small"), (float("nan"), "finite"),
        (float("inf"), "finite"), ("1e3s", "unknown unit"), ("1" * 100 + "s", "too long"), (10**400, "100 years"),
        ("9999999999999d", "100 years"), ("s", "not a duration"), ("5s ", "not a duration"), ("٣s", "not a duration"),
    ],
)  # fmt: skip
def test_wrong_durations_say_why(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_duration(value)


@pytest.mark.parametrize("value", [True, None, [], {}])
def test_what_is_no_duration_at_all_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        parse_duration(value)
    with pytest.raises(TypeError):
        parse_size(value)


@pytest.mark.parametrize(
    ("value", "size_bytes"),
    [
        ("512MiB", 512 * 1024**2), ("10MB", 10_000_000), ("64K", 65536), ("1.5GiB", 1610612736), (0, 0), (4096, 4096),
        ("1kb", 1000), ("1 GiB", 1024**3), ("10MB/s", 10_000_000), ("7B", 7), ("0.5KiB", 512),
    ],
)  # fmt: skip
def test_sizes_are_read_as_bytes(value: object, size_bytes: int) -> None:
    assert parse_size(value) == size_bytes


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("512", "no unit"), ("-1B", "not a size"), (-1, "negative"), ("0.3B", "whole number"), ("5XB", "unknown unit"),
        ("9999PiB", "8 EiB"), (2**63, "8 EiB"), ("", "not a size"), ("1" * 99 + "B", "too long"),
    ],
)  # fmt: skip
def test_wrong_sizes_say_why(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_size(value)


@given(st.floats(min_value=1e-9, max_value=3e9) | st.integers(0, 10**9).map(lambda ms: ms / 1000))
def test_writing_a_duration_undoes_reading_it(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 2**63 - 1) | st.integers(0, 8000).map(lambda n: n * 1024**3))
def test_writing_a_size_undoes_reading_it(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


def test_quantities_are_written_as_people_write_them() -> None:
    assert [format_duration(s) for s in (0, 0.5, 90, 5400, 604800)] == ["0s", "500ms", "1m30s", "1h30m", "1w"]
    assert [format_size(n) for n in (0, 512 * 1024**2, 10**7, 1500)] == ["0B", "512MiB", "10MB", "1500B"]


@given(st.text(max_size=30))
def test_no_text_breaks_the_readers(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            value = parse(text)
        except ValueError:
            continue
        assert value >= 0
