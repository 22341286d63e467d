"""What a lab has beside its nats-server: the streams, the store of files, the scheduler."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from jsnats.schemas import ADMIN, ConfigurationError
from jsnats.sdk import Context, open_connection

from ._ensure import ensure_streams
from ._lab_dir import BROKER, LabDir
from ._links import serving_sites
from ._retention import AS_TABLE, Retention
from ._serve_scheduler import SCHEDULER_NAME, serving_scheduler
from ._store import serving_store
from ._storekeeper import Admins


@asynccontextmanager
async def serving_lab(lab: LabDir, *, policy: str | os.PathLike[str] | None = None) -> AsyncIterator[None]:
    """Make the streams of a lab whose servers somebody else runs, and serve beside them.

    Raises ConfigurationError for a lab without such servers, BrokerUnreachable, BrokerUnfit.
    """
    outside = lab.outside()
    if outside is None:
        raise ConfigurationError(f"the lab in {lab.path} has no servers outside: `jsnats broker config` names them")
    settings = lab.settings()
    await provision(lab.context(BROKER), settings.store_bytes, replicas=outside.replicas, retention=settings.retention)
    async with serving(lab.context(SCHEDULER_NAME), admins_of(lab), policy=policy or lab.policy), serving_sites(lab):
        yield


@asynccontextmanager
async def serving(
    context: Context,
    is_admin: Admins,
    *,
    policy: str | os.PathLike[str] | None,
    scheduler: bool = True,
    alone: bool = False,
) -> AsyncIterator[None]:
    """The store and the scheduler, as the principal of `context`; `alone`: nobody else serves that lab."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving_store(context, is_admin, alone=alone))
        if scheduler:
            await stack.enter_async_context(serving_scheduler(context, policy=policy))
        yield


def admins_of(lab: LabDir) -> Admins:
    """Who says whether a principal of the lab may do anything."""
    return lambda token: any((each.token, each.role, each.site) == (token, ADMIN, "") for each in lab.principals())


async def provision(context: Context, total_bytes: int, *, replicas: int = 1, retention: Retention = AS_TABLE) -> None:
    """Make the streams, each stored on so many servers, or bring them to what they should be."""
    async with await open_connection(context, name="jsnats broker") as nc:
        await ensure_streams(nc, total_bytes, replicas=replicas, retention=retention)
