"""The base of drivers with a console: it is read from the agent's start to its stop, whoever is attached.

What the device says goes to a `Tap`, which the agent makes a recorder, and to the one session that may write. Nothing
here waits for either: a session that does not read is ended, the recorder has room or drops its oldest.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import field
from typing import Any, Final

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, Event, move_on_after
from anyio.abc import AnyByteStream, ByteStream
from pydantic.dataclasses import dataclass

from jsnats.schemas import DriverConnectionError, DriverError, unescape_user

from ._driver import Driver, caller
from ._export import export, exportstream

FIRST_WAIT_S: Final = 0.5
MAX_WAIT_S: Final = 10.0
"""How long to wait between two attempts to open a device that is not there, at first and in the end."""
SESSION_BYTES: Final = 1 << 20
"""What a session may lie behind before it is ended."""
READ: Final = 65536
CLOSE_S: Final = 2.0


class Tap:
    """What becomes of a console's bytes. This one only counts them; the agent's recorder extends it.

    `offset` is the position of the next byte the device says; `subject` where the record is stored, "" for nowhere.
    """

    subject = ""

    def __init__(self) -> None:
        self.offset = 0

    def data(self, data: bytes) -> None:
        """The device said `data`."""
        self.offset += len(data)

    def skip(self, count: int) -> None:
        """The device said so many bytes off the record."""
        self.offset += count

    def mark(self, kind: str, text: str, **more: object) -> None:
        """Something happened: `text` is one line for people, `more` goes beside it."""


class _Session(ByteStream):
    """The attached writer. Bytes wait here until they are received; more than SESSION_BYTES of them end the reading."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.who = _user().get("user", "somebody")
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended: Exception | None = None
        self._arrived = Event()

    def push(self, data: bytes) -> None:
        """The device said `data`."""
        if self._ended:
            return
        self._chunks.append(data)
        self._size += len(data)
        self._arrived.set()
        if self._size > SESSION_BYTES:
            offset = self._console._tap.offset
            self.end(DriverError(f"read too slowly and fell behind at @{offset}: catch up with --since @{offset}"))

    def end(self, error: Exception) -> None:
        """Nothing more comes; whoever reads on gets `error` after what is here."""
        self._ended = self._ended or error
        self._arrived.set()

    async def receive(self, max_bytes: int = READ) -> bytes:
        while not self._chunks:
            if self._ended:
                raise self._ended
            self._arrived = Event()
            await self._arrived.wait()
        chunk = self._chunks.popleft()
        if len(chunk) > max_bytes:
            self._chunks.appendleft(chunk[max_bytes:])
            chunk = chunk[:max_bytes]
        self._size -= len(chunk)
        return chunk

    async def send(self, item: bytes) -> None:
        await self._console._write(item)

    async def send_eof(self) -> None:
        """A console has no end: the other half goes on."""

    async def aclose(self) -> None:
        self.end(ClosedResourceError())


