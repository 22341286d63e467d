"""The way to the broker for commands that stand beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jsnats.schemas import BrokerUnreachable
from jsnats.sdk import Connection, open_connection

from ._lab_dir import BROKER, LabDir


@asynccontextmanager
async def at_broker(lab: LabDir, command: str) -> AsyncIterator[Connection]:
    """Be connected as the lab's own admin, for `jsnats broker` and that command.

    Raises BrokerUnreachable, which says how the broker of that lab is started.
    """
    context = lab.context(BROKER)
    try:
        nc = await open_connection(context, name=f"jsnats broker {command}")
    except BrokerUnreachable as error:
        start = f"start the servers of {lab.conf}" if lab.outside() else f"`jsnats broker run{lab.option}` starts it"
        raise BrokerUnreachable(f"no broker at {context.url}: {start}") from error
    async with nc:
        yield nc
