"""Who waits for which reply: one subscription carries all replies of a connection, this sorts them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from jsnats.schemas import BrokerError, reply_prefix

from ._nats import Msg

Handler = Callable[[Msg], None]
Fail = Callable[[Exception], None]


@dataclass(slots=True)
class _Waiting:
    subject: str
    handle: Handler
    fail: Fail
    once: bool


class Replies:
    """Reply subjects of one connection, and what to do with what arrives on them."""

    def __init__(self, token: str) -> None:
        self._prefix = f"{reply_prefix(token)}.{secrets.token_hex(8)}."
        self._waiting: dict[str, _Waiting] = {}
        self._count = 0

    @property
    def subject(self) -> str:
        """What the one subscription is for."""
        return self._prefix + "*"

    def expect(self, subject: str, handle: Handler, fail: Fail, *, once: bool = False) -> str:
        """Register for replies to a request on `subject`; return the reply subject to send with it.

        A request that is sent many times may add `+` and a number to it. `once`: a reply that is lost with the
        connection will not come again, so losing that fails the request.
        """
        self._count += 1
        reply = f"{self._prefix}{self._count}"
        self._waiting[reply] = _Waiting(subject, handle, fail, once)
        return reply

    def drop(self, reply: str) -> None:
        """Expect nothing more on that reply subject."""
        self._waiting.pop(reply, None)

    def inbox(self) -> str:
        """A new subject of ours that the one subscription does not cover."""
        self._count += 1
        return f"{self._prefix}inbox.{self._count}"

    def deliver(self, message: Msg) -> None:
        """Callback of the subscription."""
        waiting = self._waiting.get(message.subject) or self._waiting.get(message.subject.partition("+")[0])
        if waiting:
            waiting.handle(message)

    def fail(self, error: BrokerError) -> None:
        """Nothing will arrive any more."""
        for waiting in list(self._waiting.values()):
            waiting.fail(error)

    def fail_lost(self, error: BrokerError) -> None:
        """The connection was lost, and with it what was on its way."""
        for waiting in list(self._waiting.values()):
            if waiting.once:
                waiting.fail(error)

    def fail_denied(self, subject: str, error: BrokerError) -> None:
        """The broker refused a message on `subject`, which nats-py tells in lower case."""
        for waiting in list(self._waiting.values()):
            if waiting.subject.lower() == subject.lower():
                waiting.fail(error)
