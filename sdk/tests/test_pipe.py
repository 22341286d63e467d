"""Two pipes with a way between them that loses what the test wants it to lose."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jsnats.schemas import END, MESSAGE, ProtocolError, TooLarge
from jsnats.sdk import Message, Messages, Pipe, chunks

WINDOW = 1024


class Link:
    """What a pipe takes for its connection: what it pushes comes to `other`, unless `lost` says so."""

    def __init__(self) -> None:
        self.on_reconnect: list[Any] = []
        self.connected = asyncio.Event()
        self.connected.set()
        self.other: Pipe
        self.lost = False
        self.pushed = self.waiting = 0

    def push(self, subject: str, body: bytes | memoryview, headers: dict[str, str]) -> bool:
        self.pushed += 1
        if not self.lost:
            self.other.on_message(Message(None, subject, "", bytes(body), headers))  # type: ignore[arg-type]
        return not self.lost


class End:
    """Takes bytes, and hands them on when told to."""

    def __init__(self) -> None:
        self.link = Link()
        self.pipe = Pipe(self.link, "s", self, WINDOW, WINDOW)  # type: ignore[arg-type]
        self.got = b""
        self.marks: list[str] = []

    def on_bytes(self, body: bytes, mark: str) -> None:
        self.got += body
        self.marks.append(mark)

    def on_room(self) -> None: ...

    def on_over(self, error: Exception | None) -> None: ...


@pytest.fixture
async def ends() -> tuple[End, End]:
    """A pipe and the other one."""
    one, two = End(), End()
    one.link.other, two.link.other = two.pipe, one.pipe
    return one, two


def later(seconds: float) -> float:
    """A time on the clock of the loop."""
    return asyncio.get_running_loop().time() + seconds


@pytest.mark.parametrize("reconnects", [True, False])
async def test_a_lost_word_of_room_stops_nothing_for_ever(ends: tuple[End, End], reconnects: bool) -> None:
    """Everything has arrived, the window is full, and the acknowledgement that opens it is lost while the sender, or
    something between, was away: the sender asks, and is told."""
    one, two = ends
    one.pipe.send(b"x" * WINDOW)
    two.pipe.tell()
    assert one.pipe.all_arrived
    assert not one.pipe.may_send
    two.link.lost = True
    two.pipe.use(WINDOW)
    two.link.lost = False
    if reconnects:
        await one.pipe._on_reconnect()
        two.pipe.tick(later(0.5))
    else:
        one.pipe.tick(later(9))
        two.pipe.tick(later(9.5))
    assert one.pipe.may_send


async def test_nothing_is_no_chunk(ends: tuple[End, End]) -> None:
    """Bytes without bytes or mark have no place, so they are neither sent nor, from somebody else, taken: they would
    never be acknowledged, and no window would limit them."""
    one, two = ends
    assert not list(chunks(b"", ""))
    assert list(chunks(b"", END)) == [(b"", END)]
    with pytest.raises(ProtocolError, match="a chunk of nothing"):
        one.pipe.send(b"")
    assert two.marks == []


async def test_a_slow_line_carries_nothing_twice(ends: tuple[End, End]) -> None:
    """While the socket still holds bytes that were sent, silence is no loss: they are not sent again."""
    link, pipe = ends[0].link, ends[0].pipe
    link.lost, link.waiting = True, 1
    pipe.send(b"x")
    pipe.tick(later(9))
    assert link.pushed == 1
    link.waiting = 0
    pipe.tick(later(9))
    assert link.pushed == 2


def test_a_message_in_very_many_parts() -> None:
    """Each part costs the same, however many came before: nobody can keep the other side busy with counting."""
    messages = Messages()
    for _ in range(300_000):
        assert messages.add(b"x", "") is None
    assert messages.add(b"y", MESSAGE) == b"x" * 300_000 + b"y"
    with pytest.raises(TooLarge, match="16 MiB"):
        messages.add(bytes((16 << 20) + 1), "")
