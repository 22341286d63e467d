"""The order of results: every item once, whatever the broker and the connection did to the messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from jsnats.schemas import (
    JSON,
    MSGPACK,
    CallCancelled,
    DriverTimeout,
    ProtocolError,
    encode,
    encode_json,
    error_to_wire,
    headers as h,
)
from jsnats.sdk._assemble import Assembler

Message = tuple[dict[str, str], bytes]


def batch(index: int, *items: Any, kind: str = JSON) -> Message:
    """A message with whole items."""
    return {h.INDEX: str(index), h.CONTENT_TYPE: kind}, encode(list(items), kind)


def fragments(index: int, item: Any, count: int) -> list[Message]:
    """The messages of one item that does not fit one."""
    body = encode([item], MSGPACK)
    size = -(-len(body) // count)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    common = {h.INDEX: str(index), h.CONTENT_TYPE: MSGPACK}
    return [({**common, h.PART: f"{part}/{len(pieces)}"}, piece) for part, piece in enumerate(pieces)]


def end(index: int, how: str = "ok", **more: str) -> Message:
    """The last message."""
    return {h.INDEX: str(index), h.END: how, **more}, b""


def feed(assembler: Assembler, *messages: Message) -> list[Any]:
    """All items that come out when these go in."""
    return [item for headers, body in messages for item in assembler.take(headers, body)]


def test_in_order() -> None:
    """Items come out with the message they came in."""
    assembler = Assembler()
    assert feed(assembler, batch(0, "a", "b")) == ["a", "b"]
    assert feed(assembler, batch(2, "c", kind=MSGPACK)) == ["c"]
    assert (assembler.next, assembler.ended) == ((3, 0), False)
    assert feed(assembler, end(3)) == []
    assert (assembler.ended, assembler.error) == (True, None)


def test_duplicates_are_dropped() -> None:
    """A message that was resent gives nothing the second time, and is no sign of a gap."""
    assembler = Assembler()
    assert feed(assembler, batch(0, "a"), batch(0, "a"), batch(1, "b"), batch(0, "a"), batch(1, "b")) == ["a", "b"]
    assert not assembler.gap


def test_gap_holds_what_is_later() -> None:
    """What is beyond a gap waits for what is missing, and `gap` says that something is."""
    assembler = Assembler()
    assert feed(assembler, batch(2, "c"), batch(1, "b")) == []
    assert assembler.gap
    assert feed(assembler, batch(0, "a")) == ["a", "b", "c"]
    assert not assembler.gap


def test_end_waits_for_the_gap() -> None:
    """An end that came early ends nothing while items are missing."""
    assembler = Assembler()
    feed(assembler, batch(0, "a"), end(2))
    assert (assembler.ended, assembler.gap) == (False, True)
    assert feed(assembler, batch(1, "b")) == ["b"]
    assert (assembler.ended, assembler.gap) == (True, False)


def test_nothing_after_the_end() -> None:
    """After the end, nothing is taken."""
    assembler = Assembler()
    assert feed(assembler, end(0), batch(0, "late"), batch(1, "later")) == []
    assert not assembler.gap


def test_empty_batch() -> None:
    """An array without items moves nothing and does not stop the next one."""
    assert feed(Assembler(), batch(0), batch(0, "a")) == ["a"]


def test_fragments() -> None:
    """An item in fragments comes out with the last one, whatever order they came in."""
    big = "x" * 1000
    first, second, third = fragments(1, big, 3)
    assembler = Assembler()
    assert feed(assembler, batch(0, "a"), third, first) == ["a"]
    assert assembler.next == (1, 1)
    assert feed(assembler, first, second, batch(2, "b")) == [big, "b"]


def test_end_with_an_error() -> None:
    """An error at the end is rebuilt as its class, after the items before it."""
    code, body = error_to_wire(DriverTimeout("no rail", path="dut", method="read"))
    assembler = Assembler()
    headers = {h.INDEX: "1", h.END: "error", h.ERROR_CODE: str(code)}
    assert feed(assembler, (headers, encode_json(body)), batch(0, 5)) == [5]
    assert isinstance(assembler.error, DriverTimeout)
    assert str(assembler.error) == "dut.read: no rail"


def test_end_by_cancelling() -> None:
    """A cancelled stream ends with CallCancelled and the reason."""
    assembler = Assembler()
    code, body = error_to_wire(CallCancelled("cancelled: its caller is gone"))
    feed(assembler, ({h.INDEX: "0", h.END: "cancelled", h.ERROR_CODE: str(code)}, encode_json(body)))
    assert isinstance(assembler.error, CallCancelled)
    assert "its caller is gone" in str(assembler.error)


@pytest.mark.parametrize(
    "message",
    [
        ({}, b"[]"),
        ({h.INDEX: "x"}, b"[]"),
        ({h.INDEX: "0", h.PART: "x/2"}, b"[]"),
        ({h.INDEX: "0"}, b"{}"),
        ({h.INDEX: "0"}, b""),
        ({h.INDEX: "0"}, b"["),
        ({h.INDEX: "0", h.CONTENT_TYPE: "text/plain"}, b"[]"),
    ],
)
def test_malformed(message: Message) -> None:
    """A message without a position, or whose body is no array, is a ProtocolError."""
    with pytest.raises(ProtocolError):
        feed(Assembler(), message)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Any], list[Message]]:
    """The items of a stream, and its messages as they may come: shuffled, some of them twice."""
    items: list[Any] = []
    messages: list[Message] = []
    for size in draw(st.lists(st.integers(-3, 5), max_size=12)):
        if size > 0:
            new = [len(items) + at for at in range(size)]
            messages.append(batch(len(items), *new))
            items += new
        elif size < 0:
            text = f"{len(items)}" * 20
            messages += fragments(len(items), text, 1 - size)
            items.append(text)
    messages.append(end(len(items)))
    again = draw(st.lists(st.sampled_from(messages), max_size=len(messages)))
    return items, draw(st.permutations(messages + again))


@given(deliveries())
def test_any_delivery(delivery: tuple[list[Any], list[Message]]) -> None:
    """Whatever order and however often the messages come, every item comes out once, in order, and then the end."""
    items, messages = delivery
    assembler = Assembler()
    assert json.dumps(feed(assembler, *messages)) == json.dumps(items)
    assert (assembler.ended, assembler.error, assembler.gap) == (True, None, False)


@given(deliveries(), st.data())
def test_a_missing_message_stops_everything_after_it(
    delivery: tuple[list[Any], list[Message]], data: st.DataObject
) -> None:
    """Without one of the messages, what comes out is the beginning of the items and never the end."""
    items, messages = delivery
    lost = data.draw(st.sampled_from(messages))
    assembler = Assembler()
    out = feed(assembler, *[message for message in messages if message != lost])
    assert out == items[: len(out)]
    assert len(out) <= int(lost[0][h.INDEX])
    assert not assembler.ended
