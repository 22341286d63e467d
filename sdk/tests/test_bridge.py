from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType
from typing import Any

import pytest

from jsnats.sdk import shared_bridge


class Told(Exception):
    """The signal was handled."""


def test_a_signal_ends_the_wait_whichever_thread_it_meets() -> None:
    """A signal that does not wake the waiting thread, because it came just before or met another, is handled soon."""

    def tell(number: int, frame: FrameType | None) -> None:
        raise Told

    async def wait() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)  # the loop's thread, not the one that waits
        await asyncio.Event().wait()

    before = signal.signal(signal.SIGUSR1, tell)
    try:
        with pytest.raises(Told):
            shared_bridge().run(wait())
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_timeout_of_the_work_is_raised() -> None:
    """A coroutine that raises TimeoutError does not look like one that is still running."""

    async def late() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        shared_bridge().run(late())


def test_ctrl_c_before_the_wait_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the moment between the start of the work and the wait for it: the work is cancelled all the same."""
    cancelled = threading.Event()
    submit = asyncio.run_coroutine_threadsafe

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def interrupted(coroutine: Any, loop: asyncio.AbstractEventLoop) -> None:
        monkeypatch.undo()
        submit(coroutine, loop)
        raise KeyboardInterrupt

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shared_bridge().run(work())
    assert cancelled.is_set()
