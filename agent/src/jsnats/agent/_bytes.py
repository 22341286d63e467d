"""Two-way byte streams at the exporter: what a driver opened, joined to the bytes of one client."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from typing import Any

import anyio
import anyio.abc

from jsnats.schemas import (
    CHUNK,
    CLOSE,
    END,
    MESSAGE,
    WINDOW,
    DriverConnectionError,
    DriverError,
    ack_headers,
    down_subject,
    is_visitor,
    ups_of,
)
from jsnats.sdk import Bulk, Connection, Disconnected, Message, Messages, NoResponders, Pipe, chunks, deliver

from ._answers import Answers
from ._table import OpenCall

log = logging.getLogger("jsnats.agent")

SILENT_S = 4.0
"""After so long without a word from its client, an exporter asks the broker whether the client is there."""
ABSENT_S = 10.0
"""How long a client whose connection is gone may take to be back: a restart of the broker, a change of network."""
ELSEWHERE_S = 20.0
"""The same in a cluster, or by a hub, where it has to notice first that its server is silent or cut off."""
SETTLE_S = 1.0
"""How long a reset by the far end may wait for the client to have what came before it."""
GONE_S = 60.0
"""After so long a silence the client is gone, whatever the broker believes."""


class Session:
    """One open stream: the driver's end on one side, the pipe to the client on the other."""

    def __init__(self, connection: Connection, subject: str, window: int, *, messages: bool) -> None:
        self.pipe = Pipe(connection, subject, self, window)
        self.messages = messages
        self._received: deque[tuple[bytes, str, int]] = deque()
        self._parts = Messages()
        self._came = asyncio.Event()
        self._room = asyncio.Event()
        self._heard_all = asyncio.Event()

    def on_bytes(self, body: bytes, mark: str) -> None:
        """Bytes from the client."""
        self._received.append((body, mark, len(body) + bool(mark)))
        self._came.set()

    def on_room(self) -> None:
        """More may be sent to the client."""
        self._room.set()

    def on_over(self, error: Exception | None) -> None:
        """The call ends a session here, not the pipe."""

    async def run(self, stream: Any) -> None:
        """Carry bytes both ways until both directions have ended or the client has closed. Raises what the driver's
        stream raises, DriverConnectionError when the far end has broken it."""
        tasks = [asyncio.ensure_future(way(stream)) for way in (self._down, self._up)]
        try:
            # `_down` ends when both directions have; `_up` goes on until then: the client may still close.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if errors := [error for task in done if (error := task.exception())]:
                raise errors[0]
        except _Closed:
            return
        except Exception as error:
            # The reset takes another way and would be there before the answer that the far end gave with it.
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await self._all_arrived()
            if isinstance(error, (anyio.BrokenResourceError, anyio.ClosedResourceError)):
                raise _broken(error) from error
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _down(self, stream: Any) -> None:
        pipe, mark = self.pipe, MESSAGE if self.messages else ""
        while True:
            try:
                data = await (stream.receive() if self.messages else stream.receive(CHUNK))
            except anyio.EndOfStream:
                break
            for body, after in chunks(bytes(data), mark):
                while not pipe.may_send:
                    self._room.clear()
                    await self._room.wait()
                pipe.send(body, after)
        pipe.send(b"", END)
        await self._all_arrived()
        await self._heard_all.wait()

    async def _all_arrived(self) -> None:
        while not self.pipe.all_arrived:
            self._room.clear()
            await self._room.wait()

    async def _up(self, stream: Any) -> None:
        while True:
            while not self._received:
                self._came.clear()
                await self._came.wait()
            body, mark, size = self._received.popleft()
            item = self._parts.add(body, mark) if self.messages else body or None
            if item is not None:
                await stream.send(item)
            self.pipe.use(size)
            if mark == CLOSE:
                raise _Closed
            if mark == END:
                await _end(stream)
                self._heard_all.set()


class _Closed(Exception):
    """The client has closed both directions."""


async def _end(stream: Any) -> None:
    """Half-close the driver's end, if it knows how and is still there."""
    if hasattr(stream, "send_eof"):
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            await stream.send_eof()


def _broken(error: Exception) -> DriverError:
    cause = error.__cause__ or error.__context__
    return DriverConnectionError(f"the far end has closed the connection{f': {cause}' if cause else ''}")


class Streams:
    """The open streams of one exporter. Their bytes travel over `bulk`."""

    def __init__(self, exporter: str, answers: Answers, bulk: Bulk) -> None:
        self.exporter = exporter
        self.answers = answers
        self._sessions: dict[tuple[str, str], OpenCall] = {}
        self._bulk = bulk
        self._listening: asyncio.Task[Connection] | None = None

    async def run(self, call: OpenCall, args: Any, kwargs: Any) -> None:
        """Open the driver's end, tell the client, and carry bytes until the end. Raises what ends it badly."""
        connection = await self._connection()
        async with getattr(call.node.driver, call.method.name)(*args, **kwargs) as opened:
            stream, metadata = opened if isinstance(opened, tuple) else (opened, {})
            subject = down_subject(call.user, self.exporter, call.id)
            messages = not isinstance(stream, anyio.abc.ByteReceiveStream)
            session = Session(connection, subject, call.window, messages=messages)
            call.pipe = session.pipe
            call.opened = {"metadata": metadata, "messages": messages, "window": WINDOW}
            self._sessions[call.user, call.id] = call
            try:
                await self.answers.interim(call, "accepted", call.opened)
                await session.run(stream)
            finally:
                del self._sessions[call.user, call.id]
                session.pipe.close()

    async def _connection(self) -> Connection:
        if self._listening is None or (self._listening.done() and self._listening.exception()):
            self._listening = asyncio.ensure_future(self._listen())
        return await asyncio.shield(self._listening)

    async def _listen(self) -> Connection:
        connection = await self._bulk.connection()
        await connection.listen(ups_of(self.exporter), self._on_up)
        await connection.flush()
        return connection

    def _on_up(self, message: Message) -> None:
        tokens = message.subject.split(".")
        call = self._sessions.get((tokens[3], tokens[4])) if len(tokens) == 5 else None
        deliver(call.pipe if call else None, message)
        if call:
            call.heard = time.monotonic()

    def look(self, *, settled: bool) -> list[OpenCall]:
        """Called a few times a second: keep every stream going; return those whose client is gone."""
        now, loop_now = time.monotonic(), asyncio.get_running_loop().time()
        for call in self._sessions.values():
            assert call.pipe
            call.pipe.tick(loop_now)
            if settled and now - call.heard > SILENT_S and now - call.asked > SILENT_S:
                call.asked = now
                self.answers.connection.spawn(self._ask(call))
        return [call for call in self._sessions.values() if settled and self._is_gone(call, now - call.heard)]

    def _is_gone(self, call: OpenCall, silence: float) -> bool:
        elsewhere = self.answers.connection.clustered or is_visitor(call.user)
        absent_s = ELSEWHERE_S if elsewhere else ABSENT_S
        return silence > GONE_S or (silence > absent_s and call.absent)

    async def _ask(self, call: OpenCall) -> None:
        """Send an acknowledgement as a request: if nobody is there to take it, the broker says so."""
        assert call.pipe
        try:
            await self.answers.connection.request(
                call.pipe.subject, headers=ack_headers(*call.pipe.into.ack()), timeout_s=SILENT_S / 2
            )
        except NoResponders:
            call.absent = True
        except (Disconnected, TimeoutError):
            call.absent = False
