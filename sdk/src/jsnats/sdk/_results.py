"""The results of a generator, as they come: once, in order, however often the broker dies.

The exporter stores batches in RESULTS and the broker republishes them to us: no consumer, one subscription. We grant
credit as the items are used, so a slow reader makes the generator wait. When the exporter says it has stored more
than we have seen, the rest is read from the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from jsnats.schemas import (
    RESULTS,
    BrokerError,
    CallError,
    DeadlineExceeded,
    ExporterOffline,
    OutcomeUnknown,
    ProtocolError,
    check_live,
    headers as h,
    live_subject,
    result_subject,
)

from ._assemble import Assembler
from ._broker_errors import NoResponders
from ._call import DEFAULT, Call, Options
from ._caller import Caller
from ._lasting import Subscription
from ._nats import Msg
from ._replay import replay

log = logging.getLogger("jsnats.results")

WINDOW = 4096
"""Items that the exporter may be ahead of the reader, if so many fit the ring of messages kept for one call."""
KEEPALIVE_S = 1.0
"""A stream whose reader says nothing for 4 s is stopped by the exporter."""
TELL_MESSAGES = 128
TELL_BYTES = 4 << 20
"""Credit is renewed when so much has been used, or half a window of items."""
BACKFILL_S = 0.1
LINGER_S = 0.02
"""The subscription of a stream that has ended goes a little later: its reader may be about to make the next call."""
GAP_S = 15.0
"""A gap that neither the exporter nor the store has filled by then never will be."""

Sink = Callable[[list[Any] | None], None]


class ResultStream(Call):
    """One open stream of results. Batches go to `sink`; None is the end, `error` then says how it ended."""

    def __init__(
        self, caller: Caller, exporter: str, path: str, method: str, body: bytes, sink: Sink, options: Options = DEFAULT
    ) -> None:
        super().__init__(caller, exporter, path, method, body, options)
        self.sink = sink
        self.error_at_end: Exception | None = None
        self.finished = False
        self.used = 0
        self._granted = 1
        self._accepted = False
        self._attached = False
        self._kept_alive = 0.0
        self._sequence = 0
        self._progress = self._backfilled = caller.loop.time()
        self._unread: deque[tuple[int, int]] = deque()
        self._told = (0, 0, 0)
        self._assembler = Assembler()
        self._live: Subscription | None = None
        self._backfilling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Call, then subscribe: the first message comes on the reply subject, and no other before our credit."""
        try:
            await self.begin()
            await asyncio.sleep(0)  # the call is on its way while we subscribe
            await self._subscribe()
        except DeadlineExceeded as error:
            self.fail(error)
        except BaseException:
            await self.stop()  # else the next reconnect would send the call after all
            raise
        if self.finished and self._live:
            await self._live.close()

    async def attach(self, call: str) -> None:
        """Take up a stream that runs, or has run, without us. Raises OutcomeUnknown if nothing is left of it."""
        self.id, self.sent_at, self._attached, self._accepted = call, self.caller.loop.time(), True, True
        self.method = ""  # whichever it is
        self._assembler = Assembler(from_oldest=True)
        self.control = self.control.rpartition(".")[0] + f".{call}"
        await self._subscribe()
        self.reply = self.caller.connection.replies.expect(self.control, self.on_message, self.fail)
        self.caller.watch(self)
        await self._probe()

    async def _subscribe(self) -> None:
        connection = self.caller.connection
        self._live = await connection.listen(live_subject(connection.token, self.exporter, self.id), self._on_live)

    # ------------------------------------------------------------------ what comes in

    def _on_live(self, message: Msg) -> None:
        if self._assembler.floating:
            return  # what is stored comes first
        try:
            check_live(message.subject, message.headers, RESULTS.name, "jsnats.live.", "jsnats.result.")
            assert message.headers is not None
            self._take(int(message.headers.get(h.SEQUENCE, "0")), message)
        except (ProtocolError, ValueError) as error:
            log.warning("ignored a message on %s: %s", message.subject, error)
            return
        if self._assembler.gap:
            self._backfill()

    def _take(self, sequence: int, message: Msg) -> None:
        self.is_heard()
        self._accepted = True
        was = self._assembler.next
        items = self._assembler.take(message.headers or {}, message.data)
        if self._assembler.next != was and not self._assembler.gap:
            self._sequence = max(self._sequence, sequence)
            self._progress = self.heard
        if items:
            self._unread.append((self._assembler.next[0], len(message.data)))
            self.sink(items)
        if self._assembler.ended:
            self._finish(self._assembler.error)

    def _settle(self, message: Msg) -> None:
        """A final reply: an error, or the result of a method that is no generator."""
        self.caller.connection.spawn(self._reply_is_all(message))

    async def _reply_is_all(self, message: Msg) -> None:
        try:
            result = await self.caller.result(self, message)
        except CallError as error:
            await self._lost(error)
        except BrokerError as error:
            self._finish(error)
        else:
            self.sink([result])
            self._finish(None)

    def first(self, message: Msg) -> None:
        """The first message on our reply subject; the one from the store will be a duplicate."""
        try:
            self._take(0, message)
        except ProtocolError as error:
            log.warning("ignored a message on %s: %s", message.subject, error)

    def accepted(self, message: Msg) -> None:
        """The exporter has begun."""
        self._accepted = True

    def fail(self, error: Exception) -> None:
        """End with an error of this side."""
        if isinstance(error, DeadlineExceeded) and not self.finished:
            self.caller.connection.spawn(self.cancel())
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        if self.finished:
            return
        if isinstance(error, CallError) and self.await_lease(error, lambda: self._finish_now(error)):
            return
        self._finish_now(error)

    def _finish_now(self, error: Exception | None) -> None:
        if self.finished:
            return
        if isinstance(error, CallError) and not error.method:
            error.path, error.method = self.path, self.method
        self.finished, self.error_at_end = True, error
        self.leave()
        if self._live:
            self.caller.loop.call_later(LINGER_S, self._unsubscribe, self._live)
        if self._backfilling:
            self._backfilling.cancel()
        if not self.final.done():
            self.final.cancel()
        self.sink(None)

    def _unsubscribe(self, live: Subscription) -> None:
        if not self.caller.connection.closing:
            self.caller.connection.spawn(live.close())

    # ------------------------------------------------------------------ credit

    def use(self, count: int) -> None:
        """The reader has taken `count` items. From the loop's thread only."""
        self.used += count
        items, messages, size = self._told
        while self._unread and self._unread[0][0] <= self.used:
            messages, size = messages + 1, size + self._unread.popleft()[1]
        self._told = items + count, messages, size
        # Slow start: the window opens when the first item has reached its reader, which comes first.
        if self._granted == 1 or items + count >= WINDOW // 2 or messages >= TELL_MESSAGES or size >= TELL_BYTES:
            self.grant()

    def grant(self) -> None:
        """Allow the exporter a whole window beyond what is used."""
        if not self.finished:
            self._granted = self.used + WINDOW
            self._told = (0, 0, 0)
            self._kept_alive = self.caller.loop.time()
            self.caller.connection.spawn(self.caller.control(self.control, "credit", self._credit()))

    def _credit(self) -> dict[str, Any]:
        return {"used": self.used, "credit": self._granted}

    # ------------------------------------------------------------------ silence and gaps

    def tick(self, now: float) -> None:
        """Keep the stream alive, and look after it when it is silent."""
        if self._assembler.gap:
            self._backfill()
            if now - self._progress > GAP_S:
                self._finish(
                    OutcomeUnknown(
                        f"results from item {self._assembler.next[0]} on are lost: they are no longer stored"
                    )
                )
        if self.probing or not self.sent_at:
            return
        if now - self._kept_alive > KEEPALIVE_S:
            self._kept_alive = now
            self.probing = True
            self.caller.connection.spawn(self._probe())

    def again(self) -> None:
        """After a reconnect: an accepted stream only has to be looked at."""
        if self._accepted:
            self._kept_alive = 0.0
        else:
            super().again()

    async def _probe(self) -> None:
        self.probing = True
        try:
            verb = "attach" if self._attached else "probe"
            state = await self.caller.probe(self.control, verb, self._credit())
        except NoResponders:
            await self._agent_gone()
        except TimeoutError:
            if self.caller.connection.connected.is_set():
                await self._lost(
                    ExporterOffline(f"exporter {self.exporter!r} has not answered for {self.patience_s:g} s")
                )
        except CallError as error:
            await self._lost(error)
        else:
            await self._see(state)
        finally:
            self.probing = False

    async def _see(self, state: dict[str, Any] | None) -> None:
        if state is None or self.finished:
            return
        self.is_heard()
        self._accepted = self._accepted or state.get("state") in ("running", "done")
        if state.get("state") == "unknown":
            await self._unknown()
        elif tuple(state.get("stored", (0, 0))) > self._assembler.next or state.get("state") == "done":
            self._backfill()

    async def _unknown(self) -> None:
        if self._accepted:
            await self._lost(OutcomeUnknown("the exporter no longer knows this call; it was restarted"))
        else:
            super().again()

    async def _agent_gone(self) -> None:
        if self.in_grace():
            await asyncio.sleep(0.25)
        else:
            await self._lost(ExporterOffline(self._offline_text()))

    async def _lost(self, error: CallError) -> None:
        """Nobody serves this call any more: what is stored is all there is, and without an end it is an error."""
        if self._accepted:
            self._backfill()
            if self._backfilling:
                await asyncio.wait({self._backfilling})
        self._finish(error)

    def no_responders(self) -> None:
        """To the call message."""
        if self.in_grace() and not self._accepted:
            super().no_responders()
        else:
            self.caller.connection.spawn(self._agent_gone())

    def _backfill(self) -> None:
        now = self.caller.loop.time()
        if self.finished or (self._backfilling and not self._backfilling.done()):
            return
        if not self._assembler.gap or now - self._backfilled > BACKFILL_S:
            self._backfilled = now
            self._backfilling = self.caller.loop.create_task(self._read_stored())

    async def _read_stored(self) -> None:
        subject = result_subject(self.caller.connection.token, self.exporter, self.id)
        try:
            async for sequence, message in replay(self.caller.connection, RESULTS.name, subject, after=self._sequence):
                self._take(sequence, message)
        except BrokerError as error:
            log.info("reading stored results: %s; trying again", error)

    async def stop(self) -> None:
        """The reader wants no more: end the generator."""
        if not self.finished:
            await self.cancel()
            self._finish(None)


class AsyncResults:
    """Async iterator over the items of a stream; `async with` or `aclose()` ends the generator early."""

    def __init__(self) -> None:
        self._batches: deque[list[Any] | None] = deque()
        self._arrived = asyncio.Event()
        self.stream: ResultStream | None = None

    def sink(self, batch: list[Any] | None) -> None:
        """Where the stream puts its batches."""
        self._batches.append(batch)
        self._arrived.set()

    async def batches(self) -> AsyncIterator[list[Any]]:
        """Yield whole batches."""
        stream = self.stream
        assert stream is not None
        try:
            while True:
                while not self._batches:
                    self._arrived.clear()
                    await self._arrived.wait()
                batch = self._batches.popleft()
                if batch is None:
                    break
                stream.use(len(batch))
                yield batch
        finally:
            await stream.stop()
        if stream.error_at_end:
            raise stream.error_at_end

    async def aclose(self) -> None:
        """End the generator, if it has not ended."""
        if self.stream:
            await self.stream.stop()

    async def __aenter__(self) -> AsyncResults:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for batch in self.batches():
            for item in batch:
                yield item
