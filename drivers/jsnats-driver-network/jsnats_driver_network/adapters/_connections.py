"""The local connections of an adapter. Each has a stream of its own, so that none waits for another."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from jsnats.client import DriverClient
from jsnats.common.exceptions import JsnatsError
from jsnats.sdk import DuplexStream

from ._accept import Acceptor
from ._local import LocalEnd

log = logging.getLogger("jsnats.forward")


class Connections:
    """Carries local connections until `close`. `where` names the local side in the log."""

    def __init__(self, open_stream: Callable[[], Awaitable[DuplexStream]], where: str) -> None:
        self._open_stream = open_stream
        self._tasks: dict[asyncio.Task[None], LocalEnd] = {}
        self._acceptors: list[Acceptor] = []
        self.where = where

    @classmethod
    def to(cls, client: DriverClient, method: str, where: str) -> Connections:
        """Connections whose streams are those that `method` of the driver opens."""
        return cls(lambda: client.open_stream_async(method), where)

    def listen(self, *listeners: socket.socket) -> None:
        """Carry every connection that is made to these sockets, and close them in the end."""
        self._acceptors += [Acceptor(each, self._local) for each in listeners]

    async def take(self, connection: socket.socket) -> None:
        """Carry this one."""
        await asyncio.get_running_loop().connect_accepted_socket(self._local, connection)

    def _local(self) -> LocalEnd:
        return LocalEnd(self._begin)

    def _begin(self, local: LocalEnd) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(local))
        self._tasks[task] = local
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task).reset()  # not in the task itself: one cancelled before its first step would never do it

    async def _serve(self, local: LocalEnd) -> None:
        """One connection from its beginning to its end. Its failure is told in one line and ends no other."""
        try:
            async with await self._open_stream() as stream:
                await local.carry(stream)
            if not local.left:
                local.transport.close()
                await local.closed.wait()
        except JsnatsError as error:
            log.warning("%s: closed a connection: %s", self.where, error)
        except Exception:  # the log is all that hears of it
            log.exception("%s: a connection broke", self.where)

    async def close(self, *, at_once: bool) -> None:
        """Stop listening and cut every connection: once the driver has got what was said on it, or `at_once`."""
        for acceptor in self._acceptors:
            await acceptor.close()
        for task, local in self._tasks.items():
            if not local.leave() or at_once:
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
