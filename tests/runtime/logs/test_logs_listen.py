"""A line of readiness is found wherever its bytes are cut, once, and only where it is."""

from __future__ import annotations

import os
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duende.config.daemon import LogConfig, LogFormat
from duende.runtime.logs import LogPump, LogStore
from duende.runtime.logs.listen import LineListener, was_said

TEXT = b"starting\n<6>listening on 80\nlistening nowhere\r\nnothing more"


def found_in(pattern: str, *pieces: bytes, end: bool = False) -> int:
    found: list[int] = []
    listener = LineListener(pattern, lambda: found.append(1))
    for piece in pieces:
        listener.feed("stdout", piece)
    if end:
        listener.end("stdout")
    assert listener.is_done is bool(found)
    return len(found)


@given(cuts=st.lists(st.integers(0, len(TEXT)), max_size=8))
def test_it_does_not_matter_where_it_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(TEXT)]
    pieces = [TEXT[a:b] for a, b in zip(edges, edges[1:], strict=False)]  # noqa: RUF007 (a list of slices)
    assert found_in("^listening on [0-9]+$", *pieces) == 1
    assert found_in("nowhere$", *pieces) == 1
    assert found_in("^starting listening", *pieces) == 0
    assert found_in("more$", *pieces) == 0  # the line has not ended
    assert found_in("more$", *pieces, end=True) == 1
    assert found_in("listening", *pieces, *pieces, end=True) == 1


def test_streams_are_not_mixed() -> None:
    found: list[int] = []
    listener = LineListener("ready", lambda: found.append(1))
    listener.feed("stdout", b"rea")
    listener.feed("stderr", b"dy\n")
    assert not found
    listener.feed("stdout", b"dy\n")
    assert found


def test_a_line_without_an_end_is_kept_only_so_far() -> None:
    listener = LineListener("x", lambda: None)
    for _ in range(100):
        listener.feed("stdout", b"a" * 10_000)
    assert sum(map(len, listener._rest.values())) <= 16 * 1024


@pytest.mark.parametrize("form", [LogFormat.TEXT, LogFormat.JSON, LogFormat.LOGFMT, LogFormat.RAW])
def test_the_pump_tells_and_the_log_knows_it_later(tmp_path: Path, form: LogFormat) -> None:
    told: Future[None] = Future()
    listener = LineListener("^on 80$", lambda: told.set_result(None))
    pump = LogPump(tmp_path)
    pump.start()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    pump.attach("a", 7, "stderr", reader, LogConfig(format=form), listener)
    os.write(writer, b"first\non 80\n")
    told.result(timeout=20)
    os.close(writer)
    pump.drained("a", 7).result(timeout=20)
    pump.close()
    store = LogStore(tmp_path)
    knows = form is not LogFormat.RAW  # which says neither when nor of whom
    assert was_said(store, "a", "^on 80$", 0.0, 7) is knows
    assert not was_said(store, "a", "^on 81$", 0.0, 7)
    assert not was_said(store, "a", "^on 80$", 4e9, 7)
    if form in (LogFormat.JSON, LogFormat.LOGFMT):
        assert not was_said(store, "a", "^on 80$", 0.0, 8)
