"""What must survive the manager, in SQLite (WAL): desired state, instances, restart history, numbered events.

Everything is written before it is done (`commit` first, then the effects). A commit is on its way to the disk when it
returns: enough for a manager that is killed, since the kernel keeps what was written. What the *user* said (`durable`)
is synced, since that must survive a power cut too. When the disk is full nothing is lost and nothing stops: what could
not be written waits in memory, the newest state of each daemon and a bounded number of events, and goes out with the
next commit.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from duende.errors import StateError

__all__ = ["Record", "Store", "peek"]

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS daemon (
    name TEXT PRIMARY KEY, id TEXT NOT NULL, state TEXT NOT NULL, handle TEXT, extra TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, instance INTEGER NOT NULL, pid INTEGER, started TEXT NOT NULL,
    ended TEXT, exit TEXT
);
CREATE INDEX IF NOT EXISTS history_by_instance ON history (name, instance);
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY, time TEXT NOT NULL, daemon TEXT NOT NULL, kind TEXT NOT NULL, status TEXT,
    cause TEXT NOT NULL, message TEXT NOT NULL, data TEXT NOT NULL
);
"""

_SELECT_EVENTS = "SELECT seq, time, daemon, kind, status, cause, message, data FROM event"
_SET_META = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_EVENTS_KEPT = 10_000  # a replay of some days of a normal stack; about 2 MB
_HISTORY_KEPT = 10_000  # incarnations over all daemons
_SEQ_MAX = 2**63 - 1  # SQLite's largest integer
_PRUNE_EVERY = 1_000  # events between two looks at the bounds
_PENDING_EVENTS_MAX = 10_000  # while the disk is full; the oldest go first
_BUSY_TIMEOUT_S = 5.0  # only `duende` tools that read the file could hold it


@dataclass(frozen=True, slots=True)
class Record:
    """One daemon as stored. `extra` is the shell's own knowledge (see driver)."""

    name: str
    id: str
    state: Mapping[str, Any]
    handle: Mapping[str, Any] | None
    extra: Mapping[str, Any]


