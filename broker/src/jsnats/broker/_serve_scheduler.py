"""The scheduler as a service: its connection, its mirrors, its loop, and the requests it answers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from jsnats.schemas import LAB, PRESENCE, TREE
from jsnats.sdk import Context, mirrored, open_connection

from ._absence import Absence
from ._admin_desk import AdminDesk
from ._desk import Desk
from ._lab_state import LabState
from ._ledger import Ledger
from ._outbox import Outbox
from ._policy import PolicyFile
from ._requests import Requests
from ._scheduler import Scheduler

SCHEDULER_NAME = "scheduler"
"""Name of the principal that the services beside the broker connect as."""


@asynccontextmanager
async def serving_scheduler(
    context: Context, *, policy: str | os.PathLike[str] | None = None, name: str = "jsnats scheduler"
) -> AsyncIterator[Scheduler]:
    """Schedule as the principal of `context`, through outages of the broker, for as long as the `async with`.

    `policy` is a file that need not be there. Raises ConfigurationError for one that is wrong, BrokerError.
    """
    rules = PolicyFile(Path(policy) if policy else None)
    connection = await open_connection(context, name=name)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        lab = LabState()
        records, presence, trees = [
            await stack.enter_async_context(mirrored(connection, stream.name, stream.subjects, lab.take))
            for stream in (LAB, PRESENCE, TREE)
        ]
        ledger, outbox = Ledger(connection, records), Outbox(connection)
        scheduler = Scheduler(lab, [records, presence, trees], ledger, outbox)
        desk, admin = Desk(lab, ledger, scheduler, outbox, rules), AdminDesk(lab, ledger, outbox)
        for work in (outbox.run(), scheduler.run(), Absence(connection, lab, presence, outbox).run()):
            connection.spawn(work)
        await Requests(connection, "lease", desk.verbs(), "scheduler").serve()
        everything = desk.verbs(admin=True) | admin.verbs()
        await Requests(connection, "admin", everything, "scheduler").serve()
        yield scheduler
