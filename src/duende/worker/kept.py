"""`ctx.state`: what a daemon keeps across restarts. A mapping of text to JSON values, with transactions.

    with ctx.state.transaction() as t:          # in a `def`; in a coroutine: `async with`
        t["balance"] = t.get("balance", 0) - 10
        t["sent"] = 10
    ctx.state["seen"] = 41                      # a transaction of its own

All of a block is stored, or nothing: an exception in it undoes it, and a SIGKILL or a power cut at any moment leaves
the state of before or of after. What a block has returned from is on the disk (see state.py). Blocks follow each other:
one transaction at a time. `async with` waits for its turn and for the disk without stopping the event loop; a plain
`with` or an assignment in a coroutine stops it for the time of an fsync, and is refused while another coroutine's
transaction is open, since waiting for that would be for ever. A value that was read is a copy: assign it to store it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from duende.errors import StateError
from duende.worker.calls import CallThread
from duende.worker.state import StateFile

__all__ = ["FILE_MAX_BYTES", "KEY_MAX_BYTES", "VALUE_MAX_BYTES", "KeptState", "Transaction"]

# State is small: counters, cursors, positions. What is larger belongs into files or a database of the daemon's own.
KEY_MAX_BYTES = 1024
VALUE_MAX_BYTES = 1024 * 1024
FILE_MAX_BYTES = 64 * 1024 * 1024
_TURN_S = 30.0  # how long one waits for another's transaction before that is told as an error

_Owner = tuple[int, object]  # a thread, and the task where a loop runs in it


class Transaction(MutableMapping[str, Any]):
    """What a block sees: the stored values and its own changes, which are stored together at its end."""

    def __init__(self, file: StateFile) -> None:
        self._file = file
        self._changes: dict[str, str | None] = {}  # JSON text, None for what is deleted
        self.depth = 1

    def __getitem__(self, key: str) -> Any:
        if key not in self._changes:
            return self._file[key]
        text = self._changes[key]
        if text is None:
            raise KeyError(key)
        return json.loads(text)

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"a key of the state is text, not {key!r}")
        if len(key.encode()) > KEY_MAX_BYTES:
            raise StateError(f"cannot keep {key[:40]!r}…: a key may have {KEY_MAX_BYTES} bytes, this has {len(key)}")
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        size_bytes = len(text.encode())
        if size_bytes > VALUE_MAX_BYTES:
            reason = f"as JSON it has {size_bytes} bytes, and {VALUE_MAX_BYTES} are allowed"
            raise StateError(f"cannot keep {key!r}: {reason}; keep large data in a file of your own")
        self._changes[key] = text

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._changes[key] = None

    def __contains__(self, key: object) -> bool:
        return self._changes[key] is not None if key in self._changes else key in self._file

    def __iter__(self) -> Iterator[str]:
        changed = {key for key, text in self._changes.items() if text is not None}
        return iter(sorted(changed | {key for key in self._file if key not in self._changes}))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def commit(self) -> None:
        """Store the changes; StateError, and nothing is stored, when that can't be done."""
        if not self._changes:
            return
        try:
            with self._file.transaction():
                for key, text in self._changes.items():
                    if text is not None:
                        self._file.put(key, text)
                    elif key in self._file:
                        del self._file[key]
        except StateError as error:
            raise StateError(f"{error}{self._advice(error)}") from error


    def _advice(self, error: StateError) -> str:
        """What to do when there is no room."""
        undone = "; nothing of this transaction is stored, what was stored before is there"
        cause = error.__cause__
        if not isinstance(cause, sqlite3.Error) or cause.sqlite_errorcode != sqlite3.SQLITE_FULL:
            return undone
        size_bytes = sum(len(key) + len(text or "") for key, text in self._changes.items())
        if self._file.has_room_for(size_bytes):
            return f"{undone}: make room on the disk"
        return f": the state may have {FILE_MAX_BYTES} bytes, delete keys{undone}"


