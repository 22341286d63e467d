"""The event loop behind the sync API: one daemon thread for the whole process.

A sync call costs one hop to that thread and one back. Waiting in it is interruptible: Ctrl-C cancels the call.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

CANCEL_S = 1.0
"""How long Ctrl-C waits for what it has cancelled."""
WAKE_S = 0.5
"""A thread that waits for a coroutine looks up so often: a signal that comes while it is about to wait, Ctrl-C or a
SIGTERM, would not be seen before the wait ends."""

_lock = threading.Lock()
_shared: Bridge | None = None


class Bridge:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="jsnats-loop", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    @property
    def alive(self) -> bool:
        """Whether anything can still run: not when the interpreter is ending."""
        return self._thread.is_alive()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result. Raises RuntimeError when called from that loop."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a sync call inside the event loop would wait for itself: use the ..._async twin")
        future: Future[T] | None = None
        try:
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
            while True:
                try:
                    return future.result(WAKE_S)
                except TimeoutError:
                    if future.done():
                        return future.result()  # or raise the coroutine's own
        except BaseException:
            # Ctrl-C, not what the coroutine itself raised. It may run already where we do not have the future yet.
            if future is None or future.cancel():
                ended = asyncio.run_coroutine_threadsafe(_end(work, cancel=future is None), self.loop)
                with suppress(TimeoutError):
                    ended.result(CANCEL_S)  # it may still have to tell the exporter
            raise

    def stop(self) -> None:
        """Cancel what still runs and stop the loop; at exit."""
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self.loop)
        self._thread.join(2.0)

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=1.0)
        self.loop.stop()


async def _end(work: Coroutine[Any, Any, Any], *, cancel: bool) -> None:
    tasks = {task for task in asyncio.all_tasks() if task.get_coro() is work}
    for task in tasks if cancel else ():  # once: a second time would meet what it does to clean up
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    work.close()  # it may never have begun


def shared_bridge() -> Bridge:
    """The loop of this process, started at first use."""
    global _shared
    with _lock:
        if _shared is None:
            _shared = Bridge()
            atexit.register(_shared.stop)
        return _shared
