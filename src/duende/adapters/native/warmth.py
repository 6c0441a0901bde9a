"""The warm process for Python classes, as the manager sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from duende.adapters.native import render
from duende.adapters.native.client import KeeperClient
from duende.errors import PlatformError, PlatformIoError

__all__ = ["Warmth"]


class Warmth:
    """One zygote for all; whoever asks first starts it, and a failed attempt is not remembered."""

    def __init__(self, client: KeeperClient, base_environment: Mapping[str, str]) -> None:
        self._client = client
        self._base_environment = base_environment
        self._zygote: asyncio.Task[int] | None = None

    def lost(self) -> None:
        """It has ended, or its keeper has."""
        self._zygote = None

    async def ensure(self) -> None:
        """Come back when it is there. PlatformIoError when it can't be had."""
        if self._zygote is None:
            env = render.zygote_environment(dict(self._base_environment))
            self._zygote = asyncio.ensure_future(self._client.start_zygote(render.zygote_argv(), env))
        try:
            await asyncio.shield(self._zygote)
        except (PlatformError, EOFError) as error:
            self._zygote = None
            raise PlatformIoError(f"no warm process for Python classes: {error}") from error
