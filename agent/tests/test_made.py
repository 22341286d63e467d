"""What a thread makes belongs to somebody, whoever waits for it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from jsnats.agent._made import made_in_thread


async def test_what_was_made_is_handed_over() -> None:
    """And an error of making it is raised."""
    released: list[int] = []
    assert await made_in_thread(lambda value: value + 1, 1, release=released.append) == 2
    with pytest.raises(ZeroDivisionError):
        await made_in_thread(lambda: 1 // 0, release=released.append)
    assert released == []


@pytest.mark.parametrize("fails", [False, True])
async def test_what_nobody_waits_for_is_released(fails: bool) -> None:
    """A call that is cancelled while its file is opened leaves none open; an error then is nobody's."""
    begun, goes_on = threading.Event(), threading.Event()
    released: asyncio.Queue[str] = asyncio.Queue()

    def make() -> str:
        begun.set()
        goes_on.wait(10)
        if fails:
            raise OSError("the disk is full")
        return "a file"

    call = asyncio.ensure_future(made_in_thread(make, release=released.put_nowait))
    await asyncio.to_thread(begun.wait, 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    goes_on.set()
    if not fails:
        assert await asyncio.wait_for(released.get(), 10) == "a file"
