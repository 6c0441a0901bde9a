"""Asking from outside: is it ready, is it well? TCP, Unix socket, HTTP, a command, or the class itself.

A probe is one attempt and has one answer. What repeated answers mean is decided by whoever asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from duende.config.daemon import LivenessConfig, ProbeConfig
from duende.errors import PlatformError
from duende.model.health import HealthStatus
from duende.runtime.commands import CommandFailed

__all__ = ["ProbeFailed", "measured", "probe_of"]

_HEAD_LIMIT_BYTES = 65536

Probe = Callable[[], Awaitable[None]]
"""Returns when all is well; raises ProbeFailed with the reason otherwise."""

Run = Callable[[Sequence[str]], Awaitable[None]]
"""Runs a command as the daemon runs; CommandFailed, or PlatformError for a user that does not exist."""


class ProbeFailed(Exception):
    """Not ready, or not well, and why."""


def probe_of(config: ProbeConfig, run: Run, silent_s: Callable[[], float]) -> Probe | None:
    """What it asks; None when it is the class that must be asked. `silent_s` tells how long it has written nothing."""
    if config.tcp:
        return lambda: _tcp(config.tcp or "")
    if config.unix:
        return lambda: _unix(config.unix or "")
    if config.http:
        return lambda: _http(config.http or "")
    if config.exec:
        return lambda: _exec(config.exec or (), run)
    if isinstance(config, LivenessConfig) and config.log_age:
        limit_s = config.log_age
        return lambda: _log_age(limit_s, silent_s)
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
        _, writer = await asyncio.open_unix_connection("\0" + path[1:] if path.startswith("@") else path)
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


async def _exec(argv: tuple[str, ...], run: Run) -> None:
    """Exit code 0 is well. When time is up it is killed with everything it has started."""
    try:
        await run(argv)
    except (CommandFailed, PlatformError) as error:
        raise ProbeFailed(str(error)) from error


async def _log_age(limit_s: float, silent_s: Callable[[], float]) -> None:
    if (silence_s := silent_s()) > limit_s:
        raise ProbeFailed(f"no output for {silence_s:.1f} s, more than {limit_s:g} s")


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
