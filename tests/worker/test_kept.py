"""`ctx.state`: what is kept, what is undone, who waits for whom, what does not fit. SIGKILL: test_powers.py."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import duende
from duende.errors import StateError
from duende.worker import kept
from duende.worker.kept import KeptState


@pytest.fixture
def state(tmp_path: Path) -> Iterator[KeptState]:
    made = KeptState(str(tmp_path / "state.db"))
    yield made
    made.close()


def test_it_is_a_mapping_that_the_next_incarnation_finds(tmp_path: Path) -> None:
    first = KeptState(str(tmp_path / "s"))
    first["a"] = {"b": [1, None, "ü"]}
    first.update(gone=1, kept=2)
    del first["gone"]
    first.close()
    again = KeptState(str(tmp_path / "s"))
    assert dict(again) == {"a": {"b": [1, None, "ü"]}, "kept": 2}
    assert (len(again), again.get("gone", 7), "kept" in again) == (2, 7, True)
    with pytest.raises(KeyError):
        del again["gone"]
    again.close()


def test_a_block_stores_all_or_nothing_and_sees_its_own_changes(state: KeptState) -> None:
    state["a"] = 1
    with pytest.raises(ZeroDivisionError), state.transaction() as t:  # noqa: PT012 - the block is what is tested
        t["a"] = 2
        t["b"] = 3
        del t["a"]
        assert (dict(t), "a" in t, state.get("a"), state.get("b")) == ({"b": 3}, False, None, 3)
        raise ZeroDivisionError
    assert dict(state) == {"a": 1}
    with state.transaction() as t, state.transaction() as inner:
        inner["a"] = 5
        state["c"] = 6  # a plain assignment is part of the block that it stands in
        t["d"] = 7
    assert dict(state) == {"a": 5, "c": 6, "d": 7}


def test_coroutines_take_turns_and_lose_no_update(state: KeptState) -> None:
    async def add() -> None:
        for _ in range(5):
            async with state.transaction() as t:
                seen = t.get("n", 0)
                await asyncio.sleep(0)  # others run now, and must wait
                t["n"] = seen + 1

    async def main() -> None:
        await asyncio.gather(*(add() for _ in range(8)))

    asyncio.run(main())
    assert state["n"] == 40


def test_threads_and_coroutines_take_turns_together(state: KeptState) -> None:
    def add() -> None:
        for _ in range(10):
            with state.transaction() as t:
                t["n"] = t.get("n", 0) + 1

    async def add_async() -> None:
        for _ in range(10):
            async with state.transaction() as t:
                seen = t.get("n", 0)
                await asyncio.sleep(0)
                t["n"] = seen + 1

    async def main() -> None:
        threads = [threading.Thread(target=add) for _ in range(3)]
        for thread in threads:
            thread.start()
        await asyncio.gather(add_async(), add_async())
        await asyncio.to_thread(lambda: [thread.join() for thread in threads])

    asyncio.run(main())
    assert state["n"] == 50


def test_others_see_nothing_of_an_open_block(state: KeptState) -> None:
    state["a"] = 1
    seen: list[object] = []

    async def main() -> None:
        async with state.transaction() as t:
            t["a"] = 2
            seen.append(state["a"])  # ours
            seen.append(await asyncio.to_thread(lambda: state["a"]))

    asyncio.run(main())
    assert seen == [2, 1]
    assert state["a"] == 2


def test_an_assignment_that_would_wait_for_ever_is_refused(state: KeptState) -> None:
    async def other() -> None:
        with pytest.raises(StateError, match="another coroutine's transaction is open"):
            state["b"] = 1

    async def main() -> None:
        async with state.transaction() as t:
            await asyncio.create_task(other())
            t["a"] = 1

    asyncio.run(main())
    assert dict(state) == {"a": 1}


def test_a_coroutine_that_is_cancelled_gives_its_turn_back(state: KeptState) -> None:
    async def wait() -> None:
        async with state.transaction() as t:
            t["never"] = 1

    async def main() -> None:
        async with state.transaction() as t:
            waiting = [asyncio.create_task(wait()) for _ in range(3)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            t["a"] = 1
        state["b"] = 2

        async def hold() -> None:
            async with state.transaction() as t:
                t["undone"] = 1
                await asyncio.sleep(1000)

        holder = asyncio.create_task(hold())
        await asyncio.sleep(0)
        holder.cancel()
        await asyncio.wait([holder])
        state["c"] = 3

    asyncio.run(main())
    assert dict(state) == {"a": 1, "b": 2, "c": 3}


def test_a_turn_that_never_comes_is_an_error(state: KeptState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_TURN_S", 0.05)
    errors: list[str] = []

    def other() -> None:
        try:
            state["b"] = 1
        except StateError as error:
            errors.append(str(error))

    async def other_async() -> None:
        try:
            async with state.transaction():
                pass
        except StateError as error:
            errors.append(str(error))

    with state.transaction():
        for target in (other, lambda: asyncio.run(other_async())):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
    assert len(errors) == 2
    assert all("another transaction has been open for more than 0.05 s" in error for error in errors)
    state["b"] = 2


def test_what_is_too_large_or_no_json_is_refused_at_its_line(state: KeptState) -> None:
    with pytest.raises(StateError, match=r"cannot keep 'a': as JSON it has 1048577 bytes, and 1048576 are allowed"):
        state["a"] = "x" * (kept.VALUE_MAX_BYTES - 1)
    state["a"] = "x" * (kept.VALUE_MAX_BYTES - 2)
    with pytest.raises(StateError, match="a key may have 1024 bytes, this has 1025"):
        state["k" * 1025] = 1
    for value in (object(), {1, 2}, b"x"):
        with pytest.raises(TypeError, match="not JSON serializable"):
            state["b"] = value
    with pytest.raises(ValueError, match="not JSON compliant"):
        state["b"] = float("nan")
    with pytest.raises(TypeError, match="a key of the state is text, not 3"):
        state[3] = 1  # type: ignore[index]
    assert list(state) == ["a"]


def test_a_state_at_its_limit_says_so_and_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "FILE_MAX_BYTES", 256 * 1024)
    state = KeptState(str(tmp_path / "s"))
    state["a"] = "x" * 100_000
    with pytest.raises(StateError, match="the state may have 262144 bytes, delete keys; nothing of this transaction"):
        state.update(b="y" * 100_000, c="z" * 100_000, d="z" * 100_000)
    stored = sorted(state)
    assert state["a"] == "x" * 100_000
    with pytest.raises(StateError, match="delete keys"), state.transaction() as t:  # noqa: PT012
        t["small"] = 1
        t["large"] = "x" * 200_000
    assert sorted(state) == stored  # nothing of the block, also what would have fitted
    state.pop("a")
    state["again"] = "x" * 50_000
    state.close()


def test_a_disk_that_is_full_undoes_the_transaction_and_reading_goes_on(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
import duende
from duende.errors import StateError
from duende.worker.kept import KeptState
state = KeptState(sys.argv[1])
state["before"] = 1
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))  # stands for the disk
try:
    with state.transaction() as t:
        t["small"], t["large"] = 1, "x" * 500_000
except StateError as error:
    print(error)
print(dict(state))
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
state["after"] = 2
print(dict(state))
"""
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], capture_output=True, text=True, check=True)
    told, during, after = out.stdout.splitlines()
    assert "cannot use the state file" in told
    assert "nothing of this transaction is stored" in told
    assert (during, after) == ("{'before': 1}", "{'after': 2, 'before': 1}")


