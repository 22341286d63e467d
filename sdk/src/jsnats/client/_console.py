"""Client of a driver with a console."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self

from jsnats.schemas import NodeRecord

from ._channel import Channel
from ._client import DriverClient
from ._dialogue import Dialogue
from ._expect import ConsoleMatch, Pattern, Patterns, Text
from ._feed import Feed

if TYPE_CHECKING:
    import click

    from jsnats.sdk import ConsoleReader, ConsoleRecord, Start


class ConsoleClient(DriverClient):
    """A console: read at the exporter whoever listens, recorded, and written to by one at a time.

    `since` says where to begin: "10m", "boot" (the last power-on), "start", a time, "@4711" (an offset), the text of a
    marker; see `jsnats.sdk.Start`. What is written goes through a session that `send` opens and `close` ends, or the
    end of a `with` block; while it is open, nobody else can write.
    """

    def __init__(self, channel: Channel, node: NodeRecord, children: dict[str, DriverClient] | None = None) -> None:
        super().__init__(channel, node, children)
        self._talk: Dialogue | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def reader(self) -> ConsoleReader:
        """What reads its record, for asyncio."""
        from jsnats.sdk import ConsoleReader

        return ConsoleReader(self._channel.lab, self.exporter, self.path)

    def _dialogue(self) -> Dialogue:
        if self._talk is None:
            self._talk = Dialogue(self.reader, self.open_stream_async)
        return self._talk

    # ------------------------------------------------------------------ reading

    def watch(self, since: Start = None) -> Generator[ConsoleRecord, None, None]:
        """Yield what it says, and the markers, for ever; first what is stored from `since` on. It waits out outages."""
        feed = self._channel.run(Feed.open(self.reader, since))
        try:
            while True:
                yield from self._channel.run(feed.take())
        finally:
            bridge = self._channel.lab.bridge
            if bridge and bridge.alive:
                bridge.run(feed.close())

    async def watch_async(self, since: Start = None) -> AsyncIterator[ConsoleRecord]:
        """As `watch`, for asyncio."""
        async with aclosing(self.reader.follow(since)) as records:
            async for record in records:
                yield record

    def read(self, since: Start = "start") -> bytes:
        """Return what is stored of its output from `since` on, without markers; all that `expect` has seen is there."""
        data: bytes = self._channel.run(self.read_async(since))
        return data

    async def read_async(self, since: Start = "start") -> bytes:
        """As `read`, for asyncio."""
        return b"".join([record.data async for record in self._replay(since)])

    def _replay(self, since: Start) -> AsyncGenerator[ConsoleRecord, None]:
        return self.reader.replay(since, upto=self._talk.heard if self._talk else 0)

    def search(self, pattern: Pattern | Sequence[Pattern], since: Start = "start") -> list[ConsoleMatch]:
        """Return all that matches in what `read` would return, each with `time` and `offset`."""
        found: list[ConsoleMatch] = self._channel.run(self.search_async(pattern, since))
        return found

    async def search_async(self, pattern: Pattern | Sequence[Pattern], since: Start = "start") -> list[ConsoleMatch]:
        """As `search`, for asyncio."""
        patterns, text = Patterns(pattern), Text()
        found: list[ConsoleMatch] = []
        async with aclosing(self._replay(since)) as records:
            async for record in records:
                text.add(record)
                if text.waiting >= _AT_ONCE:
                    found += iter(lambda: text.find(patterns, final=False), None)
        found += iter(lambda: text.find(patterns), None)
        return found

    # ------------------------------------------------------------------ talking

    def send(self, data: bytes | str) -> None:
        """Send to the device. Raises DriverError when somebody else writes, StreamReset when the session has died."""
        self._channel.run(self.send_async(data))

    async def send_async(self, data: bytes | str) -> None:
        """As `send`, for asyncio."""
        await self._dialogue().send(data.encode() if isinstance(data, str) else data)

    def sendline(self, text: bytes | str = "", end: str = "\n") -> None:
        """Send a line."""
        self._channel.run(self.sendline_async(text, end))

    async def sendline_async(self, text: bytes | str = "", end: str = "\n") -> None:
        """As `sendline`, for asyncio."""
        await self.send_async((text.encode() if isinstance(text, str) else text) + end.encode())

    def expect(
        self, pattern: Pattern | Sequence[Pattern], timeout: float | None = 30, since: Start = None
    ) -> ConsoleMatch:
        """Wait until the console says what a regular expression matches, or one of a list; the next `expect` goes on
        behind it.

        The first `expect` or `send` begins to listen; `since` begins again, in the record: with `since="boot"` no byte
        since the last power-on is missed. Raises ConsoleTimeout (a TimeoutError), which shows what was said instead.
        """
        match: ConsoleMatch = self._channel.run(self.expect_async(pattern, timeout, since))
        return match

    async def expect_async(
        self, pattern: Pattern | Sequence[Pattern], timeout: float | None = 30, since: Start = None
    ) -> ConsoleMatch:
        """As `expect`, for asyncio."""
        return await self._dialogue().expect(Patterns(pattern), timeout, since)

    def close(self) -> None:
        """End the session, so that others can write; the next `send` opens another."""
        if self._talk and self._channel.lab.bridge and self._channel.lab.bridge.alive:
            self._channel.run(self.close_async())

    async def close_async(self) -> None:
        """As `close`, for asyncio."""
        if self._talk:
            await self._talk.close()

    # ------------------------------------------------------------------ the record

    def mark(self, text: str) -> None:
        """Put a marker into the record; `since=text` finds it."""
        self.call("mark", text)

    def off_record(self, on: bool = True) -> None:
        """Pause the recording (True), or resume it (False); both leave a marker."""
        self.call("off_record", on)

    def status(self) -> dict[str, Any]:
        """Whether the device is `open`, is recorded (`record`, `off_record`) and written to (`writer`); its `offset`,
        and the `reason` if it is closed."""
        found: dict[str, Any] = self.call("status")
        return found

    def cli(self) -> click.Command:
        """The commands of `j`."""
        from jsnats.sdk.cli import console_command

        return console_command(self)


_AT_ONCE = 256 << 10
