"""One direction of a two-way stream: what is sent, kept, taken and acknowledged."""

from __future__ import annotations

import random

import pytest

from jsnats.schemas import (
    CHUNK,
    CLOSE,
    END,
    KEPT,
    MESSAGE,
    Chunk,
    Incoming,
    Outgoing,
    ProtocolError,
    ack_headers,
    chunk_headers,
    headers as h,
    parse_ack,
    parse_chunk,
)


def test_a_mark_has_a_position_of_its_own() -> None:
    """An empty message moves the position by one, so it can be missing and can be acknowledged."""
    out = Outgoing(limit=100)
    ends = [out.add(body, mark).end for body, mark in ((b"abc", ""), (b"", MESSAGE), (b"", MESSAGE), (b"", END))]
    assert ends == [3, 4, 5, 6]


def test_what_is_not_acknowledged_is_kept() -> None:
    """An acknowledgement frees whole chunks up to its position; an older one frees and limits nothing."""
    out = Outgoing(limit=10)
    first, second = out.add(b"abcd"), out.add(b"efgh")
    out.ack(4, 14)
    assert list(out.unacked) == [second]
    out.ack(0, 3)
    assert (list(out.unacked), out.limit, out.acked) == ([second], 14, 4)
    assert first.end == 4


def test_sending_stops_at_the_limit() -> None:
    """A chunk may go while the position is below the limit, and not at it."""
    out = Outgoing(limit=4)
    out.add(b"abc")
    assert out.may_send
    out.add(b"d")
    assert not out.may_send


def test_no_receiver_fills_the_memory_of_a_sender() -> None:
    """However much one grants that acknowledges nothing: the sender keeps KEPT bytes and waits."""
    out = Outgoing(limit=0)
    out.ack(0, 10**17)
    while out.may_send:
        out.add(bytes(CHUNK))
    assert out.position == KEPT
    out.ack(CHUNK, 10**17)
    assert out.may_send


def test_bytes_that_were_never_sent_cannot_be_acknowledged() -> None:
    """Such an acknowledgement is refused."""
    with pytest.raises(ProtocolError, match="acknowledges 1 where only 0"):
        Outgoing(limit=4).ack(1, 4)


def test_only_the_next_chunk_is_taken() -> None:
    """What is known is old, what lies ahead shows a gap, and neither moves anything."""
    into = Incoming(window=100)
    assert into.take(0, 4, "") == "next"
    assert into.take(0, 4, "") == "old"
    assert into.take(8, 4, "") == "gap"
    assert into.take(4, 0, END) == "next"
    assert into.expected == 5


def test_bytes_beyond_the_window_are_refused() -> None:
    """Whoever ignores the limit cannot fill the receiver's memory."""
    with pytest.raises(ProtocolError, match="beyond the window"):
        Incoming(window=10).take(11 + CHUNK + 10, 1, "")


def test_marks_need_no_room() -> None:
    """The chunk that fills the window, the end of the direction and the close behind it are all taken."""
    out, into = Outgoing(limit=10), Incoming(window=10)
    out.add(b"x" * 9)
    assert out.may_send
    for chunk in (*out.unacked, out.add(b"x" * CHUNK), out.add(b"", END), out.add(b"", CLOSE)):
        assert into.take(chunk.offset, len(chunk.body), chunk.mark) == "next"


def test_it_is_acknowledged_each_quarter_of_the_window() -> None:
    """Handing on a quarter says that the sender should be told; telling says so once."""
    into = Incoming(window=8)
    into.take(0, 3, "")
    assert not into.use(1)
    assert into.use(1)
    assert into.untold
    assert into.ack() == (3, 10)
    assert not into.untold


def test_a_lossy_way_loses_and_doubles_nothing() -> None:
    """A third of all messages lost, a third doubled, whole runs swapped: the bytes arrive as they were sent."""
    dice = random.Random(7)
    data = dice.randbytes(200_000)
    out, into, got, at = Outgoing(limit=4096), Incoming(window=4096), bytearray(), 0
    while len(got) < len(data):
        while out.may_send and at < len(data):
            size = dice.randrange(1, 700)
            out.add(data[at : at + size])
            at += size
        wire = [chunk for chunk in out.unacked for _ in range(dice.randrange(3))]
        for start in range(0, len(wire), 4):
            wire[start : start + 4] = (
                reversed(wire[start : start + 4]) if dice.random() < 0.3 else wire[start : start + 4]
            )
        for chunk in wire:
            if into.take(chunk.offset, len(chunk.body), chunk.mark) == "next":
                got += chunk.body
                into.use(len(chunk.body))
        if dice.random() < 0.7:
            out.ack(*into.ack())
    assert bytes(got) == data


def test_headers_say_what_they_mean_both_ways() -> None:
    """Chunks and acknowledgements come back from their headers as they were."""
    assert parse_chunk(chunk_headers(Chunk(CHUNK, b"x", END))) == (CHUNK, END)
    assert parse_chunk(chunk_headers(Chunk(0, b"x"))) == (0, "")
    assert parse_ack(ack_headers(7, 99, resend=True)) == (7, 99)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "9" * 19, "\u0663"])
def test_a_position_is_a_small_whole_number(text: str) -> None:
    """Everything else is refused."""
    with pytest.raises(ProtocolError):
        parse_chunk({h.OFFSET: text})
    with pytest.raises(ProtocolError):
        parse_ack({h.ACK: f"1 {text}"})


def test_an_unknown_mark_is_refused() -> None:
    """A mark changes what the bytes mean, so one that is not understood cannot be passed over."""
    with pytest.raises(ProtocolError, match="unknown mark 'urgent'"):
        parse_chunk({h.OFFSET: "0", h.MARK: "urgent"})
