"""What happens to a call between its arrival and its start.

The subscription's callback checks and starts; it awaits nothing, so a long call does not hold up the abort that should
end it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from jsnats.driver import Method, Node
from jsnats.schemas import (
    JSON,
    MSGPACK,
    Busy,
    CallCancelled,
    CallError,
    CallSubject,
    InvalidArgument,
    ProtocolError,
    TooLarge,
    check_request,
    content_type,
    decode,
    driver_error,
    headers as h,
    is_visitor,
    parse_call,
)
from jsnats.sdk import Bulk, Connection, Message

from ._answers import Answers, error_answer
from ._audit import Audit
from ._checks import call_id, check_retry, deadline_at, find, number, window_of
from ._execute import Executor
from ._lease import Admission, Behind
from ._service import Service
from ._table import CallTable, OpenCall

log = logging.getLogger("jsnats.agent")

LOOK_S = 0.5
CALLER_GONE_S = 4.0
"""A stream whose reader, or arguments whose sender, has been silent for so long is given up."""
CALLER_ELSEWHERE_S = 20.0
"""The same in a cluster, or by a hub, where a caller's server may be silent or cut off, and ours does not know."""
RECONNECT_GRACE_S = 10.0
MAX_ARGUMENTS = 64 << 20
MAX_PARTS = 4096
MAX_RUNNING = 64
"""Calls that may be open on one driver at once."""
MAX_STREAMS = 512
"""Two-way streams, each a connection through a port forward, that may be open on one driver at once."""


