from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType

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
