"""What the lab's records say during the churn, in the broker's times: who waited, who was served, and each hop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from jsnats.schemas import LAB, PRESENCE, LeaseEnd, PresenceRecord, QueueRecord
from jsnats.sdk import Connection, Delivered, follow

QUEUE, LEASE, EXPORTER = "$KV.jsnats_lab.queue.", "$KV.jsnats_lab.lease.", "$KV.jsnats_presence."


@dataclass(slots=True)
class Wait:
    """One entry of the queue. `granted` is the revision of its grant, 0 if it ended otherwise or has not."""

    group: str
    priority: int
    arrival: int
    since: float
    granted: int = 0
    until: float = 0.0
    board: str = ""

    @property
    def rank(self) -> tuple[int, int]:
        """Who is served first."""
        return -self.priority, self.arrival


@dataclass(slots=True)
class Watch:
    """Waits by id, and when each exporter's lease was granted, deleted, and said to be something."""

    waits: dict[str, Wait] = field(default_factory=dict)
    deleted: dict[str, list[float]] = field(default_factory=dict)
    said: dict[str, list[tuple[float, str]]] = field(default_factory=dict)

    async def run(self, connection: Connection) -> None:
        """Watch for ever."""
        await asyncio.gather(self._follow(connection, LAB.name), self._follow(connection, PRESENCE.name))

    async def _follow(self, connection: Connection, stream: str) -> None:
        async for each in follow(connection, stream, f"$KV.{stream.removeprefix('KV_')}.>"):
            subject = each.message.subject
            if subject.startswith(QUEUE):
                self._take_wait(subject.removeprefix(QUEUE), each)
            elif subject.startswith(LEASE):
                name = subject.removeprefix(LEASE)
                if each.message.headers and "KV-Operation" in each.message.headers:
                    self.deleted.setdefault(name, []).append(each.stored)
            elif subject.startswith(EXPORTER) and not (each.message.headers or {}).get("KV-Operation"):
                name, record = subject.removeprefix(EXPORTER), PresenceRecord.decode(each.message.data)
                self.said.setdefault(name, []).append((each.stored, record.state))

    def _take_wait(self, id_: str, each: Delivered) -> None:
        if not (each.message.headers or {}).get("KV-Operation"):
            record = QueueRecord.decode(each.message.data).at(each.sequence)
            if id_ not in self.waits:
                group = record.selectors[0]
                self.waits[id_] = Wait(group, record.priority, record.arrival, each.stored)
        elif wait := self.waits.get(id_):
            end = LeaseEnd.decode(each.message.data)
            wait.until = each.stored
            if end.boards:
                wait.granted, wait.board = each.sequence, end.boards[0]


def overtaken(watch: Watch, slack_s: float) -> Iterator[str]:
    """Who was served after somebody who came behind him, although the schedulers had `slack_s` before and after to
    see it. Within a group, for all of it fits all."""
    served = sorted((each for each in watch.waits.values() if each.granted), key=lambda each: each.granted)
    for group in {each.group for each in served}:
        waits = {id_: each for id_, each in watch.waits.items() if each.group == group}
        for first in (each for each in served if each.group == group):
            for id_, other in waits.items():
                if other.rank >= first.rank or other.since > first.until - slack_s:
                    continue
                if not other.until or other.until > first.until + slack_s:
                    late = other.until - first.until
                    yield f"{id_} of {group} was to be served before another, and was {late:.3f} s after him"
