"""Commands beside a daemon: their output never stops them, and what they leave behind does not hold us."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from duende.runtime.commands import CommandFailed, run_command, running_commands, tell_command

pytestmark = pytest.mark.real
T = TypeVar("T")


def run(work: Awaitable[T]) -> T:
    async def main() -> T:
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(main())


def test_one_that_writes_much_is_read_to_its_end_and_the_first_is_kept() -> None:
    with pytest.raises(CommandFailed, match=r"^sh exited with 3: \s*y\n"):
        run(run_command(["sh", "-c", "yes | head -c 3000000; exit 3"], os.environ, "/"))
    code, said = run(tell_command(["cat"], os.environ, "/", said=b"x" * 1_000_000, output_max_bytes=10))
    assert (code, said) == (0, b"x" * 10)
    assert running_commands() == set()


def test_what_it_leaves_in_the_background_is_not_waited_for() -> None:
    began_s = time.monotonic()
    with pytest.raises(CommandFailed, match=r"exited with 7: \d+$") as caught:
        run(run_command(["sh", "-c", "sleep 15 & echo $!; exit 7"], os.environ, "/"))
    os.kill(int(str(caught.value).rpartition(" ")[2]), 9)
    code, said = run(tell_command(["sh", "-c", "sleep 15 & echo $!"], os.environ, "/", said=b"", output_max_bytes=99))
    assert (code, int(said) > 1) == (0, True)
    os.kill(int(said), 9)
    assert time.monotonic() - began_s < 15


def test_cancelled_it_takes_all_with_it_and_names_what_it_cannot_execute() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await run_command(["sh", "-c", "sleep 1000 & sleep 1000"], {**os.environ, "MARK": "mine"}, "/")
        with pytest.raises(CommandFailed, match="cannot execute '/no/such': No such file"):
            await run_command(["/no/such"], os.environ, "/")

    run(main())
    assert running_commands() == set()
