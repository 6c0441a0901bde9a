"""A small store for what a daemon must not forget: survives SIGKILL at any moment, never half of a change.

    state = StateFile(Path(config.working_dir) / "counter.state")
    state["seen"] = 41
    with state.transaction():         # both or neither
        state["from"] = 10
        state["to"] = 20
    state.get("seen", 0)

What an assignment or a `with` block has returned from is committed: it outlives a SIGKILL, and a power cut as far as
the disk keeps its word (SQLite, write-ahead log, synchronous=FULL). An exception in a block undoes the block. Values
are what JSON can say. One process at a time writes; the methods may be called from any thread, and a transaction
belongs to the thread that began it.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from duende.errors import StateError

__all__ = ["StateFile"]

_BUSY_S = 5.0  # a second writer (an older incarnation on its way out) is waited for, then it is an error
_TABLE = "CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL)"


class StateFile(MutableMapping[str, Any]):
    """A mapping of text to JSON values in the file `path`, made if missing. StateError when it can't be used."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._depth = 0
        try:
            self._db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
            )
        except sqlite3.Error as error:
            raise StateError(f"cannot use the state file {self.path}: {error}") from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that the block does together; an exception undoes it. Of nested ones the outer one counts."""
        with self._lock:
            if self._depth:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                return
            self._execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
                self._execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk has undone it already
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0

    def close(self) -> None:
        """Close the file; what was committed stays."""
        with self._lock:
            self._db.close()

    def __getitem__(self, key: str) -> Any:
        row = self._execute("SELECT value FROM state WHERE key = ?", key).fetchone()
        if row is None:
            raise KeyError(key)
        return json.loads(row[0])

    def __setitem__(self, key: str, value: Any) -> None:
        self._execute("INSERT OR REPLACE INTO state VALUES (?, ?)", key, json.dumps(value))

    def __delitem__(self, key: str) -> None:
        if self._execute("DELETE FROM state WHERE key = ?", key).rowcount == 0:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter([row[0] for row in self._execute("SELECT key FROM state ORDER BY key").fetchall()])

    def __len__(self) -> int:
        return int(self._execute("SELECT count(*) FROM state").fetchone()[0])

    def _execute(self, statement: str, *values: str) -> sqlite3.Cursor:
        with self._lock:
            try:
                return self._db.execute(statement, values)
            except sqlite3.Error as error:
                raise StateError(f"cannot use the state file {self.path}: {error}") from error
