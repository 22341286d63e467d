"""Where a driver's methods run: async ones on the loop, sync ones on the driver's own long-lived thread.

A device library is seldom thread-safe, so all sync methods of a driver share one thread, in order. Methods marked
`@export(parallel=True)` (abort, emergency off) each get a thread of their own. Threads are daemons: a method stuck
in a device call must not keep the agent from ending.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jsnats.driver import Driver, Method


@dataclass(slots=True)
class _Job:
    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    context: contextvars.Context
    name: str


class Worker:
    """One thread that runs jobs in order. It starts with the first one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.running = ""
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, name: str, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run `work()` on the thread, in the caller's context; the future is of the running loop."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._jobs.put(_Job(work, loop, future, contextvars.copy_context(), name))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()
        return future

    @property
    def started(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    def stop(self) -> None:
        """Let the thread end after what it is doing."""
        self._jobs.put(None)

    def _run(self) -> None:
        while job := self._jobs.get():
            if job.future.cancelled():
                continue
            self.running = job.name
            result, error = None, None
            try:
                result = job.context.run(job.work)
            except BaseException as raised:  # noqa: BLE001 - it is the caller's, whatever it is
                error = raised
            self.running = ""
            try:
                job.loop.call_soon_threadsafe(_settle, job.future, result, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            del job, result, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None and (isinstance(error, StopIteration) or not isinstance(error, Exception)):
        # A future cannot hold StopIteration, and SystemExit in a task would end the agent.
        told = RuntimeError(f"the method raised {type(error).__name__}")
        told.__cause__ = error  # where it was raised
        error = told
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _nothing() -> None:
    """A job that tells when the thread has come to it."""


class Runner:
    """Runs the methods of one driver, whoever exports it: two exporters that share one share its thread too.

    `left` is what goes on in threads that were left behind: a future that ends with the thread's work, and the name of
    the method that does it.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.left: dict[asyncio.Future[Any], str] = {}
        self._worker = Worker(f"driver-{type(driver).__name__}")

    def call(self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return an awaitable of the method's result."""
        bound = getattr(self.driver, method.name)
        if method.is_async:
            return bound(*args, **kwargs)
        worker = Worker(f"parallel-{method.name}") if method.parallel else self._worker
        future = worker.submit(method.name, lambda: bound(*args, **kwargs))
        if method.parallel:
            self.leave(worker.submit("", _nothing), method.name)
            worker.stop()
        return future

    def leave(self, ended: asyncio.Future[Any], name: str) -> None:
        """A thread of its own is in method `name` until the future ends."""
        self.left[ended] = name
        ended.add_done_callback(self.left.pop)

    def submit(self, method: Callable[..., Any], args: Any, kwargs: Any) -> asyncio.Future[Any]:
        """Run a sync method on the driver's thread: what `Driver.invoke` does."""
        return self._worker.submit(method.__name__, lambda: method(*args, **kwargs))

    async def settle(self, timeout_s: float) -> None:
        """Wait until no method is in a thread. One that does not come back in time is left behind in the driver's
        thread, and what is called next runs on a fresh one."""
        free = {self._worker.submit("", _nothing)} if self._worker.started else set()
        if waiting := free | self.left.keys():
            await asyncio.wait(waiting, timeout=timeout_s)
        self.leave_behind()

    def leave_behind(self) -> None:
        """If a method is in the driver's thread, go on without that thread."""
        if name := self._worker.running:
            self.leave(self._worker.submit("", _nothing), name)
            self.stop()

    async def lifecycle(self, name: str, timeout_s: float) -> None:
        """Run `reset` or `close`, sync or async. A thread that is stuck longer than `timeout_s` is left behind and
        the method runs on a fresh one, so that teardown always happens. Raises what the method raises."""
        if getattr(type(self.driver), name) is getattr(Driver, name):
            return  # not overridden: no thread is started for nothing
        await self.settle(timeout_s)
        method = getattr(self.driver, name)
        result = method() if inspect.iscoroutinefunction(method) else await self._worker.submit(name, method)
        if inspect.isawaitable(result):
            await result

    def stop(self) -> None:
        """End the thread; a later call starts another."""
        self._worker.stop()
        self._worker = Worker(self._worker.name)


def runner_of(driver: Driver) -> Runner:
    """The one runner of a driver in this process, kept with it."""
    kept = vars(driver)
    if "_runner" not in kept:
        kept["_runner"] = Runner(driver)
    runner: Runner = kept["_runner"]
    return runner
