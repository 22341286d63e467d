"""The store service: the one who writes manifests, keeps quotas, and removes files.

Requests come on `jsnats.store.<principal>.<verb>`. Chunks do not pass here, clients store and read them themselves.
Only one store serves a lab at a time: what it finds must not change while it makes room, and that takes many requests.
The others stand by.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from jsnats.schemas import BrokerError
from jsnats.sdk import Context, open_connection

from ._requests import Requests
from ._storekeeper import Admins, Storekeeper
from ._turn import TURNS, Turn

log = logging.getLogger("jsnats.store")

SWEEP_S = 3600.0
RETRY_S = 60.0
STORE_TURN = f"{TURNS}store"
"""The record of whose turn it is."""


async def _sweep_for_ever(keeper: Storekeeper) -> None:
    """Sweep now and every hour."""
    while True:
        try:
            await keeper.sweep()
        except BrokerError as error:
            log.warning("the store could not be swept: %s", error)
            await asyncio.sleep(RETRY_S)
        except Exception:  # whatever lies in the streams, the next hour is another try
            log.exception("the store could not be swept")
            await asyncio.sleep(SWEEP_S)
        else:
            await asyncio.sleep(SWEEP_S)


async def _serve_in_turn(turn: Turn, requests: Requests, keeper: Storekeeper) -> None:
    """Serve whenever it is our turn."""
    while True:
        await turn.mine.wait()
        log.info("the store of the lab serves here")
        await requests.serve()
        async with asyncio.TaskGroup() as group:
            sweeping = group.create_task(_sweep_for_ever(keeper))
            await turn.lost.wait()
            await requests.pause()
            sweeping.cancel()


@asynccontextmanager
async def serving_store(
    context: Context, is_admin: Admins, *, alone: bool = False, **options: Any
) -> AsyncIterator[Storekeeper]:
    """Serve as the scheduler of `context`, through outages of the broker, for as long as the `async with`.

    When the lab has a store elsewhere, stand by and take its place within 10 s of its death; `alone`: there cannot be
    another. `options` are those of Storekeeper.
    """
    connection = await open_connection(context, name="jsnats store")
    turn = Turn(connection, STORE_TURN, secrets.token_hex(8))
    try:
        keeper = Storekeeper(connection, is_admin, **options)
        requests = Requests(connection, "store", keeper.verbs, "store")
        if alone:
            await requests.serve()
            connection.spawn(_sweep_for_ever(keeper))
        else:
            await turn.attempt()
            if turn.mine.is_set():
                await requests.serve()  # whoever waits for us finds it there
            connection.spawn(turn.run())
            connection.spawn(_serve_in_turn(turn, requests, keeper))
        yield keeper
    finally:
        await turn.give_back()
        await connection.close()
