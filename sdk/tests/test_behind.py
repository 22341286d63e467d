"""Work in a thread behind its caller."""

from __future__ import annotations

import asyncio
import threading

import pytest

from jsnats.sdk._behind import Behind


async def test_pieces_run_in_turn() -> None:
    """One after the other, and the end waits for the last."""
    done: list[int] = []
    async with Behind() as behind:
        for number in range(5):
            await behind.run(done.append, number)
    assert done == [0, 1, 2, 3, 4]


async def test_an_error_of_a_piece_is_raised_by_what_comes_next() -> None:
    """By the next piece, or by the end; an error of the block itself goes first."""
    with pytest.raises(ZeroDivisionError):
        async with Behind() as behind:
            await behind.run(lambda: 1 // 0)
    with pytest.raises(KeyError):
        async with Behind() as behind:
            await behind.run(lambda: 1 // 0)
            raise KeyError


@pytest.mark.parametrize("waits", [False, True])
async def test_nothing_runs_behind_the_end_of_a_cancelled_block(waits: bool) -> None:
    """Wherever the block is cancelled, its end waits for the thread: the file that it writes to may be closed then."""
    begun, goes_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        goes_on.wait(10)
        done.set()

    async def block() -> None:
        async with Behind() as behind:
            await behind.run(work)
            await (behind.done() if waits else asyncio.Event().wait())

    running = asyncio.ensure_future(block())
    await asyncio.to_thread(begun.wait, 10)
    running.cancel()
    asyncio.get_running_loop().call_later(0.05, goes_on.set)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert done.is_set()
