"""Requests to the services beside the broker, on `jsnats.<kind>.<principal>.<verb>`.

The broker pins the principal, so it is known who asks. Any number of services share the work as a queue group. Each
request is a JSON object, and gets an answer or an error, whatever it holds and whatever goes wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from jsnats.schemas import (
    JSON,
    STORE_FULL,
    BrokerError,
    Busy,
    CallError,
    DriverError,
    InvalidArgument,
    MethodNotFound,
    ProtocolError,
    StorageFull,
    check_request,
    decode_json,
    encode_error,
    encode_json,
    headers as h,
    parse_request,
)
from jsnats.sdk import ApiError, Connection, Disconnected, Message, Subscription

MAX_OPEN = 256

Verb = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Takes who asks and the fields of the request, and returns those of the answer. Raises CallError and BrokerError; may
be called again with the same fields."""


class Requests:
    """Hands requests of one kind to their verbs, and the answers back. `service` is what the kind is called in
    messages to people."""

    def __init__(self, connection: Connection, kind: str, verbs: Mapping[str, Verb], service: str) -> None:
        self._connection = connection
        self._kind = kind
        self._verbs = verbs
        self._service = service
        self._log = logging.getLogger(f"jsnats.{service}")
        self._open = 0
        self._subscription: Subscription | None = None

    async def serve(self) -> None:
        """Subscribe, if that is not done; the service ends with its connection."""
        if self._subscription:
            return
        self._subscription = await self._connection.subscribe(
            f"jsnats.{self._kind}.>", self.receive, queue=f"jsnats-{self._kind}"
        )
        await self._connection.flush()

    async def pause(self) -> None:
        """Take no more requests until `serve` is called again."""
        subscription, self._subscription = self._subscription, None
        if subscription:
            await subscription.close()

    async def receive(self, message: Message) -> None:
        """Take a request; it is answered in a task of its own."""
        try:
            asked = parse_request(message.subject, self._kind)
            check_request(message.reply, asked.principal, message.headers)
        except ProtocolError as error:
            self._log.debug("a request was dropped: %s", error)
            return
        self._open += 1
        self._connection.spawn(self._answer(message, asked.principal, asked.verb))

    async def _answer(self, message: Message, who: str, verb: str) -> None:
        headers, body = {"Content-Type": JSON}, b""
        try:
            body = encode_json(await self.do(who, verb, message.data))
        except CallError as error:
            code, body = encode_error(error, JSON)
            headers |= {h.ERROR: _one_line(error), h.ERROR_CODE: str(code)}
        finally:
            self._open -= 1
        with suppress(BrokerError):
            await self._connection.publish(message.reply, body, headers=headers)

    async def do(self, who: str, verb: str, body: bytes) -> dict[str, Any]:
        """Run a verb. Raises CallError, whatever goes wrong."""
        if self._open > MAX_OPEN:
            raise Busy(f"the {self._service} has too many requests at once: try again")
        if verb not in self._verbs:
            raise MethodNotFound(f"the {self._service} has no {verb[:40]!r}: it has {', '.join(self._verbs)}")
        try:
            return await self._carry_out(verb, who, self._fields(body))
        except CallError:
            raise
        except ApiError as error:
            raise self._refusal(error) from error
        except (BrokerError, TimeoutError) as error:
            raise DriverError(f"the {self._service} cannot do that now: {error}") from error
        except Exception as error:  # the service outlives whatever a request does to it
            self._log.exception("%s of %s failed", verb, who)
            raise DriverError(f"the {self._service} failed at {verb}: see the broker's log") from error

    async def _carry_out(self, verb: str, who: str, fields: dict[str, Any]) -> dict[str, Any]:
        while True:
            try:
                return await self._verbs[verb](who, fields)
            except Disconnected:  # each may be repeated, and in a cluster the asker may not have noticed
                await self._connection.wait_connected()

    def _fields(self, body: bytes) -> dict[str, Any]:
        try:
            fields = decode_json(body) if body else {}
        except ProtocolError as error:
            raise InvalidArgument(str(error)) from error
        if not isinstance(fields, dict):
            raise InvalidArgument(f"a request to the {self._service} is a JSON object")
        return fields

    def _refusal(self, error: ApiError) -> CallError:
        if error.code in STORE_FULL:
            return StorageFull(f"the broker has no room for what the {self._service} must write down ({error})")
        return DriverError(f"the broker refused what the {self._service} asked: {error}")


def _one_line(error: CallError) -> str:
    return " ".join(str(error).split())[:200]
