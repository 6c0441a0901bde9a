"""What is committed survives: kill -9 in the midst of writing, a full disk, a reader at the same time, a newer file."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from duende.errors import StateError
from duende.runtime import store as stored
from duende.runtime.store import Record, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "state.db")
    yield made
    made.close()


def _record(name: str, number: int = 1, **extra: Any) -> Record:
    return Record(name, f"id-{name}", {"status": "running", "instance": number}, {"pid": number}, extra)


def _event(seq: int, text: str = "x") -> dict[str, Any]:
    head = {"seq": seq, "time": "t", "daemon": "a", "kind": "status"}
    return {**head, "status": "running", "cause": "c", "message": text, "data": {"n": seq}}


def test_everything_comes_back_as_it_was(tmp_path: Path) -> None:
    first = Store(tmp_path / "s.db")
    nothing = Record("b", "id-b", {"text": "ünï\x00\n"}, None, {})
    assert first.commit([_record("a", gaps=["x"]), nothing], [_event(1), _event(2, "ü")], durable=True)
    first.commit([], [], history=[stored.began("a", 1, 55, "t0"), stored.ended("a", 1, "t1", {"code": 3})])
    first.set_meta("boot_id", "x")
    first.close()
    second = Store(tmp_path / "s.db")
    assert second.records() == {"a": _record("a", gaps=["x"]), "b": nothing}
    assert second.events_after(0, 10) == [_event(1), _event(2, "ü")]
    assert second.events_after(1, 10) == [_event(2, "ü")]
    assert second.last_seq() == 2
    assert second.history("a", 5) == [{"instance": 1, "pid": 55, "started": "t0", "ended": "t1", "exit": {"code": 3}}]
    assert (second.meta("boot_id"), second.meta("none")) == ("x", None)
    second.commit([], [], forget=["a"])
    assert set(second.records()) == {"b"}
    second.close()


def test_its_file_is_private(store: Store) -> None:
    assert store.path.stat().st_mode & 0o777 == 0o600


def test_a_newer_schema_is_refused_with_what_to_do_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StateError, match="has schema 99, this duende knows 1: it was written by a newer"):
        Store(path)


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be looked at" * 50, b"\0" * 4096])
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with pytest.raises(StateError, match="cannot open the state database"):
        Store(path)
    assert path.read_bytes() == content


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="cannot open the state database"):
        Store(tmp_path / "s.db")
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_loses_nothing_that_can_be_kept(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for the disk: write(2) fails with EFBIG, SQLite says it cannot write."""
    store = Store(tmp_path / "s.db")
    store.commit([_record("a", 1)], [_event(1)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, limits[1]))
    try:
        written = [store.commit([_record("a", n)], [_event(n, "x" * 4000)]) for n in range(2, 22)]
        assert not written[-1]
        assert "cannot write" in store.trouble
        assert [event["seq"] for event in store.events_after(0, 100)] == list(range(1, 22))  # readable all the while
        assert store.events_after(0, 5)[-1]["seq"] == 5
        assert store.last_seq() == 21
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert store.commit([], [_event(22)])
    assert store.trouble == ""
    store.close()
    again = Store(tmp_path / "s.db")
    assert again.records()["a"] == _record("a", 21)
    assert [event["seq"] for event in again.events_after(0, 100)] == list(range(1, 23))
    again.close()


def test_what_waits_for_a_full_disk_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_write_pending", _full)
    for n in range(0, 12_000, 500):
        store.commit([_record("a", n)], [_event(seq) for seq in range(n, n + 500)])
    assert len(store._pending_events) == 10_000
    assert store._pending_events[-1]["seq"] == 11_999
    assert len(store._pending_records) == 1


def _full() -> None:
    raise sqlite3.OperationalError("database or disk is full")


def test_a_value_that_is_there_already_needs_no_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.set_meta("running", "yes")
    before = store._db.total_changes
    store.set_meta("running", "yes")
    assert store._db.total_changes == before
    store.set_meta("running", "no")
    assert store.meta("running") == "no"


def test_old_events_and_history_go_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_EVENTS_KEPT", 50)
    monkeypatch.setattr(stored, "_HISTORY_KEPT", 10)
    for n in range(1, 2001, 100):
        rows = [stored.began("a", i, i, "t") for i in range(n, n + 100)]
        store.commit([], [_event(seq) for seq in range(n, n + 100)], history=rows)
    assert [event["seq"] for event in store.events_after(0, 10_000)] == list(range(1951, 2001))
    assert len(store.history("a", 10_000)) == 10


WRITER = """
import sys
from pathlib import Path
from duende.runtime.store import Record, Store
store = Store(Path(sys.argv[1]))
n = store.records()["a"].state["n"] if store.records() else 0
while True:
    n += 1
    event = {"seq": n, "time": "", "daemon": "a", "kind": "k", "status": None, "cause": "", "message": "x" * 2000}
    event["data"] = {}
    store.commit([Record("a", "i", {"n": n}, None, {}), Record("b", "i", {"n": n}, None, {})], [event])
    print(n, flush=True)
"""


@pytest.mark.real
def test_kill_9_in_the_midst_of_commits_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """Twenty times; the last number that the writer told of is there, state and event together, never one of them."""
    path = tmp_path / "s.db"
    for round in range(20):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(3 + round * 7):
            told = int(writer.stdout.readline())
        writer.kill()
        told = max([told, *(int(line) for line in writer.stdout.read().split("\n")[:-1])])
        writer.wait()
        writer.stdout.close()
        store = Store(path)
        found = {record.state["n"] for record in store.records().values()}
        assert len(found) == 1, "half a transaction"
        assert min(found) >= told
        assert store.last_seq() == min(found)
        assert store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        store.close()


def test_a_torn_tail_of_the_log_costs_only_what_was_not_committed(tmp_path: Path) -> None:
    """The WAL is cut in the middle of its last transaction, as by a power cut."""
    path = tmp_path / "s.db"
    store = Store(path)
    store.commit([_record("a", 1)], [_event(1)])
    wal = tmp_path / "s.db-wal"
    whole = wal.stat().st_size
    store.commit([_record("a", 2)], [_event(2, "x" * 20_000)])
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "s.db").write_bytes(path.read_bytes())
    data = wal.read_bytes()
    (copy / "s.db-wal").write_bytes(data[: (whole + len(data)) // 2])
    torn = Store(copy / "s.db")
    assert (torn.records()["a"], torn.last_seq()) == (_record("a", 1), 1)
    torn.close()
    store.close()