class Dispatcher:
    """Calls of one exporter. `nodes` is its tree by path; `auth` says that the broker pins user names; `look_up` is
    how the newest lease is read when a caller knows more of it than the admission."""

    def __init__(
        self,
        connection: Connection,
        bulk: Bulk,
        exporter: str,
        instance: str,
        nodes: dict[str, Node],
        admission: Admission,
        service: Service,
        audit: Audit,
        *,
        auth: bool = True,
    ) -> None:
        self.connection = connection
        self.exporter = exporter
        self.nodes = nodes
        self.admission = admission
        self.auth = auth
        self.table = CallTable()
        self.answers = Answers(connection, instance, self.table)
        self.executor = Executor(exporter, nodes, self.answers, service.stats, bulk, audit)
        self.look_up: Callable[[], Awaitable[None]] = _nothing_newer
        self._since = time.monotonic()
        self._awaited: dict[OpenCall, float | None] = {}

    def on_call(self, message: Message, last: bool = False) -> None:
        """Listener of the call subscription: in the read loop, so that a `cancel` never overtakes its call.

        Only a call under a lease that is not known here waits, until that was looked up; then it comes a `last` time.
        """
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
            self._accept(subject, message, kind, last)
        except Behind:
            self.connection.spawn(self._ask_again(message))
        except (CallError, ProtocolError) as raised:
            refusal = raised if isinstance(raised, CallError) else InvalidArgument(str(raised))
            refusal.path, refusal.method = refusal.path or subject.path, refusal.method or subject.method
            self.connection.spawn(self.answers.reply(message.reply, error_answer(refusal, kind)))
        except Exception as raised:  # a validator of the driver's: unanswered, the caller would ask for ever
            log.exception("%s: %s", self.exporter, message.subject[:120])
            refusal = driver_error(raised, subject.path, subject.method)
            self.connection.spawn(self.answers.reply(message.reply, error_answer(refusal, kind)))

    async def _ask_again(self, message: Message) -> None:
        await self.look_up()
        self.on_call(message, last=True)

    def _accept(self, subject: CallSubject, message: Message, kind: str, last: bool) -> None:
        user, path, name = subject.user, subject.path, subject.method
        headers = message.headers or {}
        id_ = call_id(headers)
        known = self.table.get(user, id_)
        if known:
            self.connection.spawn(self.answers.again(known, message.reply))
            return
        check_retry(headers, self.answers.instance, self._since, self.table)
        deadline = deadline_at(headers)
        node, method = find(self.nodes, path, name)
        self.admission.check(user, headers.get(h.EPOCH), last=last)
        what, limit = ("streams", MAX_STREAMS) if method.kind == "bytes" else ("calls", MAX_RUNNING)
        if self.table.open[node.driver, method.kind == "bytes"] >= limit:
            raise Busy(f"{limit} {what} are already open on this driver: try again when some have ended")
        call = OpenCall(user, id_, message.reply, kind, node, method)
        call.progress, call.detached = h.PROGRESS in headers, h.DETACH in headers
        call.window = window_of(headers, method)
        if h.PARTS in headers:
            self._await_parts(call, deadline, number(headers[h.PARTS], h.PARTS))
        else:
            self.executor.start(call, _bind(method, message.data, kind), deadline)

    # ------------------------------------------------------------------ arguments in parts

    def _await_parts(self, call: OpenCall, deadline: float | None, count: int) -> None:
        if not 0 < count <= MAX_PARTS:
            raise InvalidArgument(f"{h.PARTS} is a number from 1 to {MAX_PARTS}")
        call.parts_expected = count
        self.table.add(call)
        self._awaited[call] = deadline
        self.connection.spawn(self.answers.interim(call, "parts", {"have": 0}))

    def add_part(self, call: OpenCall, position: str, body: bytes) -> None:
        """Take the next part of the arguments; any other is ignored. The last one starts the call."""
        if position != f"{len(call.parts)}/{call.parts_expected}" or call not in self._awaited:
            return
        call.parts.append(body)
        if sum(map(len, call.parts)) > MAX_ARGUMENTS:
            self._refuse(call, TooLarge(f"arguments are over the limit of {MAX_ARGUMENTS >> 20} MiB"))
        elif len(call.parts) == call.parts_expected:
            self._start_from_parts(call)

    def _start_from_parts(self, call: OpenCall) -> None:
        deadline = self._awaited.pop(call)
        body, call.parts, call.parts_expected = b"".join(call.parts), [], 0
        try:
            self.executor.start(call, _bind(call.method, body, call.kind), deadline)
        except (CallError, ProtocolError) as raised:
            self._refuse(call, raised if isinstance(raised, CallError) else InvalidArgument(str(raised)))

    def _refuse(self, call: OpenCall, error: CallError) -> None:
        self._awaited.pop(call, None)
        call.parts_expected = 0
        error.path, error.method = call.node.path, call.method.name
        self.connection.spawn(self.answers.finish(call, error_answer(error, call.kind)))

    # ------------------------------------------------------------------ ending

    def cancel(self, call: OpenCall, reason: str) -> None:
        """End a call; its caller is told the reason."""
        if call in self._awaited:
            del self._awaited[call]
            self.table.remove(call)
        call.cancel(CallCancelled(f"cancelled: {reason}"))

    def end_calls(
        self, ending: Callable[[], CallError], spared: Callable[[str], bool] = lambda user: False
    ) -> set[asyncio.Task[None]]:
        """Cancel the calls of all users but those `spared`, whose callers are told `ending`; return the tasks that end
        with them."""
        ended = [call for call in self.table.running() if not spared(call.user)]
        tasks = {call.task for call in ended if call.task}
        for call in ended:
            if call in self._awaited:
                self._refuse(call, ending())
            else:
                call.cancel(ending())
        return tasks

    async def cancel_all(self, reason: str, timeout_s: float) -> None:
        """Cancel every call and wait for those that end."""
        if tasks := self.end_calls(lambda: CallCancelled(f"cancelled: {reason}")):
            await asyncio.wait(tasks, timeout=timeout_s)

    def still_running(self) -> dict[asyncio.Future[Any], str]:
        """The methods, by path, of the calls that were told to end and do not, each with its task."""
        return {
            call.task: f"{call.node.path}.{call.method.name}".lstrip(".")
            for call in self.table.running()
            if call.task and call.ending
        }

    async def look_after(self) -> None:
        """Runs as long as the exporter: gives up what nobody waits for, says "still working"."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
            except Exception:
                log.exception("%s: looking after the open calls", self.exporter)

    async def _look(self) -> None:
        now = time.monotonic()
        self.table.forget()
        self.executor.audit.look(self.table.running())
        back = asyncio.get_running_loop().time() - self.connection.reconnected_at
        settled = self.connection.connected.is_set() and back > RECONNECT_GRACE_S
        for call in self.table.running():
            await self.answers.still_working(call, now, LOOK_S)
            needs_caller = call in self._awaited or (call.publisher and not call.detached)
            if needs_caller and settled and now - call.heard > self._absence_s(call):
                self.cancel(call, "its caller is gone")
        for call in self.executor.streams.look(settled=settled):
            self.cancel(call, "its client is gone")

    def _absence_s(self, call: OpenCall) -> float:
        return CALLER_ELSEWHERE_S if self.connection.clustered or is_visitor(call.user) else CALLER_GONE_S


async def _nothing_newer() -> None:
    """There are no leases."""


def _bind(method: Method, body: bytes, kind: str) -> Any:
    if kind == MSGPACK:
        return method.bind(decode(body, MSGPACK))
    return method.bind_json(body)