class KeptState(MutableMapping[str, Any]):
    """The state of one daemon. From any thread and any coroutine; outside of blocks each assignment is one itself."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = StateFile(path, max_bytes=FILE_MAX_BYTES)
        self._turn = _Turn(path)
        self._open: Transaction | None = None  # of the turn's owner

    def transaction(self) -> _Block:
        """For `with` and `async with`. One inside another of the same thread or coroutine is part of it."""
        return _Block(self._begin, self._begin_async)

    def close(self) -> None:
        """Close the file; what was stored stays."""
        self._file.close()

    def __getitem__(self, key: str) -> Any:
        return self._seen()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        with self._begin() as transaction:
            transaction[key] = value

    def __delitem__(self, key: str) -> None:
        with self._begin() as transaction:
            del transaction[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen())

    def __len__(self) -> int:
        return len(self._seen())

    def _seen(self) -> Transaction | StateFile:
        return self._mine() or self._file

    def _mine(self) -> Transaction | None:
        """The transaction that is open here, in this thread or coroutine."""
        return self._open if self._turn.owner is not None and self._turn.owner == _owner() else None

    @contextlib.contextmanager
    def _begin(self) -> Iterator[Transaction]:
        if (mine := self._mine()) is not None:
            yield mine
            return
        self._turn.take(_owner())
        try:
            self._open = transaction = Transaction(self._file)
            yield transaction
            transaction.commit()
        finally:
            self._open = None
            self._turn.release()

    @contextlib.asynccontextmanager
    async def _begin_async(self) -> AsyncIterator[Transaction]:
        if (mine := self._mine()) is not None:
            yield mine
            return
        await self._turn.take_async(_owner())
        try:
            self._open = transaction = Transaction(self._file)
            yield transaction
            await _commit_in_thread(transaction)
        finally:
            self._open = None
            self._turn.release()


class _Block:
    """Both kinds of `with` for one transaction."""

    def __init__(
        self,
        begin: Callable[[], AbstractContextManager[Transaction]],
        begin_async: Callable[[], AbstractAsyncContextManager[Transaction]],
    ) -> None:
        self._begin = begin
        self._begin_async = begin_async

    def __enter__(self) -> Transaction:
        self._plain = self._begin()
        return self._plain.__enter__()

    def __exit__(self, *what: Any) -> bool | None:
        return self._plain.__exit__(*what)

    async def __aenter__(self) -> Transaction:
        self._async = self._begin_async()
        return await self._async.__aenter__()

    async def __aexit__(self, *what: Any) -> bool | None:
        return await self._async.__aexit__(*what)


class _Turn:
    """A lock that threads and coroutines may wait for, in the order of their coming."""

    def __init__(self, path: str) -> None:
        self.owner: _Owner | None = None
        self._path = path
        self._mutex = threading.Lock()
        self._waiting: deque[tuple[_Owner, Callable[[], None]]] = deque()

    def take(self, owner: _Owner) -> None:
        """Wait in this thread."""
        granted = threading.Event()
        entry = (owner, granted.set)
        with self._mutex:
            if self.owner is None:
                self.owner = owner
                return
            if owner[0] == self.owner[0]:
                reason = "another coroutine's transaction is open, and waiting here would keep it from ending"
                raise StateError(f"cannot change the state now: {reason}; use `async with ctx.state.transaction()`")
            self._waiting.append(entry)
        if not granted.wait(_TURN_S) and self._withdraw(entry):
            raise StateError(f"cannot use {self._path}: another transaction has been open for more than {_TURN_S:g} s")

    async def take_async(self, owner: _Owner) -> None:
        """Wait without stopping the loop."""
        loop = asyncio.get_running_loop()
        granted: asyncio.Future[None] = loop.create_future()

        def grant() -> None:
            loop.call_soon_threadsafe(_settle, granted)

        entry = (owner, grant)
        with self._mutex:
            if self.owner is None:
                self.owner = owner
                return
            self._waiting.append(entry)
        try:
            async with asyncio.timeout(_TURN_S):
                await granted
        except TimeoutError:
            if self._withdraw(entry):
                reason = f"another transaction has been open for more than {_TURN_S:g} s"
                raise StateError(f"cannot use {self._path}: {reason}") from None
        except asyncio.CancelledError:
            if not self._withdraw(entry):
                self.release()  # it had just been granted
            raise

    def release(self) -> None:
        """Give the turn to the next."""
        with self._mutex:
            self.owner = None
            while self._waiting and self.owner is None:
                self.owner, grant = self._waiting.popleft()
                try:
                    grant()
                except RuntimeError:
                    self.owner = None  # its loop is closed: nobody waits there any more

    def _withdraw(self, entry: tuple[_Owner, Callable[[], None]]) -> bool:
        """Whether it still waited."""
        with self._mutex:
            if entry not in self._waiting:
                return False
            self._waiting.remove(entry)
            return True


async def _commit_in_thread(transaction: Transaction) -> None:
    """A cancellation waits for the disk: half a commit there is not, and the next turn must not begin in it."""
    thread = CallThread("duende-state")
    work = asyncio.create_task(thread.call(transaction.commit), name="duende state")
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as error:
            cancelled = error
    thread.close()
    if (failed := work.result().error) is not None:
        raise failed
    if cancelled is not None:
        raise cancelled


def _owner() -> _Owner:
    try:
        return threading.get_ident(), asyncio.current_task()
    except RuntimeError:
        return threading.get_ident(), None


def _settle(granted: asyncio.Future[None]) -> None:
    if not granted.done():
        granted.set_result(None)
