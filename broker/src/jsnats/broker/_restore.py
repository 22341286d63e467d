"""Restore of a lab from a backup: into a directory of its own, or into servers that somebody else runs.

Numbers never go back. Streams come back with the sequences and times they had. A bucket's revisions are what leases
are fenced by, what compare-and-set expects, and how far whoever watches has come; after a restore to last night, those
that were given out this morning would be given out a second time. So the records of a bucket are written anew into one
whose revisions begin at the present time in microseconds. No lab writes a million records a second, so that is beyond
all that were ever given out, also after an earlier restore of the same archive.

A lease comes back with the epoch that it had. An exporter that still holds it goes on with it. One that has ended it,
or a later one, says so, and the scheduler drops it; one that holds a later one ends that: nobody knows of it any more.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsnats.schemas import STREAMS, BrokerError, BrokerUnfit, ConfigurationError, StreamSpec
from jsnats.sdk import ApiError, Connection, put_record

from ._archive import Contents, read
from ._backup import Progress
from ._ensure import check_fit, ensure_streams, stream_config
from ._retention import AS_TABLE, Retention
from ._transfer_stream import restore_stream
from ._turn import TURNS

AT_ONCE = 64
_SPECS = {spec.name: spec for spec in STREAMS}


async def restore_streams(
    nc: Connection,
    path: Path,
    contents: Contents,
    total_bytes: int,
    *,
    retention: Retention = AS_TABLE,
    replicas: int = 1,
    replace: bool = False,
    progress: Progress = lambda done, total: None,
) -> None:
    """Make the streams of a lab from the archive `path`, which was checked, on a broker that has none with data.

    With `replace`, what is there goes first. `progress` is told bytes of the archive, done and in all.
    Raises ConfigurationError for a broker with data, or too small; BrokerUnfit, BrokerUnreachable, and then no
    stream is left behind, as far as the broker can be reached.
    """
    await check_fit(nc)
    await _check_level(nc, contents)
    _check_room(contents, total_bytes, retention)
    await _clear(nc, replace=replace)
    try:
        configs = {spec.name: stream_config(spec, total_bytes, retention) for spec in STREAMS}
        configs = {name: config | {"num_replicas": replicas} for name, config in configs.items()}
        await _fill(nc, path, contents, configs, progress)
        await ensure_streams(nc, total_bytes, replicas=replicas, retention=retention)
    except BaseException:
        await asyncio.shield(_undo(nc))
        raise


async def _check_level(nc: Connection, contents: Contents) -> None:
    here, there = (await nc.api("INFO"))["api"]["level"], contents.lab["api_level"]
    if here < there:
        raise BrokerUnfit(
            f"the backup was made by a newer nats-server (API level {there}, here {here}): update nats-server"
        )


def _check_room(contents: Contents, total_bytes: int, retention: Retention) -> None:
    factors = [
        about["state"]["bytes"] / stream_config(_SPECS[name], total_bytes, retention)["max_bytes"]
        for name, about in contents.streams.items()
    ]
    if (worst := max(factors, default=0)) > 1:
        needed = int(total_bytes * worst / 1e6) + 1
        raise ConfigurationError(f"the store is too small for this backup: choose a --store-size of at least {needed}M")


async def _clear(nc: Connection, *, replace: bool) -> None:
    states = {spec.name: await _state(nc, spec) for spec in STREAMS}
    full = [name for name, state in states.items() if state and state["messages"] > _turns(state)]
    if full and not replace:
        raise ConfigurationError(f"there is a lab with data at {nc.context.url} ({', '.join(full)}): see --replace")
    for name, state in states.items():
        if state is not None:
            await nc.api(f"STREAM.DELETE.{name}")


async def _state(nc: Connection, spec: StreamSpec) -> dict[str, Any] | None:
    try:
        info = await nc.api(f"STREAM.INFO.{spec.name}", {"subjects_filter": f"{TURNS}>"})
        state: dict[str, Any] = info["state"]
    except ApiError as error:
        if not error.is_no_stream:
            raise
        return None
    return state


def _turns(state: dict[str, Any]) -> int:
    return sum(state.get("subjects", {}).values())


async def _undo(nc: Connection) -> None:
    for spec in STREAMS:
        try:
            await nc.request(f"$JS.API.STREAM.DELETE.{spec.name}")
        except (BrokerError, TimeoutError):
            return  # it is away; whoever tries again is told that there is data


async def _fill(
    nc: Connection, path: Path, contents: Contents, configs: dict[str, dict[str, Any]], progress: Progress
) -> None:
    first = int(time.time() * 1e6)
    for spec in STREAMS:
        if spec.kv:
            await nc.api(f"STREAM.CREATE.{spec.name}", configs[spec.name] | {"first_seq": first}, timeout_s=30)
    members = _told(read(path), contents.bytes, progress)
    for name, group in itertools.groupby(members, key=lambda member: member[0].rpartition("/")[0]):
        kind, _, stream = name.partition("/")
        if kind == "streams":
            _, definition = next(group)
            config = json.loads(definition)["config"] | configs[stream]
            await restore_stream(nc, config, (data for _, data in group))
        elif kind == "buckets":
            for _, data in group:
                await _put_records(nc, data)


def _told(members: Iterator[tuple[str, bytes]], total: int, progress: Progress) -> Iterator[tuple[str, bytes]]:
    done = 0
    for name, data in members:
        yield name, data
        done += len(data)
        progress(min(done, total), total)


async def _put_records(nc: Connection, lines: bytes) -> None:
    records = [json.loads(line) for line in lines.splitlines()]
    for begin in range(0, len(records), AT_ONCE):
        some = records[begin : begin + AT_ONCE]
        await asyncio.gather(*(put_record(nc, each["subject"], base64.b64decode(each["body"])) for each in some))
