"""Run a call: one result, or a stream of them, and what the driver raises instead."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

from jsnats.driver import Driver, Method, Node, caller, marker_sink, progress_sink
from jsnats.schemas import (
    CallError,
    DeadlineExceeded,
    DriverError,
    driver_error,
    encode,
    headers as h,
    sendable,
)
from jsnats.sdk import Bulk

from ._answers import Answers, error_answer
from ._audit import Audit, Bound
from ._bytes import Streams
from ._logs import LINE
from ._produce import produce_async, produce_sync
from ._publish import UNLIMITED, Publisher
from ._runner import Runner, runner_of
from ._service import MethodStats
from ._table import Answer, OpenCall

log = logging.getLogger("jsnats.agent")

ACCEPTED_S = 0.02
FRAMES = 16
"""Of a traceback, the nearest to the fault: a recursion has a thousand."""


class Executor:
    """Runs the calls of one exporter. `mark` writes a marker, for the method named beside it, into its consoles."""

    def __init__(
        self,
        exporter: str,
        nodes: dict[str, Node],
        answers: Answers,
        stats: dict[tuple[str, str], MethodStats],
        bulk: Bulk,
        audit: Audit,
    ) -> None:
        self.audit = audit
        self.exporter = exporter
        self.answers = answers
        self.connection = answers.connection
        self.stats = stats
        self.streams = Streams(exporter, answers, bulk)
        self.mark: Callable[[str, str], None] = lambda marker, where: None
        self.runners: dict[Driver, Runner] = {node.driver: runner_of(node.driver) for node in nodes.values()}

    def start(self, call: OpenCall, bound: Bound, deadline: float | None) -> None:
        """Begin a call with its arguments, as a task of its own; `deadline` is on the monotonic clock.

        Raises DeadlineExceeded when that has passed while the arguments were awaited.
        """
        if deadline is not None and deadline <= time.monotonic():
            raise DeadlineExceeded("its arguments were complete only after its deadline: it was not run")
        context = None  # create_task copies the current one
        if call.progress:
            context = contextvars.copy_context()
            context.run(progress_sink.set, self.answers.progress_sink(call))
        self.answers.table.add(call)
        call.task = asyncio.get_running_loop().create_task(self._run(call, bound, deadline), context=context)

    async def _run(self, call: OpenCall, bound: Bound, deadline: float | None) -> None:
        begin = time.perf_counter_ns()
        call.bound = bound
        caller.set(call.user)
        marker_sink.set(self.mark)
        if call.method.marker:
            self.mark(call.method.marker, f"{call.node.path}.{call.method.name}".lstrip("."))
        timer = None
        if deadline is not None:
            timer = asyncio.get_running_loop().call_later(
                deadline - time.monotonic(), call.cancel, DeadlineExceeded("cancelled: its deadline passed")
            )
        try:
            answer = await (self._stream if call.streams else self._unary)(call, bound)
        finally:
            if timer:
                timer.cancel()
        error = (answer[1] or {}).get(h.ERROR, "")
        self.stats[call.node.path, call.method.name].count(begin, error)
        self.audit.finished(call, bound, (time.perf_counter_ns() - begin) / 1e9, error.partition(":")[0])
        await self.answers.finish(call, answer)

    async def _unary(self, call: OpenCall, bound: Bound) -> Answer:
        try:
            if call.method.kind == "bytes":
                await self.streams.run(call, *bound)
                return encode(None, call.kind), None
            result = await self.runners[call.node.driver].call(call.method, *bound)
            return await self._result_answer(call, result)
        except asyncio.CancelledError:
            return error_answer(_cancelled(call), call.kind)
        except (Exception, SystemExit) as raised:  # noqa: BLE001 - the driver's, whatever it is; logged there
            return error_answer(self._raised(raised, call), call.kind)

    async def _result_answer(self, call: OpenCall, result: Any) -> Answer:
        body = encode(result, call.kind)
        if len(body) + 4096 < self.connection.max_payload:
            return body, None
        publisher = self._publisher(call, UNLIMITED)
        publisher.open()
        try:
            await publisher.send([result])
            await publisher.end("ok")
        finally:
            publisher.close()
        return b"", {h.PARTS: "1"}

    def _publisher(self, call: OpenCall, credit: int) -> Publisher:
        return Publisher(
            self.connection,
            call.user,
            self.exporter,
            call.id,
            call.kind,
            credit=credit,
            kept=call.detached,
            first_to=call.reply if call.streams and not call.detached else "",
        )

    # ------------------------------------------------------------------ streams

    async def _stream(self, call: OpenCall, bound: Bound) -> Answer:
        publisher = call.publisher = self._publisher(call, UNLIMITED if call.detached else 1)
        publisher.open()
        # Not at once: the first item goes to the caller too, and says the same.
        accepted = asyncio.get_running_loop().call_later(ACCEPTED_S, self._accepted, call)
        try:
            how, error = await self._produce(publisher, call, bound)
            await publisher.end(how, error)
            call.settled = publisher.whole
        except asyncio.CancelledError:
            error = _cancelled(call)
        except CallError as raised:  # the end could not be stored: the store is full
            error = self._raised(raised, call)
        finally:
            accepted.cancel()
            publisher.close()
        return error_answer(error, call.kind) if error else (b"", {h.INTERIM: "accepted"})

    def _accepted(self, call: OpenCall) -> None:
        self.connection.spawn(self.answers.interim(call, "accepted", {}))

    async def _produce(self, publisher: Publisher, call: OpenCall, bound: Bound) -> tuple[str, CallError | None]:
        args, kwargs = bound
        method = call.method
        try:
            if method.kind != "stream":
                await publisher.send([await self.runners[call.node.driver].call(method, args, kwargs)])
            elif method.is_async:
                await produce_async(_generator(call, method, bound), publisher)
            else:
                leave = self.runners[call.node.driver].leave
                await produce_sync(_generator(call, method, bound), publisher, method.name, leave)
        except asyncio.CancelledError:
            return "cancelled", _cancelled(call)
        except (Exception, SystemExit) as raised:  # noqa: BLE001 - the driver's, whatever it is; logged there
            return "error", self._raised(raised, call)
        return "ok", None

    def _raised(self, raised: BaseException, call: OpenCall) -> CallError:
        path, name = call.node.path, call.method.name
        error = driver_error(raised, path, name)
        if type(error) is DriverError and not isinstance(raised, DriverError):
            # Not chosen by the driver, so a fault in it. Its author reads its log, by `jsnats logs` too.
            logger = ".".join(filter(None, ("jsnats.driver", self.exporter, path)))
            logging.getLogger(logger).error("%s failed\n%s", name, _where(raised))
        elif isinstance(error, DriverError):
            where = f"{path}.{name}" if path else name
            # Half a character breaks whatever writes the log.
            log.warning("%s: %s failed: %s", self.exporter, where, sendable(error.message))
        return error


def _where(raised: BaseException) -> str:
    """The traceback from the driver's code on. A line of log holds it: its middle is left out if it is too long."""
    begin = raised.__traceback__
    while begin and begin.tb_frame.f_globals.get("__name__", "").startswith("jsnats.agent."):
        begin = begin.tb_next
    shown = raised.with_traceback(begin or raised.__traceback__)
    text = "".join(traceback.format_exception(shown, limit=-FRAMES)).rstrip()
    half = LINE // 2 - 100  # the other 200 are for the method's name
    return sendable(text if len(text) <= 2 * half else f"{text[:half]}\n...\n{text[-half:]}")


def _generator(call: OpenCall, method: Method, bound: Bound) -> Any:
    return getattr(call.node.driver, method.name)(*bound[0], **bound[1])


def _is_late(call: OpenCall) -> None:
    call.cancel(DeadlineExceeded("cancelled: its deadline passed"))


def _cancelled(call: OpenCall) -> CallError:
    where = {"path": call.node.path, "method": call.method.name}
    if not call.ending:
        return DriverError("the driver cancelled its own call", cause="CancelledError", **where)
    call.ending.path, call.ending.method = call.node.path, call.method.name
    return call.ending
