"""DaemonContext: the same waits in coroutines and in blocking code, and none that shutdown does not end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from duende.config.daemon import DaemonConfig
from duende.model.signals import Signal
from duende.worker.context import DaemonContext


@pytest.fixture
def ctx() -> DaemonContext:
    return DaemonContext(DaemonConfig(name="web"))


def _in_thread(call) -> tuple[threading.Thread, list[object]]:
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


def test_signals_are_taken_in_order_and_only_once(ctx):
    for signal in (Signal.HUP, Signal.USR1, Signal.USR2):
        ctx.deliver(signal)
    assert [ctx.try_recv_signal() for _ in range(4)] == [Signal.HUP, Signal.USR1, Signal.USR2, None]
    assert not ctx.should_shutdown


@pytest.mark.parametrize("signal", [Signal.TERM, Signal.INT, Signal.QUIT])
def test_a_stopping_signal_is_received_and_then_nothing_waits_any_more(ctx, signal):
    ctx.deliver(signal)
    assert ctx.should_shutdown
    assert ctx.recv_signal() is signal
    assert ctx.recv_signal() is None
    assert ctx.wait_shutdown() is True
    assert ctx.sleep(1000) is None


@pytest.mark.parametrize("signal", [Signal.KILL, Signal.STOP, Signal.CONT])
def test_what_only_the_kernel_acts_on_is_refused(ctx, signal):
    with pytest.raises(ValueError, match="can't be delivered"):
        ctx.deliver(signal)


def test_blocking_waits_return_on_delivery(ctx):
    waits = [_in_thread(lambda: ctx.wait_shutdown(20)), _in_thread(lambda: ctx.sleep(20))]
    receiver, received = _in_thread(lambda: ctx.recv_signal(20))
    ctx.deliver(Signal.USR1)
    receiver.join(10)
    assert received == [Signal.USR1]
    ctx.deliver(Signal.TERM)
    for thread, _ in waits:
        thread.join(10)
        assert not thread.is_alive()
    assert waits[0][1] == [True]


def test_timeouts(ctx):
    assert ctx.recv_signal(0.01) is None
    assert ctx.recv_signal(0) is None
    assert ctx.wait_shutdown(0.01) is False
    assert ctx.sleep(-1) is None

    async def in_loop() -> list[object]:
        return [
            await ctx.recv_signal(0.01),
            await ctx.recv_signal(0),
            await ctx.wait_shutdown(0.01),
            await ctx.sleep(0.01),
        ]

    assert asyncio.run(in_loop()) == [None, None, False, None]


def test_coroutines_wait_and_a_thread_they_start_blocks(ctx):
    async def main() -> list[object]:
        waits = [
            asyncio.create_task(ctx.recv_signal()),
            asyncio.create_task(ctx.wait_shutdown()),
            asyncio.create_task(ctx.sleep(1000)),
            asyncio.create_task(asyncio.to_thread(ctx.wait_shutdown, 20)),
        ]
        await asyncio.sleep(0)
        ctx.deliver(Signal.TERM)
        return await asyncio.wait_for(asyncio.gather(*waits), 10)

    assert asyncio.run(main()) == [Signal.TERM, True, None, True]


def test_of_two_receivers_one_gets_the_signal_and_the_other_goes_on_waiting(ctx):
    async def main() -> None:
        waits = [asyncio.create_task(ctx.recv_signal()) for _ in range(2)]
        await asyncio.sleep(0)
        ctx.deliver(Signal.HUP)
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        assert [task.result() for task in done] == [Signal.HUP]
        ctx.deliver(Signal.TERM)
        assert await asyncio.wait_for(pending.pop(), 10) is Signal.TERM

    asyncio.run(main())


def test_a_cancelled_wait_leaves_nothing_behind_and_takes_no_signal(ctx):
    async def main() -> None:
        wait = asyncio.create_task(ctx.recv_signal(1000))
        await asyncio.sleep(0)
        wait.cancel()
        await asyncio.gather(wait, return_exceptions=True)
        assert not ctx._waiters
        ctx.deliver(Signal.HUP)
        assert ctx.try_recv_signal() is Signal.HUP

    asyncio.run(main())


def test_delivery_to_a_loop_that_has_ended_is_harmless(ctx):
    loop = asyncio.new_event_loop()
    wait = ctx._suspend(ctx._poll_signal, None, None)

    async def leave_waiting() -> None:
        ctx._waiters.add(loop.create_future())

    loop.run_until_complete(leave_waiting())
    loop.close()
    wait.close()
    ctx.deliver(Signal.HUP)
    assert ctx.try_recv_signal() is Signal.HUP


def test_an_unread_queue_is_bounded_and_forgets_no_kind(ctx):
    ctx.deliver(Signal.USR1)
    for _ in range(1000):
        ctx.deliver(Signal.HUP)
    ctx.deliver(Signal.TERM)
    taken = list(iter(ctx.try_recv_signal, None))
    assert len(taken) == 60
    assert taken[0] is Signal.USR1
    assert taken[-1] is Signal.TERM


def test_a_loop_that_ignores_shutdown_lets_others_run(ctx):
    async def main() -> bool:
        async def ignores() -> None:
            while True:
                await ctx.recv_signal()

        ctx.deliver(Signal.TERM)
        task = asyncio.create_task(ignores())
        await asyncio.sleep(0.01)  # the others: it comes back although that one is always ready to go on
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return True

    assert asyncio.run(main())
