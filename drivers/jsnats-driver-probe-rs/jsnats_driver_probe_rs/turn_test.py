import asyncio
from contextlib import AsyncExitStack

import pytest

from . import turn
from .turn import Turn


async def test_commands_wait_for_each_other() -> None:
    """The second begins when the first has ended."""
    who, began = Turn(), asyncio.Event()

    async def second() -> None:
        async with who.command():
            began.set()

    async with who.command():
        task = asyncio.create_task(second())
        await asyncio.sleep(0)
        assert not began.is_set()
    await task


async def test_a_holder_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and other holders are refused, by name, until it has gone; refusing changes nothing."""
    monkeypatch.setattr(turn, "GOING_S", 0.02)
    who = Turn()
    async with who.held("gdb"):
        for other in (who.command(), who.held("attach"), who.command()):
            with pytest.raises(ConnectionError, match="gdb has the probe: end it first"):
                await other.__aenter__()
    async with who.command():
        pass
    async with who.held("attach"):
        pass


async def test_a_holder_that_is_about_to_go_is_waited_for() -> None:
    """A command that comes right behind the end of gdb is served."""
    who, stack = Turn(), AsyncExitStack()
    await stack.enter_async_context(who.held("gdb"))

    async def command() -> None:
        async with who.command():
            pass

    task = asyncio.create_task(command())
    await asyncio.sleep(0)
    await stack.aclose()
    await task


async def test_a_holder_that_gave_up_waiting_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """gdb that was cancelled behind a command leaves the probe to others."""
    monkeypatch.setattr(turn, "GOING_S", 0.02)
    who = Turn()
    async with who.command():
        waiting = asyncio.create_task(who.held("gdb").__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(ConnectionError, match="gdb has the probe"):  # not behind it for ever
            await who.command().__aenter__()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with who.command():
        pass
