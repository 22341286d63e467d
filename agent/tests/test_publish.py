"""The sending end of a stream, with a broker that answers when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from jsnats.agent import _publish
from jsnats.agent._publish import UNLIMITED, Publisher
from jsnats.common.exceptions import OutcomeUnknown
from jsnats.schemas import MSGPACK, headers as h
from jsnats.sdk import Connection
from jsnats.sdk._replies import Replies


class SilentBroker:
    """A connection that stands, to a broker that takes everything and acknowledges nothing."""

    clustered = False

    def __init__(self) -> None:
        self.replies = Replies("bench")
        self.connected = asyncio.Event()
        self.connected.set()
        self.on_reconnect: list[Callable[[], Awaitable[None]]] = []
        self.sent: asyncio.Queue[str] = asyncio.Queue()

    async def publish(self, subject: str, body: bytes = b"", *, reply: str = "", headers: Any = None) -> None:
        """Note the index of the message."""
        self.sent.put_nowait(headers[h.INDEX])


def publisher_to(broker: SilentBroker) -> Publisher:
    """A publisher whose reader takes everything."""
    return Publisher(cast("Connection", broker), "alice", "bench", "0" * 32, MSGPACK, credit=UNLIMITED)


async def test_a_slow_first_acknowledgement_is_waited_for() -> None:
    """A second of silence makes the publisher send the first message again, not give the call up."""
    broker = SilentBroker()
    publisher = publisher_to(broker)
    publisher.open()
    await publisher.send(["first"])
    async with asyncio.timeout(5):
        assert [await broker.sent.get(), await broker.sent.get()] == ["0", "0"]
    assert publisher.error is None
    publisher.close()


async def test_a_broker_that_never_acknowledges_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its disk full a broker stores nothing and says nothing: the call ends, and says where to look."""
    monkeypatch.setattr(_publish, "UNSTORED_S", 0.1)
    publisher = publisher_to(SilentBroker())
    publisher.open()
    await publisher.send(["first"])
    async with asyncio.timeout(5):
        with pytest.raises(OutcomeUnknown, match="is its disk full"):
            await publisher.end("ok")
    publisher.close()
