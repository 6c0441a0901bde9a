"""Requests and answers as values, between the connection, which knows HTTP, and the application, which knows routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["ClientGone", "Reply", "Request", "StreamReply", "unless_gone"]

T = TypeVar("T")


class ClientGone(Exception):
    """Nobody waits for the answer any more, so none is sent."""


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request. Header names are in lower case; of a repeated header the last counts."""

    method: str
    target: str  # path and query, as sent
    headers: Mapping[str, str]
    body: bytes
    until_gone: Callable[[], Coroutine[Any, Any, None]]  # returns when the client has closed its end for good


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer; `closes` ends the connection after it."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    closes: bool = False


@dataclass(frozen=True, slots=True)
class StreamReply:
    """An answer that goes on as long as `items` does, or until the client leaves."""

    content_type: str
    items: AsyncGenerator[bytes, None]
    heartbeat: bytes


async def unless_gone(work: Coroutine[Any, Any, T], until_gone: Callable[[], Awaitable[None]]) -> T:
    """Await `work`; cancel it and raise ClientGone if the client leaves first."""

    async def watch() -> None:
        await until_gone()

    working, watching = asyncio.create_task(work), asyncio.create_task(watch())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
