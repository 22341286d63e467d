"""What happens to a call between its arrival and its answer.

The subscription's callback checks and starts; it never awaits a driver, so a long call does not hold up the abort
that should end it. Each call is a task of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import difflib
import logging
import re
import secrets
import time
from collections.abc import Iterable
from typing import Any

from jsnats.driver import Driver, Method, Node, progress_sink
from jsnats.schemas import (
    JSON,
    MSGPACK,
    Busy,
    CallCancelled,
    CallError,
    DeadlineExceeded,
    DriverError,
    InvalidArgument,
    MethodNotFound,
    OutcomeUnknown,
    ProtocolError,
    TooLarge,
    VersionMismatch,
    check_request,
    content_type,
    decode,
    driver_error,
    encode,
    error_to_wire,
    headers as h,
    parse_call,
)
from jsnats.sdk import Connection, Disconnected, Message

from ._admission import Admission
from ._produce import produce_async, produce_sync
from ._publish import UNLIMITED, Publisher
from ._runner import MAX_RUNNING, Runner
from ._service import Service
from ._table import Answer, CallTable, OpenCall

log = logging.getLogger("jsnats.agent")

STILL_S = 5.0
"""A call whose caller wants progress says at least that often that it is still working."""
PROGRESS_S = 0.2
"""Progress a driver reports is sent on at most that often."""
CALLER_GONE_S = 4.0
"""A stream whose reader has been silent for so long is stopped."""
RECONNECT_GRACE_S = 10.0
MAX_ARGUMENTS = 64 << 20
MAX_PARTS = 4096
_CALL_ID = re.compile(r"[0-9a-f]{32}")


class Dispatcher:
    """Calls of one exporter. `nodes` is its tree by path."""

    def __init__(
        self,
        connection: Connection,
        exporter: str,
        instance: str,
        nodes: dict[str, Node],
        admission: Admission,
        service: Service,
        *,
        auth: bool = True,
    ) -> None:
        self.connection = connection
        self.exporter = exporter
        self.instance = instance
        self.nodes = nodes
        self.admission = admission
        self.service = service
        self.auth = auth
        self.table = CallTable()
        self.runners: dict[Driver, Runner] = {node.driver: Runner(node.driver) for node in nodes.values()}
        self._since = time.monotonic()
        self._pending: dict[str, tuple[OpenCall, Node, Method, float | None]] = {}

    # ------------------------------------------------------------------ arrival

    async def on_call(self, message: Message) -> None:
        """Callback of the call subscription."""
        try:
            subject = parse_call(message.subject)
            if self.auth:
                check_request(message.reply, subject.user, message.headers)
        except ProtocolError as error:
            # No answer: the reply subject is somebody else's.
            log.warning("%s: ignored a message on %s: %s", self.exporter, message.subject[:120], error)
            return
        kind = JSON
        try:
            kind = content_type(message.headers)
            await self._accept(subject.user, subject.path, subject.method, message, kind)
        except (CallError, ProtocolError) as raised:
            refusal = raised if isinstance(raised, CallError) else InvalidArgument(str(raised))
            refusal.path, refusal.method = refusal.path or subject.path, refusal.method or subject.method
            await self.reply(message.reply, self._error_answer(refusal, kind))

    async def _accept(self, user: str, path: str, name: str, message: Message, kind: str) -> None:
        headers = message.headers or {}
        call_id = self._call_id(headers)
        known = self.table.get(user, call_id)
        if known:
            await self.attach(known, message.reply)
            return
        self._check_retry(headers)
        remaining = self._remaining(headers)
        node, method = self._find(path, name)
        self.admission.check(user, headers.get(h.EPOCH))
        if self.runners[node.driver].open >= MAX_RUNNING:
            raise Busy(f"{MAX_RUNNING} calls are already open on this driver: try again when some have ended")
        call = OpenCall(user, call_id, message.reply, kind)
        call.path_method = path, name
        call.progress, call.detached = h.PROGRESS in headers, h.DETACH in headers
        if h.PARTS in headers:
            await self._expect_parts(call, node, method, remaining, headers[h.PARTS])
        else:
            self._start(call, node, method, _bind(method, message.data, kind), remaining)

    def _call_id(self, headers: Any) -> str:
        version = headers.get(h.VERSION)
        if version is not None and version != h.PROTOCOL:
            side = "the exporter" if version > h.PROTOCOL else "the client"
            raise VersionMismatch(f"client speaks protocol {version[:8]}, exporter {h.PROTOCOL}: upgrade {side}")
        call_id: str = headers.get(h.CALL) or secrets.token_hex(16)
        if not _CALL_ID.fullmatch(call_id):
            raise InvalidArgument(f"{h.CALL} is 32 lower-case hex digits")
        return call_id

    def _check_retry(self, headers: Any) -> None:
        retry = headers.get(h.RETRY)
        if retry is None:
            return
        instance, _, age = retry.partition(" ")
        if not age.isdigit():
            raise InvalidArgument(f"{h.RETRY} is an instance and an age in milliseconds")
        # The name is exclusive: whatever was sent after we took it can only have reached us.
        if instance != self.instance and int(age) / 1000 + 1.0 > time.monotonic() - self._since:
            raise OutcomeUnknown("the agent was restarted since the call was sent: it may have run")
        if self.table.may_have_run(int(age) / 1000):
            raise OutcomeUnknown("the call was sent too long ago: it may have run, its answer is no longer kept")

    @staticmethod
    def _remaining(headers: Any) -> float | None:
        deadline = headers.get(h.DEADLINE)
        if deadline is None:
            return None
        if not deadline.isdigit():
            raise InvalidArgument(f"{h.DEADLINE} is Unix time in milliseconds")
        remaining = int(deadline) / 1000 - time.time()
        if remaining <= 0:
            raise DeadlineExceeded(f"arrived {-remaining:.3f} s after its deadline and was not run")
        return remaining

    def _find(self, path: str, name: str) -> tuple[Node, Method]:
        node = self.nodes.get(path)
        if node is None:
            raise MethodNotFound(f"exporter {self.exporter!r} has no driver {path!r}{_near(path, self.nodes)}")
        method = node.methods.get(name)
        if method is None:
            raise MethodNotFound(f"no exported method {name!r}: there is {', '.join(node.methods) or 'none'}{_near(name, node.methods)}")
        if method.kind == "bytes":
            raise InvalidArgument("this method is a byte stream and cannot be called")
        return node, method

    # ------------------------------------------------------------------ arguments in parts

    async def _expect_parts(self, call: OpenCall, node: Node, method: Method, remaining: float | None, count: str) -> None:
        if not count.isdigit() or not 0 < int(count) <= MAX_PARTS:
            raise InvalidArgument(f"{h.PARTS} is a number from 1 to {MAX_PARTS}")
        call.parts_expected = int(count)
        self.table.add(call)
        self._pending[call.id] = call, node, method, remaining
        await self.interim(call, "parts", {"have": 0})

    async def add_part(self, call: OpenCall, position: str, body: bytes) -> int:
        """Take one part of the arguments; the last one starts the call. Return how many are there."""
        if position == f"{len(call.parts)}/{call.parts_expected}" and call.id in self._pending:
            call.parts.append(body)
            if sum(map(len, call.parts)) > MAX_ARGUMENTS:
                await self._refuse_parts(call, TooLarge(f"arguments are over the limit of {MAX_ARGUMENTS >> 20} MiB"))
            elif len(call.parts) == call.parts_expected:
                await self._start_from_parts(call)
        return len(call.parts)

    async def _start_from_parts(self, call: OpenCall) -> None:
        _, node, method, remaining = self._pending.pop(call.id)
        body, call.parts = b"".join(call.parts), []
        call.parts_expected = 0
        try:
            self._start(call, node, method, _bind(method, body, call.kind), remaining)
        except (CallError, ProtocolError) as raised:
            await self._refuse_parts(call, raised if isinstance(raised, CallError) else InvalidArgument(str(raised)))

    async def _refuse_parts(self, call: OpenCall, error: CallError) -> None:
        self._pending.pop(call.id, None)
        call.parts_expected = 0
        error.path, error.method = call.path_method
        await self._finish(call, self._error_answer(error, call.kind))

    # ------------------------------------------------------------------ running

    def _start(self, call: OpenCall, node: Node, method: Method, bound: Any, remaining: float | None) -> None:
        work = self._stream if method.kind == "stream" or call.detached else self._unary
        context = contextvars.copy_context()
        if call.progress:
            context.run(progress_sink.set, self._progress_sink(call))
        self.table.add(call)
        call.task = asyncio.get_running_loop().create_task(
            self._run(work, call, node, method, bound, remaining), context=context
        )

    async def _run(self, work: Any, call: OpenCall, node: Node, method: Method, bound: Any, remaining: float | None) -> None:
        runner = self.runners[node.driver]
        begin = time.perf_counter_ns()
        timer = None
        if remaining is not None:
            timer = asyncio.get_running_loop().call_later(remaining, call.cancel, "its deadline passed")
        runner.open += 1
        try:
            answer = await work(call, node, method, *bound)
        finally:
            runner.open -= 1
            if timer:
                timer.cancel()
        self.service.stats[node.path, method.name].count(begin, (answer[1] or {}).get(h.ERROR, ""))
        await self._finish(call, answer)

    async def _unary(self, call: OpenCall, node: Node, method: Method, args: Any, kwargs: Any) -> Answer:
        try:
            result = await self.runners[node.driver].call(method, args, kwargs)
            return await self._result_answer(call, result)
        except asyncio.CancelledError:
            error = _cancelled(call)
        except (Exception, SystemExit) as raised:  # the driver's, whatever it is
            error = self._driver_error(raised, node, method)
        error.path, error.method = node.path, method.name
        return self._error_answer(error, call.kind)

    async def _result_answer(self, call: OpenCall, result: Any) -> Answer:
        body = encode(result, call.kind)
        if len(body) + 4096 < self.connection.max_payload:
            return body, None
        publisher = Publisher(self.connection, call.user, self.exporter, call.id, call.kind, credit=UNLIMITED)
        await publisher.open()
        try:
            await publisher.send([result])
            await publisher.end("ok")
        finally:
            await publisher.close()
        return b"", {h.PARTS: "1"}

    async def _stream(self, call: OpenCall, node: Node, method: Method, args: Any, kwargs: Any) -> Answer:
        credit = UNLIMITED if call.detached else 1
        publisher = Publisher(
            self.connection, call.user, self.exporter, call.id, call.kind, credit=credit, kept=call.detached
        )
        call.publisher = publisher
        await publisher.open()
        try:
            await self.interim(call, "accepted", {})
            how, error = await self._produce(publisher, call, node, method, args, kwargs)
            await publisher.end(how, error)
        except asyncio.CancelledError:
            error = _cancelled(call)
        except CallError as raised:  # the end could not be stored: the store is full
            error = raised
        finally:
            await publisher.close()
        if error is None:
            return b"", {h.INTERIM: "accepted"}
        error.path, error.method = node.path, method.name
        return self._error_answer(error, call.kind)

    async def _produce(
        self, publisher: Publisher, call: OpenCall, node: Node, method: Method, args: Any, kwargs: Any
    ) -> tuple[str, CallError | None]:
        try:
            if method.kind != "stream":
                await publisher.send([await self.runners[node.driver].call(method, args, kwargs)])
            elif method.is_async:
                await produce_async(getattr(node.driver, method.name)(*args, **kwargs), publisher)
            else:
                await produce_sync(getattr(node.driver, method.name)(*args, **kwargs), publisher, method.name)
        except asyncio.CancelledError:
            return "cancelled", _cancelled(call)
        except (Exception, SystemExit) as raised:  # the driver's, whatever it is
            return "error", self._driver_error(raised, node, method)
        return "ok", None

    def _driver_error(self, raised: BaseException, node: Node, method: Method) -> CallError:
        error = driver_error(raised, node.path, method.name)
        if isinstance(error, DriverError):
            log.warning("%s: %s raised %s: %s", self.exporter, f"{node.path}.{method.name}", type(raised).__name__, raised)
            log.debug("raised by the driver", exc_info=raised)
        return error

    def cancel(self, call: OpenCall, reason: str) -> None:
        """End a call; its caller gets CallCancelled with the reason."""
        if call.id in self._pending:
            self._pending.pop(call.id)
            self.table.remove(call)
        call.cancel(reason)

    # ------------------------------------------------------------------ answers

    def _error_answer(self, error: CallError, kind: str) -> Answer:
        code, body = error_to_wire(error)
        text = f"{type(error).__name__}: {error.message}".replace("\n", " ").replace("\r", " ")
        return encode(body, kind), {h.ERROR: text[:400], h.ERROR_CODE: str(code), h.CONTENT_TYPE: kind}

    async def _finish(self, call: OpenCall, answer: Answer) -> None:
        self.table.finish(call, answer)
        await self.reply(call.reply, answer)

    async def reply(self, subject: str, answer: Answer) -> None:
        """Send an answer; without a connection it is kept for the caller to ask for."""
        if not subject:
            return
        try:
            await self.connection.publish(subject, answer[0], headers=answer[1])
        except Disconnected:
            log.debug("answer kept: not connected")

    async def interim(self, call: OpenCall, what: str, content: dict[str, Any]) -> None:
        """Tell the caller something before the answer."""
        headers = {h.INTERIM: what, h.CONTENT_TYPE: call.kind}
        await self.reply(call.reply, (encode({"instance": self.instance, **content}, call.kind), headers))

    async def attach(self, call: OpenCall, reply: str) -> None:
        """A caller asks again for a call we know: from now on the answer goes there."""
        call.reply, call.heard = reply, time.monotonic()
        if call.answer:
            await self.reply(reply, call.answer)
        elif call.state == "parts":
            await self.interim(call, "parts", {"have": len(call.parts)})
        elif call.publisher:
            await self.interim(call, "accepted", {})

    def _progress_sink(self, call: OpenCall) -> Any:
        loop, sent_at = asyncio.get_running_loop(), 0.0

        def send(content: dict[str, Any]) -> None:
            if not call.answer:
                self.connection.spawn(self.interim(call, "progress", content))

        def sink(done: float, total: float | None, message: str) -> None:
            nonlocal sent_at
            now = time.monotonic()
            if now - sent_at >= PROGRESS_S or done == total:
                sent_at = now
                loop.call_soon_threadsafe(send, {"done": done, "total": total, "message": message})

        return sink

    # ------------------------------------------------------------------ looking after what runs

    async def look_after(self) -> None:
        """Runs as long as the exporter: ends streams nobody reads, says "still working"."""
        while True:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            back = asyncio.get_running_loop().time() - self.connection.reconnected_at
            settled = self.connection.connected.is_set() and back > RECONNECT_GRACE_S
            for call in self.table.running():
                if call.progress and (now - call.arrived) % STILL_S < 0.5:
                    await self.interim(call, "progress", {"elapsed": now - call.arrived})
                waits = call.state == "parts" or (call.publisher and not call.detached)
                if waits and settled and now - call.heard > CALLER_GONE_S:
                    self.cancel(call, "its caller is gone")

    async def cancel_all(self, reason: str, timeout_s: float) -> None:
        """Cancel every call and wait for those that end."""
        tasks = {call.task for call in self.table.running() if call.task}
        for call in self.table.running():
            self.cancel(call, reason)
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)


def _bind(method: Method, body: bytes, kind: str) -> Any:
    if kind == MSGPACK:
        return method.bind(decode(body, MSGPACK))
    return method.bind_json(body)


def _cancelled(call: OpenCall) -> CallError:
    if not call.reason:
        return DriverError("the driver cancelled its own call", cause="CancelledError")
    if "deadline" in call.reason:
        return DeadlineExceeded(f"cancelled: {call.reason}")
    return CallCancelled(f"cancelled: {call.reason}")




def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