def test_a_file_that_is_no_state_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("this is not a database, and long enough to be seen as none" * 20)
    with pytest.raises(StateError, match=str(tmp_path / "s")):
        KeptState(str(tmp_path / "s"))


def test_in_the_foreground_it_is_in_the_users_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUENDE_STATE_DIR", str(tmp_path))

    class Counter(duende.Daemon):
        async def run(self, ctx: duende.DaemonContext) -> None:
            async with ctx.state.transaction() as t:
                t["lives"] = t.get("lives", 0) + 1
            child = ctx.supervise("child", self.child)
            await child.wait_ended()
            assert ctx.state["child"] == ctx.state["lives"]

        def child(self, ctx: duende.DaemonContext) -> None:
            with ctx.state.transaction() as t:  # the daemon's own
                t["child"] = t["lives"]

    assert [duende.run(Counter()), duende.run(Counter())] == [0, 0]
    state = KeptState(str(tmp_path / "foreground" / "daemons" / "Counter" / "state.db"))
    assert dict(state) == {"child": 2, "lives": 2}
    state.close()
    elsewhere = tmp_path / "elsewhere"
    assert duende.run(Counter(), state_dir=elsewhere) == 0
    assert (elsewhere / "state.db").exists()
    assert oct(elsewhere.stat().st_mode & 0o777) == "0o700"
