"""Commands that the manager runs beside a daemon: probes, stop and reload commands. They die with all they started."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from duende.adapters.native.render import MARKER
from duende.adapters.native.tree import kill_marked
from duende.adapters.native.users import Account

__all__ = ["CommandFailed", "run_command", "running_commands", "tell_command"]

_OUTPUT_BYTES = 4096  # the first are read, the rest is thrown away with the pipe
_SAID_CHARS = 200

_numbers = itertools.count(1)
_running: list[int] = []  # process ids; 0 while one is being started, when nobody knows its number


class CommandFailed(Exception):
    """It could not be executed, or ended with another code than 0; the text says which, and what it printed."""


def running_commands() -> set[int]:
    """The process ids that are waited for here, which nobody else may reap; 0 is among them while one is started."""
    return set(_running)


async def run_command(argv: Sequence[str], env: Mapping[str, str], cwd: str, *, account: Account | None = None) -> None:
    """Run it to its end. Cancelled (so by a time-out of the caller), everything that it has started is killed.

    It carries a marker of its own beside the daemon's: it is no part of the instance, and what left its process group
    is found by that.
    """
    marker = f"{env.get(MARKER, '')}/{os.getpid()}-{next(_numbers)}"
    as_whom: dict[str, Any] = {}
    if account is not None and account.uid is not None:
        as_whom = {"user": account.uid, "group": account.gid, "extra_groups": account.groups or ()}
    with _Output(_OUTPUT_BYTES) as output:
        process = await _started(argv, {**env, MARKER: marker}, cwd, output, asyncio.subprocess.DEVNULL, as_whom)
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.killpg(process.pid, 9)
            kill_marked(marker)
            await process.wait()
            raise
        finally:
            _running.remove(process.pid)
        said = output.last().decode(errors="replace").strip()[-_SAID_CHARS:]
    if code != 0:
        ended = f"exited with {code}" if code > 0 else f"was killed by signal {-code}"
        raise CommandFailed(f"{argv[0]} {ended}" + (f": {said}" if said else ""))


async def tell_command(
    argv: Sequence[str], env: Mapping[str, str], cwd: str, *, said: bytes, output_max_bytes: int
) -> tuple[int, bytes]:
    """Run it with `said` on its standard input; its exit code (negative: the signal) and the first of its output.

    Cancelled, its whole process group is killed. CommandFailed when it can't be executed.
    """
    with _Output(output_max_bytes) as output:
        process = await _started(argv, dict(env), cwd, output, asyncio.subprocess.PIPE, {})
        assert process.stdin is not None
        try:
            process.stdin.write(said)
            process.stdin.close()  # what it does not read is nobody's loss
            return await process.wait(), output.last()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.killpg(process.pid, 9)
            await process.wait()
            raise
        finally:
            _running.remove(process.pid)


async def _started(
    argv: Sequence[str], env: dict[str, str], cwd: str, output: _Output, stdin: int, as_whom: dict[str, Any]
) -> asyncio.subprocess.Process:
    """Its process id is among `running_commands`: the caller takes it out."""
    _running.append(0)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, env=env, cwd=cwd, stdin=stdin, stdout=output.write_end, stderr=output.write_end,
            start_new_session=True, **as_whom,
        )  # fmt: skip
    except OSError as error:
        raise CommandFailed(f"cannot execute {argv[0]!r}: {error.strerror}") from error
    finally:
        _running.remove(0)
    output.started()
    _running.append(process.pid)
    return process


class _Output:
    """A pipe for what a command writes: read all the time, so that it never waits for us, and not longer than it lives,
    since what it leaves in the background may hold the other end open for ever. The first bytes are kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.kept = bytearray()
        self._max_bytes = max_bytes
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_end, False)

    def __enter__(self) -> _Output:
        asyncio.get_running_loop().add_reader(self._read_end, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        self.started()
        asyncio.get_running_loop().remove_reader(self._read_end)
        os.close(self._read_end)

    def started(self) -> None:
        """The command has its end; ours would keep us from seeing that it closed it."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def last(self) -> bytes:
        """What it has written, now that it has ended."""
        while self._take():
            continue
        return bytes(self.kept)

    def _take(self) -> bool:
        try:
            piece = os.read(self._read_end, 65536)
        except BlockingIOError:
            return False
        if not piece:
            asyncio.get_running_loop().remove_reader(self._read_end)
        self.kept += piece[: self._max_bytes - len(self.kept)]
        return bool(piece)
