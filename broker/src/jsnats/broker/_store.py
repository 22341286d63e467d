"""The store service: the one who writes manifests, keeps quotas, and removes files.

Requests come on `jsnats.store.<principal>.<verb>`, and the broker pins the principal: so it is known who asks. Chunks
do not pass here, clients store and read them themselves. Any number of services share the work as a queue group.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
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
from jsnats.sdk import ApiError, Connection, Context, Disconnected, Message, open_connection

from ._storekeeper import Admins, Storekeeper

log = logging.getLogger("jsnats.store")

SCHEDULER_NAME = "scheduler"
"""Name of the principal that the services beside the broker connect as."""

QUEUE = "jsnats-store"
MAX_OPEN = 256
SWEEP_S = 3600.0
RETRY_S = 60.0


class Store:
    """Hands requests to the keeper, and its answers back."""

    def __init__(self, connection: Connection, keeper: Storekeeper) -> None:
        self._connection = connection
        self._keeper = keeper
        self._open = 0

    async def receive(self, message: Message) -> None:
        """Take a request; it is answered in a task of its own."""
        try:
            asked = parse_request(message.subject, "store")
            check_request(message.reply, asked.principal, message.headers)
        except ProtocolError as error:
            log.debug("a request was dropped: %s", error)
            return
        self._open += 1
        self._connection.spawn(self._answer(message, asked.principal, asked.verb))

    async def _answer(self, message: Message, who: str, verb: str) -> None:
        headers, body = {"Content-Type": JSON}, b""
        try:
            body = encode_json(await self._do(who, verb, message.data))
        except CallError as error:
            code, body = encode_error(error, JSON)
            headers |= {h.ERROR: _one_line(error), h.ERROR_CODE: str(code)}
        finally:
            self._open -= 1
        with suppress(BrokerError):
            await self._connection.publish(message.reply, body, headers=headers)

    async def _do(self, who: str, verb: str, body: bytes) -> dict[str, Any]:
        """Run a verb. Raises CallError, whatever goes wrong."""
        if self._open > MAX_OPEN:
            raise Busy("the store has too many requests at once: try again")
        if verb not in self._keeper.verbs:
            raise MethodNotFound(f"the store has no {verb[:40]!r}: it has {', '.join(self._keeper.verbs)}")
        try:
            return await self._carry_out(verb, who, _fields(body))
        except CallError:
            raise
        except ApiError as error:
            raise _refusal(error) from error
        except (BrokerError, TimeoutError) as error:
            raise DriverError(f"the store cannot do that now: {error}") from error
        except Exception as error:  # the service outlives whatever a request does to it
            log.exception("%s of %s failed", verb, who)
            raise DriverError(f"the store failed at {verb}: see the broker's log") from error

    async def _carry_out(self, verb: str, who: str, fields: dict[str, Any]) -> dict[str, Any]:
        while True:
            try:
                return await self._keeper.verbs[verb](who, fields)
            except Disconnected:  # each may be repeated, and in a cluster the asker may not have noticed
                await self._connection.wait_connected()

    async def sweep_for_ever(self) -> None:
        """Sweep now and every hour."""
        while True:
            try:
                await self._keeper.sweep()
            except BrokerError as error:
                log.warning("the store could not be swept: %s", error)
                await asyncio.sleep(RETRY_S)
            except Exception:  # whatever lies in the streams, the next hour is another try
                log.exception("the store could not be swept")
                await asyncio.sleep(SWEEP_S)
            else:
                await asyncio.sleep(SWEEP_S)


@asynccontextmanager
async def serving_store(context: Context, is_admin: Admins, **options: Any) -> AsyncIterator[Store]:
    """Serve as the scheduler of `context`, through outages of the broker, for as long as the `async with`.

    `options` are those of Storekeeper.
    """
    connection = await open_connection(context, name="jsnats store")
    try:
        store = Store(connection, Storekeeper(connection, is_admin, **options))
        await connection.subscribe("jsnats.store.>", store.receive, queue=QUEUE)
        await connection.flush()
        connection.spawn(store.sweep_for_ever())
        yield store
    finally:
        await connection.close()


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = decode_json(body) if body else {}
    except ProtocolError as error:
        raise InvalidArgument(str(error)) from error
    if not isinstance(fields, dict):
        raise InvalidArgument("a request to the store is a JSON object")
    return fields


def _refusal(error: ApiError) -> CallError:
    if error.code in STORE_FULL:
        return StorageFull(f"the broker has no room for what the store must write down ({error})")
    return DriverError(f"the broker refused what the store asked: {error}")


def _one_line(error: CallError) -> str:
    return " ".join(str(error).split())[:200]
