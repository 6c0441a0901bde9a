"""Every form of a line is written in blocks and reads back exactly."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duende.config.daemon import LogFormat
from duende.runtime.logs.encode import format_time, make_encoder
from duende.runtime.logs.record import JOIN_MAX_BYTES, Joiner, LogRecord, parse_line

STAMP = b"2026-11-21T02:36:00.123456Z"
FORMS = [LogFormat.TEXT, LogFormat.LOGFMT, LogFormat.JSON]

_content = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(str.encode),
    st.sampled_from(
        [
            b"",
            b"<3>",
            b"<3>x",
            b"<8>x",
            b"<",
            b"<<3>",
            b"<3><4>",
            b"\r",
            b'"',
            b"\\",
            b"\\x41",
            b'\\"',
            b"\x00\x1b[0m",
            b"\xff",
            "\u2028é".encode(),
            b'","message":"',
            b"2026-11-21T02:36:00.123456Z stdout F <3>",
            b"\x7f\x1c\x85",
        ]
    ),
).map(lambda line: line.replace(b"\n", b""))


def split_priority(line: bytes) -> tuple[int | None, bytes]:
    if len(line) >= 3 and line[:1] == b"<" and line[2:3] == b">" and line[1:2] in b"01234567":
        return int(line[1:2]), line[3:]
    return None, line


@pytest.mark.parametrize("form", FORMS)
@given(lines=st.lists(_content, min_size=1, max_size=8), continues=st.booleans())
def test_whole_lines_read_back_exactly(form: LogFormat, lines: list[bytes], continues: bool) -> None:
    encoder = make_encoder(form, "web", 7, "stderr")
    out = b"".join(encoder.lines(b"".join(line + b"\n" for line in lines), STAMP, continues=continues))
    assert out.endswith(b"\n")
    written = out[:-1].split(b"\n")
    assert len(written) == len(lines)
    for number, (line, row) in enumerate(zip(lines, written, strict=True)):
        priority, message = (None, line) if continues and number == 0 else split_priority(line)
        record = parse_line("web", row)
        assert (record.message, record.priority, record.partial) == (message, priority, False)
        assert (record.stream, record.time_s) == ("stderr", pytest.approx(1795228560.123456))
        assert record.instance == (None if form is LogFormat.TEXT else 7)


@pytest.mark.parametrize("form", FORMS)
@given(piece=_content.filter(bool), continues=st.booleans())
def test_a_piece_reads_back_exactly(form: LogFormat, piece: bytes, continues: bool) -> None:
    row = make_encoder(form, "web", 7, "stdout").piece(piece, STAMP, continues=continues)
    priority, message = (None, piece) if continues else split_priority(piece)
    record = parse_line("web", row[:-1])
    assert row.count(b"\n") == 1
    assert (record.message, record.priority, record.partial) == (message, priority, True)


@given(lines=st.lists(_content, min_size=1, max_size=8))
def test_json_lines_are_json(lines: list[bytes]) -> None:
    encoder = make_encoder(LogFormat.JSON, "web", 7, "stdout")
    out = b"".join(encoder.lines(b"\n".join(lines) + b"\n", STAMP, continues=False))
    for row in out[:-1].split(b"\n"):
        data = json.loads(row)
        assert ("message" in data) != ("message_base64" in data)


def test_the_forms_are_as_documented() -> None:
    block = b'<3>disk "a" full\nok\n'
    text, logfmt, encoded = (
        b"".join(make_encoder(form, "web", 2, "stderr").lines(block, STAMP, continues=False)).decode().splitlines()
        for form in FORMS
    )
    assert text == [f'{STAMP.decode()} stderr F:3 disk "a" full', f"{STAMP.decode()} stderr F ok"]
    head = f"time={STAMP.decode()} daemon=web instance=2 stream=stderr"
    assert logfmt == [f'{head} priority=3 msg="disk \\"a\\" full"', f'{head} msg="ok"']
    head = f'{{"time":"{STAMP.decode()}","daemon":"web","instance":2,"stream":"stderr"'
    assert encoded == [f'{head},"priority":3,"message":"disk \\"a\\" full"}}', f'{head},"message":"ok"}}']


@pytest.mark.parametrize(
    "line", [b"", b"hello", b"{", b"{}", b"[1]", b"time=", b"2026 stdout F x", b"2 2 2 2", b"\xff"]
)
def test_a_line_that_is_not_ours_is_shown_as_it_is(line: bytes) -> None:
    assert parse_line("web", line) == LogRecord("web", "stdout", line)


def test_pieces_are_joined_per_stream() -> None:
    joiner = Joiner()
    rows = [("stdout", b"a", True), ("stderr", b"1", True), ("stdout", b"b", False), ("stderr", b"2", False)]
    whole = [joiner.add(LogRecord("web", stream, message, partial=more)) for stream, message, more in rows]
    assert [record.message for record in whole if record] == [b"ab", b"12"]
    assert joiner.rest() == []


def test_joining_is_bounded_and_loses_nothing() -> None:
    joiner = Joiner()
    piece = LogRecord("web", "stdout", b"x" * 1_000_000, partial=True)
    given_back = [record for _ in range(40) if (record := joiner.add(piece))]
    assert all(record.partial and len(record.message) < JOIN_MAX_BYTES + 1_000_000 for record in given_back)
    assert sum(len(record.message) for record in given_back + joiner.rest()) == 40_000_000


def test_time_is_utc_with_microseconds() -> None:
    assert format_time(1_795_228_560_000_001_999) == b"2026-11-21T02:36:00.000001Z"
