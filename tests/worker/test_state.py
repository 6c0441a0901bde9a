"""The state file: what it keeps, what it undoes. That it survives SIGKILL is claim F009."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from duende.errors import StateError
from duende.worker.state import StateFile


def test_what_was_assigned_is_read_back_by_the_next(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "s")
    state["a"] = {"b": [1, None, "ü"]}
    state["gone"] = 1
    del state["gone"]
    state.close()
    again = StateFile(tmp_path / "s")
    assert dict(again) == {"a": {"b": [1, None, "ü"]}}
    assert (len(again), again.get("gone", 7)) == (1, 7)
    with pytest.raises(KeyError):
        del again["gone"]
    again.close()


def test_an_exception_undoes_the_whole_transaction(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "s")
    state["a"] = 1
    with pytest.raises(ZeroDivisionError), state.transaction():  # noqa: PT012 - the block is what is tested
        state["a"] = 2
        with state.transaction():
            state["b"] = 2
        raise ZeroDivisionError
    assert dict(state) == {"a": 1}
    with state.transaction():
        state["a"] = 3
    assert state["a"] == 3
    state.close()


def test_a_transaction_is_not_mixed_with_other_threads_writes(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "s")
    begun, written = threading.Event(), threading.Event()

    def other() -> None:
        begun.wait()
        state["other"] = 1
        written.set()

    thread = threading.Thread(target=other)
    thread.start()
    with pytest.raises(ZeroDivisionError), state.transaction():  # noqa: PT012 - the block is what is tested
        state["mine"] = 1
        begun.set()
        assert not written.wait(0.1)
        raise ZeroDivisionError
    thread.join()
    assert dict(state) == {"other": 1}
    state.close()


def test_values_that_json_cannot_say_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "s")
    with pytest.raises(TypeError, match="not JSON serializable"):
        state["a"] = object()
    assert dict(state) == {}
    state.close()


def test_a_file_that_is_no_state_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("this is not a database, and long enough to be seen as none" * 20)
    with pytest.raises(StateError, match=str(tmp_path / "s")):
        StateFile(tmp_path / "s")
    with pytest.raises(StateError, match="nowhere"):
        StateFile(tmp_path / "nowhere" / "s")
