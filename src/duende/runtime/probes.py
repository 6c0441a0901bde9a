"""Asking from outside: is it ready, is it well? TCP, Unix socket, HTTP, a command, or the class itself.

A probe is one attempt and has one answer. What repeated answers mean is decided by whoever asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from duende.config.daemon import HealthCheckConfig, ReadyConfig
from duende.model.health import HealthStatus

__all__ = ["ProbeFailed", "health_probe", "ready_probe"]

_HEAD_LIMIT_BYTES = 65536
_REASON_LIMIT = 300  # characters of a command's output that are worth showing

Probe = Callable[[], Awaitable[None]]
"""Returns when all is well; raises ProbeFailed with the reason otherwise."""


_running: list[int] = []  # 0 stands for a command whose id is not known yet


def running_commands() -> set[int]:
    """The process ids of probe commands that are awaited here; 0 is among them while one is being started."""
    return set(_running)


class ProbeFailed(Exception):
    """Not ready, or not well, and why."""


def ready_probe(config: ReadyConfig, env: Mapping[str, str], cwd: str) -> Probe | None:
    """The polled kinds of readiness; None for those that are told by an event."""
    if config.tcp:
        return lambda: _tcp(config.tcp or "")
    if config.unix:
        return lambda: _unix(config.unix or "")
    if config.http:
        return lambda: _http(config.http or "")
    if config.exec:
        return lambda: _exec(config.exec or (), env, cwd)
    return None


def health_probe(config: HealthCheckConfig, env: Mapping[str, str], cwd: str) -> Probe | None:
    """What `health_check` says to do; None when it is the class that must be asked."""
    if config.tcp:
        return lambda: _tcp(config.tcp or "")
    if config.http:
        return lambda: _http(config.http or "")
    if config.exec:
        return lambda: _exec(config.exec or (), env, cwd)
    return None


async def measured(probe: Probe, timeout_s: float) -> HealthStatus:
    """Run a probe once within its time and say how it went."""
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            await probe()
    except TimeoutError:
        return HealthStatus.unhealthy(f"no answer within {timeout_s:g} s", _since_ms(began_s))
    except ProbeFailed as error:
        return HealthStatus.unhealthy(str(error), _since_ms(began_s))
    return HealthStatus.healthy(_since_ms(began_s))


def _since_ms(began_s: float) -> float:
    return round((time.monotonic() - began_s) * 1000.0, 3)


async def _tcp(address: str) -> None:
    host, port = split_address(address)
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise ProbeFailed(f"{address}: {_words(error)}") from error
    await _close(writer)


async def _unix(path: str) -> None:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        raise ProbeFailed(f"{path}: {_words(error)}") from error
    await _close(writer)


async def _http(url: str) -> None:
    """GET; 200-399 is well. Nothing of the answer but its first line is read."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        reader, writer = await asyncio.open_connection(
            parts.hostname, port, ssl=True if secure else None, limit=_HEAD_LIMIT_BYTES
        )
    except OSError as error:
        raise ProbeFailed(f"{url}: {_words(error)}") from error
    try:
        host = parts.netloc.rpartition("@")[2]
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: duende\r\nConnection: close\r\n\r\n".encode()
        )
        line = await reader.readline()
    except (OSError, ValueError) as error:
        raise ProbeFailed(f"{url}: {error}") from error
    finally:
        await _close(writer)
    words = line.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ProbeFailed(f"{url}: not an HTTP answer: {line[:80]!r}")
    if not 200 <= int(words[1]) < 400:
        raise ProbeFailed(f"{url}: HTTP status {int(words[1])}")


async def _exec(argv: tuple[str, ...], env: Mapping[str, str], cwd: str) -> None:
    """Exit code 0 is well. The command gets the daemon's environment and dies with its whole group when time is up."""
    _running.append(0)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, env=dict(env), cwd=cwd, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise ProbeFailed(f"cannot execute {argv[0]!r}: {error.strerror}") from error
    finally:
        _running.remove(0)
    _running.append(process.pid)
    try:
        assert process.stdout is not None
        output = await process.stdout.read(_HEAD_LIMIT_BYTES)
        code = await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(process.pid, 9)
        await process.wait()
        raise
    finally:
        _running.remove(process.pid)
    if code != 0:
        said = output.decode(errors="replace").strip()[-_REASON_LIMIT:]
        raise ProbeFailed(f"{argv[0]} exited with {code}" + (f": {said}" if said else ""))


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):  # the peer reset what we were closing anyway
        await writer.wait_closed()


def split_address(address: str) -> tuple[str, int]:
    """`HOST:PORT`, `[::1]:PORT` or `:PORT` (this machine)."""
    host, _, port = address.rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port)


def _words(error: OSError) -> str:
    return error.strerror or str(error)
