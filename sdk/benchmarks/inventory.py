"""Fill a lab with exporters that exist on paper only: their tree and presence records."""

from __future__ import annotations

import asyncio

from jsnats.schemas import NodeRecord, PresenceRecord, TreeRecord, presence_key, tree_key
from jsnats.sdk import Connection, Context, open_connection, put_record

_AT_ONCE = 200
_DRIVERS = ("power", "console", "storage")


async def _put(connection: Connection, name: str) -> None:
    nodes = [
        NodeRecord(path=path, client="jsnats.client.DynamicClient", interface="0" * 64) for path in ("", *_DRIVERS)
    ]
    tree = TreeRecord(
        name=name, instance="0" * 16, nodes=nodes, labels={"board": "rpi4", "site": "lab-1"}, version="0.1.0"
    )
    await put_record(connection, tree_key(name), tree.encode())
    presence = PresenceRecord(instance="0" * 16, host="rack-1", pid=1, since=1.7e9)
    await put_record(connection, presence_key(name), presence.encode())


async def _fill(admin: Context, first: int, end: int) -> None:
    async with await open_connection(admin, name="benchmark") as connection:
        for start in range(first, end, _AT_ONCE):
            await asyncio.gather(*(_put(connection, f"paper-{n}") for n in range(start, min(start + _AT_ONCE, end))))


def fill(admin: Context, first: int, end: int) -> None:
    """Publish the exporters number `first` to `end` - 1."""
    asyncio.run(_fill(admin, first, end))
