"""The store service: the one who writes manifests, keeps quotas, and removes files.

Requests come on `jsnats.store.<principal>.<verb>`. Chunks do not pass here, clients store and read them themselves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from jsnats.schemas import BrokerError
from jsnats.sdk import Context, open_connection

from ._requests import Requests
from ._storekeeper import Admins, Storekeeper

log = logging.getLogger("jsnats.store")

SWEEP_S = 3600.0
RETRY_S = 60.0


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


@asynccontextmanager
async def serving_store(context: Context, is_admin: Admins, **options: Any) -> AsyncIterator[Storekeeper]:
    """Serve as the scheduler of `context`, through outages of the broker, for as long as the `async with`.

    `options` are those of Storekeeper.
    """
    connection = await open_connection(context, name="jsnats store")
    try:
        keeper = Storekeeper(connection, is_admin, **options)
        await Requests(connection, "store", keeper.verbs, "store").serve()
        connection.spawn(_sweep_for_ever(keeper))
        yield keeper
    finally:
        await connection.close()
