"""An exporter's name belongs to one agent instance at a time: the presence record says to which.

The record lives 10 s and is refreshed every 3 s, each time by compare-and-set, so two agents can never both believe
that the name is theirs. A new agent takes the name before it subscribes. If the record names another instance, that
one is probed: when nobody answers the name is taken over at once. A record that a scheduler has declared `offline`
names nobody; the agent that it was about, if it lives after all, writes its own again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, Literal

from jsnats.schemas import (
    PRESENCE,
    BrokerError,
    ConfigurationError,
    ExporterState,
    PresenceRecord,
    presence_key,
)
from jsnats.sdk import Conflict, Connection, NoResponders, Record, last_record, put_record

log = logging.getLogger("jsnats.agent")

TTL_S = 10
REFRESH_S = 3.0
RETRY_S = 0.25
SERVICE = "jsnats-exporter"
STARTING: Final = "starting"
"""The name is taken, but nobody is served yet; or no longer, because the drivers are about to be made anew."""
OFFLINE: Final = "offline"


class NameTaken(ConfigurationError):
    """Another agent serves that exporter."""

    exit_code = 6


class Presence:
    """Holds the name of one exporter for one instance.

    `lost` is called once when another instance took it, `back` when it is there again after it was declared offline.
    """

    def __init__(
        self,
        connection: Connection,
        exporter: str,
        instance: str,
        lost: Callable[[], None],
        back: Callable[[], None],
    ) -> None:
        self.connection = connection
        self.exporter = exporter
        self.instance = instance
        self.previous: PresenceRecord | None = None  # what was there when the name was taken
        self._lost = lost
        self._back = back
        self._record = PresenceRecord(
            instance=instance, host=socket.gethostname(), pid=os.getpid(), since=time.time(), state=STARTING
        )
        self._revision = 0
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._refresher: asyncio.Task[None] | None = None

    async def claim(self) -> None:
        """Take the name, as one who is still starting. Raises NameTaken when a live agent has it."""
        for _ in range(5):
            held = await last_record(self.connection, PRESENCE.name, presence_key(self.exporter))
            await self._check_free(held)
            if held and (told := held.body or held.end):
                self.previous = PresenceRecord.decode(told)
                # Whoever starts after an agent that dies here knows just as well which lease was running.
                last = self.previous
                self._record = replace(self._record, epoch=last.epoch, ended=last.ended, before=last.was)
            try:
                await self._put(held.revision if held else 0)
            except Conflict:
                await asyncio.sleep(RETRY_S)  # the server that was read from may be behind
                continue
            self._refresher = asyncio.ensure_future(self._refresh_loop())
            return
        raise NameTaken(f"exporter {self.exporter!r} is being taken by several agents at once: stop all but one")

    def say(self, state: ExporterState | Literal["starting"], *, epoch: int, ended: int, reason: str) -> None:
        """Tell what the exporter does now; it is written at once, or when the broker is back."""
        record = replace(self._record, state=state, epoch=epoch, ended=ended, reason=reason, before="")
        self._record = replace(record, before=self._record.was) if state == STARTING else record
        self._changed.set()

    async def _check_free(self, held: Record | None) -> None:
        if held is None or not held.body:
            return
        other = PresenceRecord.decode(held.body)
        if other.state == OFFLINE or other.instance == self.instance:
            return
        if await self._alive(other.instance):
            raise NameTaken(
                f"exporter {self.exporter!r} is already served by an agent on {other.host} (pid {other.pid}): "
                "stop that one or choose another name"
            )

    async def _alive(self, instance: str) -> bool:
        try:
            await self.connection.request(f"$SRV.PING.{SERVICE}.{instance}", timeout_s=2.0)
        except NoResponders:
            return False
        except TimeoutError:
            log.info("the agent that serves %s does not answer, its record has not expired yet", self.exporter)
            return True
        return True

    async def _put(self, expect: int) -> None:
        self._changed.clear()
        self._revision = await put_record(
            self.connection, presence_key(self.exporter), self._record.encode(), expect=expect, ttl_s=TTL_S
        )

    async def _refresh_loop(self) -> None:
        retry_s = RETRY_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._changed.wait()
            try:
                await self.refresh()
                retry_s = RETRY_S
            except (BrokerError, TimeoutError) as error:
                log.debug("presence of %s not refreshed: %s", self.exporter, error)
                self._changed.set()
                await asyncio.sleep(retry_s)
                await self.connection.connected.wait()
                retry_s = min(2 * retry_s, REFRESH_S)

    async def refresh(self) -> None:
        """Renew the record; see whether the name is still ours. Raises BrokerError, TimeoutError."""
        async with self._writing:
            try:
                await self._put(self._revision)
            except Conflict:
                await self._regain()

    async def _regain(self) -> None:
        """Our revision is not the last: our own write whose answer was lost, an expiry, or another agent."""
        held = await last_record(self.connection, PRESENCE.name, presence_key(self.exporter))
        if held and held.revision < self._revision:
            raise TimeoutError("the server that was read from is behind")  # what it has is older than ours
        other = PresenceRecord.decode(held.body) if held and held.body else None
        if other and other.instance != self.instance and other.state != OFFLINE:
            self._stop()
            log.error("exporter %s was taken over by another agent", self.exporter)
            self._lost()
            return
        try:
            await self._put(held.revision if held else 0)
        except Conflict:
            log.debug("presence of %s changed again; next refresh decides", self.exporter)
            self._changed.set()
            return
        if other and other.state == OFFLINE:
            self._back()

    def _stop(self) -> None:
        if self._refresher:
            self._refresher.cancel()

    async def release(self) -> None:
        """Give the name back, so that everybody sees the exporter go at once; who takes it next learns from what is
        left which lease was running."""
        self._stop()
        key = presence_key(self.exporter)
        try:
            held = await last_record(self.connection, PRESENCE.name, key)  # a write may just have been interrupted
            if held and held.body and PresenceRecord.decode(held.body).instance == self.instance:
                left = self._record.encode()
                await put_record(self.connection, key, left, expect=held.revision, delete=True)
        except (BrokerError, Conflict, TimeoutError) as error:
            log.debug("presence of %s not released, it expires by itself: %s", self.exporter, error)