@dataclass(kw_only=True)
class Console(Driver, ABC):
    """Base of drivers with a console: write `open`, and the rest is here.

    `record`: whether what the device says is stored, for whoever may watch. A subclass that overrides `start` or `stop`
    calls this one's too.
    """

    record: bool = field(default=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._tap = Tap()
        self._device: AnyByteStream | None = None
        self._reading: asyncio.Task[None] | None = None
        self._writer: _Session | None = None
        self._reason = "not opened yet"
        self._lost_at = 0.0
        self._was_open = False
        self._off_record_at: int | None = None

    @classmethod
    def client(cls) -> str:
        """Return the client of all consoles."""
        return "jsnats.client.ConsoleClient"

    @abstractmethod
    async def open(self) -> AnyByteStream:
        """Open the device. Raises OSError while it is not there; it is tried again after 0.5 s, at most every 10 s.

        Any anyio stream of bytes will do; it ends, by EndOfStream or OSError, when the device is lost.
        """

    def record_to(self, tap: Tap) -> None:
        """Give the bytes to `tap`, from the next `start` on. Called by the agent."""
        self._tap = tap

    async def start(self) -> None:
        """Begin to read, without waiting for the device."""
        self._tap.mark("start", "the agent began to read")
        self._reading = asyncio.create_task(self._read_for_ever(), name=f"console-{self.path}")

    async def stop(self) -> None:
        """Stop reading and close the device."""
        if self._reading:
            self._reading.cancel()
            await asyncio.wait({self._reading})
            self._reading = None
            self._tap.mark("closed", "the agent stopped reading", reason="stop")
        if self._writer:
            self._writer.end(EndOfStream())

    async def close(self) -> None:
        """The end of a lease puts the console back on the record."""
        await self.off_record(False)

    # ------------------------------------------------------------------ for clients

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[tuple[ByteStream, dict[str, Any]], None]:
        """What the device says from now on, and a way to write to it; for one at a time.

        The metadata has `offset`, the position of the first byte that comes, `record`, whether it is recorded, and
        `subject`, where.
        """
        if self._writer:
            raise DriverError(f"{self._writer.who} has this console open: watch it with `jsnats console --watch`")
        session = self._writer = _Session(self)
        try:
            yield session, {"offset": self._tap.offset, "record": self._recorded, "subject": self._tap.subject}
        finally:
            self._writer = None
            await session.aclose()

    @export
    async def mark(self, text: str) -> None:
        """Leave a marker with that text, one line of at most 2048 characters, in the record."""
        self._tap.mark("mark", text, **_user())

    @export
    async def off_record(self, on: bool = True) -> None:
        """Stop recording, or go on with `on=False`; both leave a marker. Who has the console open still sees all."""
        if on == (self._off_record_at is not None):
            return
        user = _user()
        if on:
            self._tap.mark("off-record", "off the record" + _by(user), **user)
            self._off_record_at = self._tap.offset
        else:
            missing = self._tap.offset - (self._off_record_at or 0)
            self._off_record_at = None
            self._tap.mark(
                "on-record", f"on the record again{_by(user)}, {missing} bytes not recorded", bytes=missing, **user
            )

    @export
    async def status(self) -> dict[str, Any]:
        """Whether the device is there, how far it was read, whether it is recorded and where, if somebody may write.

        `reason` says why it is not there.
        """
        return {
            "open": self._device is not None,
            "offset": self._tap.offset,
            "record": self._recorded,
            "subject": self._tap.subject,
            "off_record": self._off_record_at is not None,
            "writer": self._writer is not None,
            "reason": "" if self._device else self._reason,
        }

    # ------------------------------------------------------------------ the device

    @property
    def _recorded(self) -> bool:
        return bool(self._tap.subject) and self._off_record_at is None

    async def _write(self, data: bytes) -> None:
        if self._device is None:
            raise DriverConnectionError(f"the device is not there: {self._reason}")
        await self._device.send(data)

    async def _read_for_ever(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            before = self._tap.offset
            try:
                await self._read_once()
            except EndOfStream:
                self._lost("it closed")
            except (OSError, BrokenResourceError, ClosedResourceError, DriverError) as error:
                self._lost(str(error) or type(error).__name__)
            except Exception as error:
                self.logger.exception("reading the console")
                self._lost(f"{type(error).__name__}: {error}")
            if self._tap.offset > before:
                wait_s = FIRST_WAIT_S
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, MAX_WAIT_S)

    async def _read_once(self) -> None:
        """Open the device and read it until it is lost. Raises why."""
        device = await self.open()
        try:
            self._opened(device)
            while True:
                self._heard(await device.receive())
        finally:
            self._device = None
            with move_on_after(CLOSE_S, shield=True):
                await device.aclose()

    def _heard(self, data: bytes) -> None:
        if self._off_record_at is None:
            self._tap.data(data)
        else:
            self._tap.skip(len(data))
        if self._writer:
            self._writer.push(data)

    def _opened(self, device: AnyByteStream) -> None:
        self._device, self._was_open = device, True
        if self._lost_at:
            seconds = round(asyncio.get_running_loop().time() - self._lost_at, 1)
            self._tap.mark("open", f"the device is back after {seconds:g} s", seconds=seconds)
            self.logger.info("the device is back after %g s", seconds)
            self._lost_at = 0.0

    def _lost(self, reason: str) -> None:
        self._reason = reason
        if not self._lost_at:
            self._lost_at = asyncio.get_running_loop().time()
            self._tap.mark("closed", f"the device is not there: {reason}", reason=reason)
            # A board that is switched off at the agent's start is no fault.
            self.logger.log(logging.WARNING if self._was_open else logging.INFO, "the device is not there: %s", reason)


def _user() -> dict[str, str]:
    token = caller.get()
    return {"user": unescape_user(token)} if token else {}


def _by(user: dict[str, str]) -> str:
    return f" by {user['user']}" if user else ""
