"""Talking to a console from a terminal or a pipe."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from jsnats.client._feed import Feed, Session
from jsnats.schemas import AccessDenied, JsnatsError, LeaseRequired
from jsnats.sdk import ConsoleRecord, StreamReset

from ._console_output import Output, Raw
from ._console_tty import HELP, Input, Keys
from ._console_until import Until

if TYPE_CHECKING:
    from jsnats.client import ConsoleClient

    from ._console_run import ConsoleOptions

AGAIN_S = 0.5
AGAIN_MAX_S = 5.0
LEAVE_S = 2.0
FAREWELL_S = 0.5
QUIET_S = 1.0
"""A pipe without --until shows what comes so long after its end."""


class Attachment:
    """The one writer of a console: keeps the session open, opens it again when it is lost, shows what comes."""

    def __init__(self, client: ConsoleClient, options: ConsoleOptions, output: Output, newline: bytes) -> None:
        self.client = client
        self.options = options
        self._output = output
        self._raw = Raw(newline)
        self._logged = Raw()
        self._feed: Feed | None = None
        self._session: Session | None = None
        self._opened = asyncio.Event()
        self._ended = asyncio.Event()
        self._why = ""
        self._notes: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Open the session. Raises CallError if the console cannot be written to, ConfigurationError, BrokerError."""
        self._feed = await Feed.open(self.client.reader, self.options.since, self._on_link)
        await self._attach()

    async def close(self) -> None:
        """Let others write."""
        if self._session:
            with suppress(TimeoutError, JsnatsError, anyio.BrokenResourceError):
                async with asyncio.timeout(LEAVE_S):
                    await self._session.stream.aclose()
        if self._feed:
            await self._feed.close()

    async def _attach(self) -> None:
        assert self._feed
        session = Session(await self.client.open_stream_async())
        self._session = session
        self._feed.attach(session, lambda why: self._on_end(session, why))
        self._opened.set()

    def _on_end(self, session: Session, why: str) -> None:
        if session is self._session:
            self._session, self._why = None, why
            self._opened.clear()
            self._ended.set()

    def _on_link(self, there: bool) -> None:
        self.note_soon("the broker is back" if there else "lost the broker, reconnecting")

    async def send(self, data: bytes) -> None:
        """Send, once there is a session. What a lost one may not have delivered is not sent again."""
        await self._opened.wait()
        if self._session:
            with suppress(JsnatsError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                await self._session.stream.send(data)

    async def show_next(self) -> list[ConsoleRecord]:
        """Show, log and return what the console says next. Raises OSError when nobody reads it any more."""
        assert self._feed
        records = await self._feed.take()
        self._output.log(b"".join(map(self._logged, records)))
        await self._output.write(b"".join(map(self._raw, records)))
        return records

    async def note(self, text: str) -> None:
        """Say something about the connection."""
        await self._output.write(self._raw.note(f"--- {text} ---"))

    def note_soon(self, text: str) -> None:
        """As `note`, from a callback."""
        task = asyncio.ensure_future(self.note(text))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def keep_open(self) -> None:
        """Open the session again whenever it ends. Raises AccessDenied, LeaseRequired."""
        while True:
            await self._ended.wait()
            self._ended.clear()
            await self.note(f"{self._why}; trying again")
            pause = AGAIN_S
            while not self._session:
                await asyncio.sleep(pause)
                pause = min(2 * pause, AGAIN_MAX_S)
                await self._try()
            await self.note("the console is back")

    async def lost(self) -> None:
        """Raise StreamReset when the session ends."""
        await self._ended.wait()
        raise StreamReset(f"{self.client.reader.name}: {self._why}")

    async def _try(self) -> None:
        try:
            await self._attach()
        except (AccessDenied, LeaseRequired):
            raise
        except JsnatsError as error:
            if str(error) != self._why:
                self._why = str(error)
                await self.note(self._why)


async def interact(attachment: Attachment, keyboard: int) -> None:
    """Connect a terminal in raw mode with an open attachment until the user quits or hangs up."""
    await attachment.note(f"{attachment.client.reader.name}: Ctrl-] q quits, Ctrl-] ? shows help")
    await _first_of(_show_all(attachment), _type(keyboard, attachment), attachment.keep_open())
    with suppress(TimeoutError):  # whoever quits because nothing is shown any more must not wait for it
        async with asyncio.timeout(FAREWELL_S):
            await attachment.note("left")


async def _show_all(attachment: Attachment) -> None:
    while True:
        await attachment.show_next()


async def _type(keyboard: int, attachment: Attachment) -> None:
    keys, source = Keys(), Input(keyboard)
    sending: asyncio.Queue[bytes] = asyncio.Queue(1024)
    sender = asyncio.ensure_future(_send_all(sending, attachment))
    try:
        while typed := await source.take():
            for command, data in keys.take(typed):
                if command == "quit":
                    return
                if command == "send":
                    sending.put_nowait(data) if not sending.full() else await attachment.note("not sent: too much")
                else:
                    await _command(command, attachment)
    finally:
        sender.cancel()


async def _send_all(sending: asyncio.Queue[bytes], attachment: Attachment) -> None:
    # Beside the reading of keys: while the device takes nothing, quitting must still work.
    while True:
        await attachment.send(await sending.get())


async def _command(command: str, attachment: Attachment) -> None:
    if command == "help":
        for line in HELP.splitlines():
            await attachment.note(line)
    elif command == "record":
        client = attachment.client
        try:
            paused = (await client.call_async("status"))["off_record"]
            await client.call_async("off_record", not paused)
        except JsnatsError as error:
            await attachment.note(str(error))
    else:
        await attachment.note("unknown key: Ctrl-] ? shows help")


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run all until the first ends; raise what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def converse(attachment: Attachment, source: int) -> None:
    """Send what comes by a pipe and show what the console says: to the match of --until, else until a while after the
    end of the pipe.

    Raises ConsoleTimeout when there is no match in time, StreamReset when the session is lost.
    """
    pipe, timeout_s = Input(source), attachment.options.timeout_s
    if attachment.options.until is not None:
        until = Until(attachment.options.until, timeout_s)
        await _first_of(_until(attachment, until), _pour(pipe, attachment, None), attachment.lost())
    else:
        wait_s = QUIET_S if timeout_s is None else timeout_s
        await _first_of(_pour(pipe, attachment, wait_s), _show_all(attachment), attachment.lost())


async def _until(attachment: Attachment, until: Until) -> None:
    async with until.in_time(attachment.client.reader.name):
        while not until.met(await attachment.show_next()):
            pass


async def _pour(pipe: Input, attachment: Attachment, wait_s: float | None) -> None:
    while chunk := await pipe.take():
        await attachment.send(chunk)
    if wait_s is None:
        await asyncio.Event().wait()  # something else ends it
    else:
        await asyncio.sleep(wait_s)
