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

A daemon has one of these ready-made, with transactions for coroutines and limits: `ctx.state` (kept.py). This class is
for a file at a place of one's own choice, or for more than one.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, Self

from duende.errors import StateError

__all__ = ["StateFile"]

_BUSY_S = 5.0  # a second writer (an older incarnation on its way out) is waited for, then it is an error
_TABLE = "CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL)"


class StateFile(MutableMapping[str, Any]):
    """A mapping of text to JSON values in the file `path`, made if missing. StateError when it can't be used."""

    def __init__(self, path: str | Path, *, max_bytes: int | None = None) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._depth = 0
        try:
            self._db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            if max_bytes is not None:
                (page_bytes,) = self._db.execute("PRAGMA page_size").fetchone()
                self._db.execute(f"PRAGMA max_page_count = {max_bytes // page_bytes}")
            self._db.execute(_TABLE)
        except sqlite3.Error as error:
            raise StateError(f"cannot use the state file {self.path}: {error}") from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Self]:
        """Commit all that the block does together; an exception undoes it. Of nested ones the outer one counts."""
        with self._lock:
            if self._depth:
                self._depth += 1
                try:
                    yield self
                finally:
                    self._depth -= 1
                return
            self._execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield self
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
        self.put(key, json.dumps(value))

    def put(self, key: str, text: str) -> None:
        """Assign what is JSON already."""
        self._execute("INSERT OR REPLACE INTO state VALUES (?, ?)", key, text)

    def has_room_for(self, more_bytes: int) -> bool:
        """Whether so much more would still be within `max_bytes`; a page in ten is counted as lost."""
        pages = [self._execute(f"PRAGMA {what}").fetchone()[0] for what in
                 ("page_count", "freelist_count", "max_page_count", "page_size")]  # fmt: skip
        used, free, limit, page_bytes = pages
        return bool((used - free) * page_bytes + more_bytes * 1.1 < limit * page_bytes)

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