class Store:
    """The open database; one manager at a time (the caller holds the stack's lock)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trouble = ""  # why the last commit could not be written; empty when all is well
        self._pending_meta: dict[str, str] = {}
        self._pending_records: dict[str, Record | None] = {}
        self._pending_history: deque[tuple[str, tuple[Any, ...]]] = deque(maxlen=_PENDING_EVENTS_MAX)
        self._pending_events: deque[dict[str, Any]] = deque(maxlen=_PENDING_EVENTS_MAX)
        self._since_prune = 0
        try:
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise StateError(f"cannot open the state database {path}: {error}") from error

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            self._db.close()
            raise StateError(
                f"the state database {self.path} has schema {version}, this duende knows {SCHEMA_VERSION}: "
                "it was written by a newer duende; run that one, or move the file away to start afresh"
            )
        if version < SCHEMA_VERSION:
            self._db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            self._db.execute("COMMIT")

    # --- reading

    def meta(self, key: str) -> str | None:
        """A single value."""
        if key in self._pending_meta:
            return self._pending_meta[key]
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def records(self) -> dict[str, Record]:
        """All daemons ever seen, by name."""
        return _records(self._db)

    def last_seq(self) -> int:
        """The number of the newest event."""
        if self._pending_events:
            return int(self._pending_events[-1]["seq"])
        return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()[0])

    def events_after(self, seq: int, limit: int) -> list[dict[str, Any]]:
        """Events with a greater number, oldest first."""
        seq = min(seq, _SEQ_MAX)
        rows = self._db.execute(f"{_SELECT_EVENTS} WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))
        found = [_event(row) for row in rows]
        found += [event for event in self._pending_events if event["seq"] > seq]
        return found[:limit]

    def latest_events_of(self, daemon: str, limit: int) -> list[dict[str, Any]]:
        """The newest events of one daemon, oldest first. There is no index for it: reading 10,000 rows takes 2 ms."""
        rows = self._db.execute(f"{_SELECT_EVENTS} WHERE daemon = ? ORDER BY seq DESC LIMIT ?", (daemon, limit))
        found = [_event(row) for row in rows][::-1]
        return (found + [event for event in self._pending_events if event["daemon"] == daemon])[-limit:]

    def executions(self) -> dict[tuple[str, int], str]:
        """When each incarnation that is on record was executed; of a number that was used twice, the later."""
        rows = self._db.execute("SELECT name, instance, started FROM history ORDER BY number")
        return {(name, instance): started for name, instance, started in rows}

    def history(self, name: str, limit: int) -> list[dict[str, Any]]:
        """The last incarnations of a daemon, newest first."""
        rows = self._db.execute(
            "SELECT instance, pid, started, ended, exit FROM history WHERE name = ? ORDER BY number DESC LIMIT ?",
            (name, limit),
        )
        return [
            {
                "instance": instance,
                "pid": pid,
                "started": started,
                "ended": ended,
                "exit": json.loads(exit) if exit else None,
            }
            for instance, pid, started, ended, exit in rows
        ]

    # --- writing

    def commit(
        self, records: Iterable[Record], events: Iterable[dict[str, Any]], *,
        history: Iterable[tuple[str, tuple[Any, ...]]] = (), forget: Iterable[str] = (), durable: bool = False,
    ) -> bool:  # fmt: skip
        """Write it all in one transaction, with what waited. False when it could not be written (see `trouble`)."""
        for record in records:
            self._pending_records[record.name] = record
        for name in forget:
            self._pending_records[name] = None
        self._pending_history.extend(history)
        self._pending_events.extend(events)
        return self.flush(durable=durable)

    def flush(self, *, durable: bool = False) -> bool:
        """Try to write what waits."""
        if not (self._pending_meta or self._pending_records or self._pending_events or self._pending_history):
            return True
        try:
            if durable:
                self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("BEGIN IMMEDIATE")
            self._write_pending()
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self.trouble = f"cannot write {self.path}: {error}"
            return False
        finally:
            if durable:
                self._db.execute("PRAGMA synchronous=NORMAL")
        self._pending_meta.clear()
        self._pending_records.clear()
        self._pending_events.clear()
        self._pending_history.clear()
        self.trouble = ""
        return True

    def _write_pending(self) -> None:
        for key, value in self._pending_meta.items():
            self._db.execute(_SET_META, (key, value))
        for name, record in self._pending_records.items():
            if record is None:
                self._db.execute("DELETE FROM daemon WHERE name = ?", (name,))
                continue
            handle = json.dumps(record.handle) if record.handle is not None else None
            self._db.execute(
                "INSERT INTO daemon VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET id = excluded.id, "
                "state = excluded.state, handle = excluded.handle, extra = excluded.extra",
                (name, record.id, json.dumps(record.state), handle, json.dumps(record.extra)),
            )
        for statement, values in self._pending_history:
            self._db.execute(statement, values)
        self._db.executemany(
            "INSERT OR REPLACE INTO event VALUES (:seq, :time, :daemon, :kind, :status, :cause, :message, :data)",
            ({**event, "data": json.dumps(event["data"])} for event in self._pending_events),
        )
        self._since_prune += len(self._pending_events)
        if self._since_prune >= _PRUNE_EVERY:
            self._since_prune = 0
            self._db.execute("DELETE FROM event WHERE seq <= (SELECT max(seq) FROM event) - ?", (_EVENTS_KEPT,))
            self._db.execute(
                "DELETE FROM history WHERE number <= (SELECT max(number) FROM history) - ?", (_HISTORY_KEPT,)
            )

    def stage(self, records: Iterable[Record]) -> None:
        """Write them with the next commit."""
        self._pending_records.update({record.name: record for record in records})

    def stage_meta(self, key: str, value: str) -> None:
        """Store a single value with the next commit, in one transaction with what it speaks of."""
        self._pending_meta[key] = value

    def set_meta(self, key: str, value: str) -> None:
        """Store a single value, synced; one that is there already costs no write. StateError when it can't be
        written.
        """
        if self.meta(key) == value and key not in self._pending_meta:
            return
        self._pending_meta[key] = value  # should it fail now, it goes out with the next commit
        try:
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(_SET_META, (key, value))
            self._db.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error as error:
            raise StateError(f"cannot write {self.path}: {error}") from error
        del self._pending_meta[key]

    def close(self) -> None:
        """Write what waits and close."""
        self.flush()
        self._db.close()


def _event(row: tuple[Any, ...]) -> dict[str, Any]:
    keys = ("seq", "time", "daemon", "kind", "status", "cause", "message")
    return {**dict(zip(keys, row[:7], strict=True)), "data": json.loads(row[7])}


def _records(db: sqlite3.Connection) -> dict[str, Record]:
    rows = db.execute("SELECT name, id, state, handle, extra FROM daemon")
    return {
        name: Record(name, id, json.loads(state), json.loads(handle) if handle else None, json.loads(extra))
        for name, id, state, handle, extra in rows
    }


def began(name: str, instance: int, pid: int | None, time: str) -> tuple[str, tuple[Any, ...]]:
    """The history row of a start."""
    return "INSERT INTO history (name, instance, pid, started) VALUES (?, ?, ?, ?)", (name, instance, pid, time)


def ended(name: str, instance: int, time: str, exit: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """The history row's other half."""
    return (
        "UPDATE history SET ended = ?, exit = ? WHERE name = ? AND instance = ? AND ended IS NULL",
        (time, json.dumps(dict(exit)), name, instance),
    )


def peek(path: Path) -> dict[str, Record]:
    """The records of a stack that no manager has, without changing anything; empty where there is no database.

    StateError when it can't be read or is of another schema.
    """
    if not path.exists():
        return {}
    try:
        db = sqlite3.connect(f"file:{quote(os.fspath(path))}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)
        with contextlib.closing(db):
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise StateError(f"the state database {path} has schema {version}, this duende knows {SCHEMA_VERSION}")
            return _records(db)
    except sqlite3.Error as error:
        raise StateError(f"cannot read the state database {path}: {error}") from error
