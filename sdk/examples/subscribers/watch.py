"""Several readers in one event loop: who takes and gives back boards, and which drivers complain.

python watch.py
"""

from __future__ import annotations

import asyncio
import sys

from jsnats.common.exceptions import JsnatsError
from jsnats.sdk import AsyncLab, connect_async


async def leases(lab: AsyncLab) -> None:
    """One line for each grant and end of a lease."""
    async for event in lab.events(type="lease.*", follow=True):
        print(event.source, event.type, event.data.get("holder", ""), event.data.get("reason", ""), flush=True)


async def complaints(lab: AsyncLab) -> None:
    """One line for each kind of call that failed."""
    async for event in lab.events(type="call.finished", follow=True):
        if event.data["outcome"] == "error":
            print(event.source, event.data["method"], "failed:", event.data["error"], flush=True)


async def main() -> None:
    """Both, until Ctrl-C."""
    async with connect_async() as lab, asyncio.TaskGroup() as group:
        group.create_task(leases(lab))
        group.create_task(complaints(lab))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except JsnatsError as error:
        sys.exit(f"error: {error}")
