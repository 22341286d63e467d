"""Backup of a lab that runs: what its streams and records hold, who may connect, how it is set up.

In which order, and why: records first, then what tells of them. A lease that is in the archive has its event there; one
that was granted while the backup was made may have an event and no record, and its exporter ends it after a restore.
Trees come before the interfaces they name, and what is known of files before the files. Nobody has to stop for it.

Left out is what is true only now: who is there (exporters tell that again within seconds), and results of calls that
run, which nobody could take up. Secrets are left out unless asked for: public keys are enough to let everybody in again
who has his context file. Passwords of MQTT and what consoles said are in any case, so the file is for its owner only.

Buckets are saved as records and not as snapshots, because they cannot come back as they were: see `_restore.py`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from jsnats.schemas import (
    BLOBS,
    CONSOLE,
    EVENTS,
    LOGS,
    PRESENCE,
    RESULTS,
    STORE,
    STREAMS,
    LeaseRecord,
    ProtocolError,
    QueueRecord,
    StreamSpec,
)
from jsnats.sdk import Connection, Record, mirrored

from ._archive import FORMAT, LAB, Writer
from ._lab_dir import LabDir
from ._lab_state import LEASE, QUEUE
from ._transfer_stream import save_stream
from ._turn import TURNS

OPTIONAL = {"blobs": (BLOBS, STORE), "console": (CONSOLE,), "logs": (LOGS,), "events": (EVENTS,)}
"""What a backup may go without: the streams that this leaves out."""
NEVER = (PRESENCE, RESULTS)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Saved:
    """What an archive has of a stream: so many messages, or records, of so many bytes."""

    stream: str
    messages: int
    bytes: int


async def back_up(
    lab: LabDir,
    nc: Connection,
    archive: Writer,
    *,
    without: Collection[str] = (),
    creds: bool = False,
    progress: Progress = lambda done, total: None,
) -> list[Saved]:
    """Write the whole lab into `archive`. `without` are keys of OPTIONAL; with `creds` context files are in it as well.

    `progress` is told bytes of the streams, done and in all, about. Raises BrokerUnreachable, BrokerUnfit; the archive
    is not whole then.
    """
    out = [*NEVER, *(spec for name in without for spec in OPTIONAL[name])]
    specs = [spec for spec in STREAMS if spec not in out]
    infos = {spec.name: (await nc.api(f"STREAM.INFO.{spec.name}"))["state"]["bytes"] for spec in specs}
    save = _Save(nc, archive, sum(infos.values()), progress)
    await save.put(LAB, json.dumps(_about(lab, without, await nc.api("INFO")), indent=1).encode())
    for path in lab.secret_files() if creds else ():
        await save.put(path.relative_to(lab.path).as_posix(), path.read_bytes())
    saved = []
    for spec in specs:
        saved.append(await (save.bucket(spec) if spec.kv else save.stream(spec)))
        save.done_with(infos[spec.name])
    await asyncio.to_thread(archive.finish)
    return saved


def _about(lab: LabDir, without: Collection[str], info: dict[str, Any]) -> dict[str, Any]:
    policy = lab.policy.read_text() if lab.policy.exists() else None
    return {
        "format": FORMAT,
        "made": time.time(),
        "api_level": info.get("api", {}).get("level", 0),
        "without": sorted(without),
        "settings": asdict(lab.settings()),
        "principals": lab.rows(),
        "policy": policy,
    }


class _Save:
    """Writes one part after the other, in a thread: a pipe may be slow, and the broker wants its pings answered."""

    def __init__(self, nc: Connection, archive: Writer, total: int, progress: Progress) -> None:
        self._nc = nc
        self._archive = archive
        self._total = total
        self._progress = progress
        self._done = self._begun = 0

    async def put(self, name: str, data: bytes) -> None:
        await asyncio.to_thread(self._archive.put, name, data)
        # A snapshot is packed: what it comes to is known only when it is done.
        self._progress(min(self._done + self._archive.size - self._begun, self._total), self._total)

    def done_with(self, size: int) -> None:
        """A part of that many bytes is done."""
        self._done += size
        self._begun = self._archive.size
        self._progress(min(self._done, self._total), self._total)

    async def bucket(self, spec: StreamSpec) -> Saved:
        async with mirrored(self._nc, spec.name, spec.subjects) as mirror:
            lines = list(_lines(mirror.records))
        await self.put(f"buckets/{spec.name}", b"".join(lines))
        return Saved(spec.name, len(lines), sum(map(len, lines)))

    async def stream(self, spec: StreamSpec) -> Saved:
        state = await save_stream(self._nc, spec.name, lambda name, data: self.put(f"streams/{spec.name}/{name}", data))
        return Saved(spec.name, state["messages"], state["bytes"])


def _lines(records: dict[str, Record]) -> Iterator[bytes]:
    for subject, record in sorted(records.items(), key=lambda item: item[1].revision):
        if record.body and not subject.startswith(TURNS):
            body = base64.b64encode(_complete(subject, record)).decode()
            yield json.dumps({"subject": subject, "body": body}).encode() + b"\n"


def _complete(subject: str, record: Record) -> bytes:
    """A record with what its revision means written into it, since it will have another one."""
    kind = next((cls for prefix, cls in _NUMBERED.items() if subject.startswith(prefix)), None)
    if kind is None:
        return record.body
    try:
        return kind.decode(record.body).at(record.revision).encode()
    except ProtocolError:
        return record.body  # whoever reads it will say so


_NUMBERED: dict[str, type[LeaseRecord] | type[QueueRecord]] = {LEASE.prefix: LeaseRecord, QUEUE.prefix: QueueRecord}
