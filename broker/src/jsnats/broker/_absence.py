"""Exporters that have gone without a word are written down as offline, with the reason and the time.

Three signs: the broker says that the exporter's connection has ended, and a probe finds nobody; its presence has
expired; there is a tree, and no presence at all. An agent that is there after all has renewed its record meanwhile, and
then ours is refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

from jsnats.schemas import PRESENCE as PRESENCE_STREAM, BrokerError, PresenceRecord, TreeRecord, presence_key
from jsnats.sdk import Conflict, Connection, Message, Mirror, NoResponders, Record, leader_record, put_record

from ._lab_state import OFFLINE, PRESENCE, Kind, LabState
from ._outbox import Outbox

log = logging.getLogger("jsnats.scheduler")

TTL_S = 10.0
"""Time to live of a presence record."""
CONFIRM_S = 0.6
"""A connection that was lost is usually back by then; an agent that was killed is not."""
ELSEWHERE_S = 3.0
"""The same in a cluster, where it comes back through another server."""
PROBE_S = 2.0
GRACE_S = 12.0
"""After an outage of the broker, or our own start, agents have that long to say that they are there."""
DISCONNECTS = "$SYS.ACCOUNT.*.DISCONNECT"
CLIENT_NAME = "exporter "
RECHECK_S = 1.0
EXPIRY_S = 0.5
UNHEARD = f"not heard of for {TTL_S:g} s"
_TRIES = 8


class Absence:
    """Watches the exporters of `lab`; `mirror` has their presence."""

    def __init__(self, connection: Connection, lab: LabState, mirror: Mirror, outbox: Outbox) -> None:
        self._connection = connection
        self._lab = lab
        self._mirror = mirror
        self._outbox = outbox
        self._last: dict[str, PresenceRecord] = {}
        self._probing: set[str] = set()
        self._settled = asyncio.Event()
        lab.told.append(self._changed)

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._connection.subscribe(DISCONNECTS, self._disconnected)
        checked = 0
        while True:
            await self._mirror.synced.wait()
            syncs = self._mirror.syncs
            if syncs != checked:
                self._settled.clear()
                await asyncio.sleep(GRACE_S)
            if self._mirror.syncs == syncs and self._mirror.synced.is_set():
                self._settled.set()
                checked = syncs
                for name in [each for each in self._lab.trees if presence_key(each) not in self._mirror.records]:
                    await self._absent(name)
            await asyncio.sleep(RECHECK_S)

    # ------------------------------------------------------------------ the signs

    async def _disconnected(self, message: Message) -> None:
        try:
            told = json.loads(message.data)
            name = str(told["client"]["name"]).removeprefix(CLIENT_NAME)
            reason = str(told.get("reason", ""))
        except (ValueError, KeyError, TypeError):
            return
        presence = self._lab.presence.get(name)
        if presence and presence.state != OFFLINE and name not in self._probing:
            self._probing.add(name)
            self._connection.spawn(self._probe(name, presence.instance, reason))

    async def _probe(self, name: str, instance: str, reason: str) -> None:
        try:
            if await self._nobody_answers(instance):
                await asyncio.sleep(ELSEWHERE_S if self._connection.clustered else CONFIRM_S)
                revision = self._mirror.revision(presence_key(name))
                presence = self._lab.presence.get(name)
                if presence and presence.instance == instance and await self._nobody_answers(instance):
                    await self._write(name, presence, f"its connection has ended: {reason or 'lost'}", revision)
        except Conflict:
            log.debug("%s is back already", name)
        except (BrokerError, TimeoutError) as error:
            log.debug("%s could not be probed: %s", name, error)
        finally:
            self._probing.discard(name)

    async def _nobody_answers(self, instance: str) -> bool:
        if not self._connection.connected.is_set() or self._connection.just_back:
            return False  # others may not be back yet
        try:
            await self._connection.request(f"$SRV.PING.jsnats-exporter.{instance}", timeout_s=PROBE_S)
        except NoResponders:
            return True
        return False

    def _changed(self, kind: Kind, name: str, record: Record) -> None:
        if kind is not PRESENCE:
            return
        if name in self._lab.presence:
            self._last[name] = self._lab.presence[name]
        elif not record.revision and self._settled.is_set() and self._mirror.synced.is_set():
            self._connection.spawn(self._absent(name))

    async def _absent(self, name: str) -> None:
        """Its presence has expired, now or while no scheduler was there."""
        tree = self._lab.trees.get(name)
        last = self._last.get(name) or (_unknown(tree) if tree else None)
        try:
            for _ in range(_TRIES):
                if last is None or name in self._lab.presence:
                    return
                if await leader_record(self._connection, PRESENCE_STREAM.name, presence_key(name)) is None:
                    await self._write(name, last, UNHEARD, expect=0)
                    return
                await asyncio.sleep(EXPIRY_S)  # the broker takes its time to drop it, or it was renewed just now
        except Conflict:
            log.debug("%s is back already", name)
        except (BrokerError, TimeoutError) as error:
            log.debug("%s is offline, which could not be written down: %s", name, error)

    # ------------------------------------------------------------------ what follows

    async def _write(self, name: str, last: PresenceRecord, reason: str, expect: int) -> None:
        """Raises Conflict if it has said something new meanwhile, or another scheduler was faster."""
        now = self._mirror.now()
        body = replace(last, state=OFFLINE, before=last.was, reason=reason, since=now).encode()
        revision = await put_record(self._connection, presence_key(name), body, expect=expect)
        self._mirror.apply(presence_key(name), Record(body, revision))
        self._outbox.put("exporter.offline", name, time=now, reason=reason, instance=last.instance)


def _unknown(tree: TreeRecord) -> PresenceRecord:
    return PresenceRecord(instance=tree.instance, state=OFFLINE)
