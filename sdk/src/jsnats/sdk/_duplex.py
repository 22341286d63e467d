"""A two-way byte stream as a client has it: opened by a call, alive as long as that call, ended by its answer."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.abc

from jsnats.schemas import (
    CLOSE,
    END,
    MESSAGE,
    WINDOW,
    CallError,
    DeadlineExceeded,
    JsnatsError,
    LeaseLost,
    OutcomeUnknown,
    TooLarge,
    content_type,
    decode,
    down_subject,
    headers as h,
    up_subject,
)

from ._call import DEFAULT, Call, Options
from ._nats import Msg
from ._pipe import Messages, Pipe, Taker, chunks, deliver

if TYPE_CHECKING:
    from ._bridge import Bridge
    from ._caller import Caller
    from ._connection import Connection
    from ._lasting import Subscription

CLOSE_S = 10.0
"""How long closing waits for the exporter to have written what was sent."""


class StreamReset(JsnatsError, ConnectionResetError, anyio.BrokenResourceError):
    """The other end of a two-way stream is gone; the text says why."""


class StreamLost(LeaseLost, StreamReset):
    """The lease has ended, and with it the stream."""


class Session(Call):
    """The call that opens a stream and keeps it: its final reply is the stream's end."""

    def __init__(
        self,
        caller: Caller,
        bulk: Connection,
        exporter: str,
        path: str,
        method: str,
        body: bytes,
        options: Options = DEFAULT,
    ) -> None:
        super().__init__(
            caller, exporter, path, method, body, Options(on_progress=options.on_progress, claim=options.claim)
        )
        self.headers[h.WINDOW] = str(WINDOW)
        self.stream = DuplexStream(self)
        self.bulk = bulk
        self.pipe = Pipe(bulk, up_subject(exporter, bulk.token, self.id), self.stream, 0)
        self._patience_s = options.timeout_s
        self._opened = caller.loop.create_future()
        self._down: Subscription | None = None

    async def start(self) -> DuplexStream:
        """Open it. Raises CallError, BrokerError, DeadlineExceeded."""
        try:
            async with asyncio.timeout(self._patience_s) as limit:
                self._down = await self.bulk.listen(
                    down_subject(self.bulk.token, self.exporter, self.id), lambda message: deliver(self.pipe, message)
                )
                await self.bulk.flush()
                await self.begin()
                await asyncio.wait({self._opened, self.final}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            self.abort()
            if not limit.expired():
                raise
            text = f"the stream did not open within {self._patience_s:g} s"
            raise DeadlineExceeded(text, path=self.path, method=self.method) from None
        except BaseException:
            self.abort()
            raise
        if self.final.done() and not self._opened.done():
            message = self.final.result()
            raise self.caller.remote_error(message) if message.headers else OutcomeUnknown("no stream was opened")
        return self.stream

    def accepted(self, message: Msg) -> None:
        """The driver has opened its end."""
        if self._opened.done():
            return
        content = decode(message.data, content_type(message.headers)) or {}
        self.stream.metadata = content.get("metadata") or {}
        self.stream.messages = bool(content.get("messages"))
        self.pipe.out.ack(0, int(content.get("window", WINDOW)))
        self._opened.set_result(None)
        self.stream.on_opened()

    # ------------------------------------------------------------------ its end

    def _settle(self, message: Msg) -> None:
        super()._settle(message)
        error = self.caller.remote_error(message) if message.headers and h.ERROR in message.headers else None
        self.finish(error)

    def fail(self, error: Exception) -> None:
        """End it with an error of this side."""
        super().fail(error)
        self.finish(error)

    def finish(self, error: Exception | None) -> None:
        """The stream is over."""
        self.leave()
        self.pipe.close()
        if self._down and not self.bulk.closing:
            self.bulk.spawn(self._down.close())
        self._down = None
        self.stream.on_finished(error)

    def reset(self, error: StreamReset) -> None:
        """End it with an error of this side, and tell the exporter."""
        self.caller.connection.spawn(self.cancel())
        self.fail(error)

    def abort(self) -> None:
        """Leave at once; the driver's end is closed without waiting for what was sent."""
        if not self.final.done():
            self.final.cancel()
            if not self.caller.connection.closing:
                self.caller.connection.spawn(self.cancel())
            self.finish(None)

    async def hang_up(self) -> None:
        """The lab is being closed: the driver's end is for the next one, and gets what was sent."""
        if self._opened.done():
            await self.stream.aclose()
        else:
            self.abort()

    # ------------------------------------------------------------------ time and faults

    def again(self) -> None:
        """After a reconnect: open it again under the same id if it is not open, else ask whether it still is."""
        if not self._opened.done():
            super().again()
        else:
            self.heard = self.sent_at

    def tick(self, now: float) -> None:
        """Acknowledge, send again, ask after silence."""
        self.heard = max(self.heard, self.pipe.heard)
        super().tick(now)
        self.pipe.tick(now)

    def _on_state(self, state: dict[str, Any] | None) -> None:
        if state and self._opened.done() and state.get("state") == "unknown":
            self.fail(OutcomeUnknown(f"exporter {self.exporter!r} has been restarted"))
        else:
            super()._on_state(state)


class DuplexStream(anyio.abc.ObjectStream[bytes], Taker):
    """Bytes to and from a driver.

    `metadata` is what the driver said when it opened its end. `messages` says that boundaries are kept: each `receive`
    returns what one `send` of the other side was (a datagram); else bytes come in pieces of any size.

    Everything arrives once and in order, whatever happens to the broker or the network in between; when the other end
    dies, `send` and `receive` raise StreamReset. One task may send and one receive at a time.
    """

    def __init__(self, session: Session) -> None:
        self.metadata: dict[str, Any] = {}
        self.messages = False
        self._session = session
        self._received: deque[tuple[bytes, int]] = deque()  # with what it takes of the window
        self._early: list[tuple[bytes, str]] | None = []  # came before the word that says what they are
        self._parts = Messages()
        self._wake_reader = asyncio.Event()
        self._wake_writer = asyncio.Event()
        self._ended = False
        self._closed = False
        self._sent_end = False
        self._reset: Exception | None = None
        self._over = False

    @property
    def pipe(self) -> Pipe:
        """The bytes below, for who relays them without a task of its own; see `splice`."""
        return self._session.pipe

    # ------------------------------------------------------------------ sending

    async def send(self, item: bytes) -> None:
        """Send bytes, waiting while the other side is behind. Raises StreamReset, anyio.ClosedResourceError."""
        pipe = self._session.pipe
        for body, mark in chunks(bytes(item), MESSAGE if self.messages else ""):
            await self._room()
            pipe.send(body, mark)

    async def _room(self) -> None:
        while True:
            if self._closed or self._sent_end:
                raise anyio.ClosedResourceError
            if self._over:
                raise self._why()
            if self._session.pipe.may_send:
                return
            self._wake_writer.clear()
            await self._wake_writer.wait()

    async def send_eof(self) -> None:
        """Say that nothing more is sent; receiving goes on."""
        if not (self._sent_end or self._over or self._closed):
            self._sent_end = True
            self._session.pipe.send(b"", END)

    # ------------------------------------------------------------------ receiving

    async def receive(self) -> bytes:
        """Return the next bytes. Raises anyio.EndOfStream after the last, StreamReset, anyio.ClosedResourceError."""
        while not self._received:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._ended:
                raise anyio.EndOfStream
            if self._over:
                raise self._why()
            self._wake_reader.clear()
            await self._wake_reader.wait()
        item, size = self._received.popleft()
        self._session.pipe.use(size)
        return item

    def on_bytes(self, body: bytes, mark: str) -> None:
        """Bytes came. A whole message is one item, and so is what came of a plain stream."""
        if self._early is not None:
            self._early.append((body, mark))
            return
        size = len(body) + bool(mark)
        if self._closed:
            self._session.pipe.use(size)
            return
        if mark in (END, CLOSE):
            self._ended = True
        try:
            whole = self._parts.add(body, mark) if self.messages else body or None
        except TooLarge as error:
            self._session.reset(StreamReset(error.message))
        else:
            self._put(whole, size)
        self._wake_reader.set()

    def on_opened(self) -> None:
        """`messages` is known: take what came before."""
        early, self._early = self._early or [], None
        for body, mark in early:
            self.on_bytes(body, mark)

    def _put(self, item: bytes | None, size: int) -> None:
        if item is not None:
            self._received.append((item, size))
        else:
            self._session.pipe.use(size)

    def on_room(self) -> None:
        """More may be sent."""
        self._wake_writer.set()

    def splice(self, taker: Taker) -> None:
        """From now on bytes go straight to `taker`, which calls `pipe.use`; those that wait here go first."""
        self._session.pipe.taker = taker
        while self._received:
            body, size = self._received.popleft()
            taker.on_bytes(body, "")
            self._session.pipe.use(size - len(body))
        if self._ended:
            taker.on_bytes(b"", END)
        if self._over:
            taker.on_over(self._reset)

    # ------------------------------------------------------------------ the end

    def on_finished(self, error: Exception | None) -> None:
        """The call behind the stream has ended."""
        if self._over:
            return
        self._over, self._reset = True, error
        self._wake_reader.set()
        self._wake_writer.set()
        if self._session.pipe.taker is not self:
            self._session.pipe.taker.on_over(error)

    def on_over(self, error: Exception | None) -> None:
        """See `on_finished`."""

    def _why(self) -> StreamReset:
        if isinstance(self._reset, StreamReset):
            return self._reset
        if isinstance(self._reset, LeaseLost):
            return StreamLost(self._reset.message, path=self._reset.path, method=self._reset.method)
        reset = StreamReset(str(self._reset or "the exporter has closed the stream"))
        reset.__cause__ = self._reset if isinstance(self._reset, (CallError, JsnatsError)) else None
        return reset

    async def aclose(self) -> None:
        """Close both directions; returns when the driver has been given what was sent, after CLOSE_S at the latest."""
        if self._closed:
            return
        self._closed = True
        if self._over:
            return
        # Else the far end, which nobody reads any more, might take no more either.
        self._session.pipe.use(sum(size for _, size in self._received))
        self._received.clear()
        self._session.pipe.send(b"", CLOSE)
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.wait({self._session.final})
        except TimeoutError:
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once; what was sent may not arrive."""
        self._closed = True
        self._session.abort()

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            await self.aclose()
        else:
            self.abort()


class BlockingStream:
    """A `DuplexStream` for sync code; from one thread to send and one to receive."""

    def __init__(self, stream: DuplexStream, bridge: Bridge) -> None:
        self.stream = stream
        self._bridge = bridge

    @property
    def metadata(self) -> dict[str, Any]:
        """What the driver said when it opened its end."""
        return self.stream.metadata

    @property
    def messages(self) -> bool:
        """Whether message boundaries are kept."""
        return self.stream.messages

    def send(self, data: bytes) -> None:
        """Send bytes, waiting while the other side is behind. Raises StreamReset."""
        self._bridge.run(self.stream.send(data))

    def receive(self, timeout_s: float | None = None) -> bytes:
        """Return the next bytes. Raises anyio.EndOfStream after the last, StreamReset, TimeoutError."""
        return self._bridge.run(self._receive(timeout_s))

    async def _receive(self, timeout_s: float | None) -> bytes:
        async with asyncio.timeout(timeout_s):
            return await self.stream.receive()

    def send_eof(self) -> None:
        """Say that nothing more is sent; receiving goes on."""
        self._bridge.run(self.stream.send_eof())

    def close(self) -> None:
        """Close both directions, after what was sent has been handed to the driver."""
        if self._bridge.alive:
            self._bridge.run(self.stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
