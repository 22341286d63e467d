"""Accept connections at a listening socket until `close`, and lose none in between.

asyncio's own server forgets a connection that it has accepted while it is closed: it stays open, and nobody reads it
(an assertion in `Server._attach` that only debug mode shows).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

log = logging.getLogger("jsnats.forward")

PAUSE_S: Final = 1.0
"""After an error of the machine, such as too many open files, the next connection is accepted so much later."""


class Acceptor:
    """Gives each connection to a protocol that `make` returns."""

    def __init__(self, listener: socket.socket, make: Callable[[], asyncio.BaseProtocol]) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._make = make
        self._tasks: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        self._watch()

    async def close(self) -> None:
        """Stop listening. Every connection that was accepted has been made by then."""
        if self._pause:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _watch(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # it has gone again
        except OSError as error:
            log.warning("cannot accept a connection: %s", error)
            self._loop.remove_reader(self._listener)
            self._pause = self._loop.call_later(PAUSE_S, self._watch)
            return
        connection.setblocking(False)
        task: asyncio.Task[object] = self._loop.create_task(self._loop.connect_accepted_socket(self._make, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
