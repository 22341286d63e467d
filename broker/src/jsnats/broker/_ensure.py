"""The streams and buckets of a lab, made and kept as the table in jsnats.schemas says.

Raw JetStream requests, because nats-py knows neither TTL of records nor atomic batches. Only the broker's own admin
and the scheduler may send them.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jsnats.schemas import STREAMS, BrokerUnfit, StreamSpec
from jsnats.sdk import ApiError, Connection

from ._retention import AS_TABLE, Retention, limits

MAX_TOTAL = 10_000_000_000
DISK_SHARE = 0.2
API_LEVEL = 2
"""JetStream's API level of nats-server 2.12, the first with atomic batches."""

MAX_CONSUMERS = 100_000
"""Of each stream. nats-server 2.15 refuses the 1001st by itself, and takes none of its signs for "no limit"; every
exporter, every lease and everybody who waits for one is a consumer of the lab's records."""

_NS = 1_000_000_000
_DUPLICATES_S = 10
_NO_ROOM = (10023, 10028, 10047, 10120)
_NO_JETSTREAM = (10039, 10076)


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a stream is. `age_s` is the age of the oldest message it still has, None when it is empty; `max_age_s`
    how long it keeps them, 0 for ever."""

    stream: str
    bytes: int
    max_bytes: int
    messages: int
    age_s: float | None
    max_age_s: int


def default_total(directory: Path) -> int:
    """Bytes that a new lab may store: 20 % of the free disk there, 10 GB at most."""
    return min(MAX_TOTAL, int(shutil.disk_usage(directory).free * DISK_SHARE))


async def check_fit(nc: Connection) -> None:
    """Raise BrokerUnfit unless the broker is nats-server 2.12 or newer with JetStream."""
    url = nc.context.url
    try:
        info = await nc.api("INFO")
    except ApiError as error:
        if error.code in _NO_JETSTREAM:
            raise BrokerUnfit(
                f"JetStream is off at {url}: start nats-server with `jetstream {{}}` configured"
            ) from error
        raise
    if info.get("api", {}).get("level", 0) < API_LEVEL:
        raise BrokerUnfit(f"nats-server at {url} is too old: jsnats needs 2.12 or newer (pip install 'jsnats[broker]')")


async def ensure_streams(
    nc: Connection, total_bytes: int | None = None, *, replicas: int = 1, retention: Retention = AS_TABLE
) -> None:
    """Create the streams that are missing and bring the others to their present definition.

    A stream that exists keeps its size unless `total_bytes` is given; a new one gets its share of `total_bytes`, or
    of 10 GB. `retention` says which keep less or more. Each is stored on `replicas` servers of a cluster; one that
    exists is moved. Raises BrokerUnfit for a broker that cannot carry them, ConfigurationError for sizes that do not
    fit together.
    """
    await check_fit(nc)
    wanted = [stream_config(spec, total_bytes or MAX_TOTAL, retention) | {"num_replicas": replicas} for spec in STREAMS]
    present = [await _present(nc, spec) for spec in STREAMS]
    changes = [_change_of(*each, keep_size=total_bytes is None) for each in zip(wanted, present, strict=True)]
    # Those that shrink first: what they give back, others may need.
    for change in sorted(filter(None, changes), key=lambda change: not change.shrinks):
        await _change(nc, change)


async def df(nc: Connection) -> list[Usage]:
    """How full each stream is. Raises BrokerUnfit when they were never made."""
    return [_usage(spec, await _info(nc, spec)) for spec in STREAMS]


@dataclass(frozen=True, slots=True)
class _Change:
    request: str
    config: dict[str, Any]
    shrinks: bool


async def _present(nc: Connection, spec: StreamSpec) -> dict[str, Any] | None:
    try:
        config: dict[str, Any] = (await nc.api(f"STREAM.INFO.{spec.name}"))["config"]
    except ApiError as error:
        if not error.is_no_stream:
            raise
        return None
    return config


def _change_of(wanted: dict[str, Any], present: dict[str, Any] | None, *, keep_size: bool) -> _Change | None:
    if present is None:
        return _Change(f"STREAM.CREATE.{wanted['name']}", wanted, shrinks=False)
    if keep_size:
        wanted = wanted | {"max_bytes": present["max_bytes"]}
    if all(present.get(key) == value for key, value in wanted.items()):
        return None
    shrinks = wanted["max_bytes"] < present["max_bytes"]
    return _Change(f"STREAM.UPDATE.{wanted['name']}", present | wanted, shrinks)


async def _change(nc: Connection, change: _Change) -> None:
    config = change.config
    try:
        await nc.api(change.request, config)
    except ApiError as error:
        stream = config["name"]
        if error.code in _NO_ROOM:
            message = (
                f"the broker has no room for {stream} ({config['max_bytes']} bytes): choose a smaller --store-size"
            )
            raise BrokerUnfit(message) from error
        raise BrokerUnfit(
            f"the broker refused the stream {stream}: {error} (is its disk full? its log says more)"
        ) from error


def stream_config(spec: StreamSpec, total_bytes: int, retention: Retention = AS_TABLE) -> dict[str, Any]:
    """The stream as JetStream's API takes it, with its share of `total_bytes`, or what `retention` gives it."""
    size, age_s = limits(spec, total_bytes, retention)
    config: dict[str, Any] = {
        "name": spec.name,
        "subjects": [spec.subjects],
        "retention": "limits",
        "storage": "file",
        "discard": "new" if spec.discard_new or spec.kv else "old",
        "max_bytes": size,
        "max_age": age_s * _NS,
        "max_consumers": MAX_CONSUMERS,
        "max_msgs_per_subject": spec.max_msgs_per_subject,
        "duplicate_window": _DUPLICATES_S * _NS,
        "allow_direct": True,
        # One publish with `Nats-Rollup: all` empties a stream that allows it, and no permission can forbid a header.
        "allow_rollup_hdrs": False,
    }
    if spec.republish:
        config["republish"] = {"src": spec.republish[0], "dest": spec.republish[1]}
    flags = {"allow_msg_ttl": spec.record_ttl, "allow_atomic": spec.atomic, "discard_new_per_subject": spec.write_once}
    return config | {key: True for key, on in flags.items() if on}


async def _info(nc: Connection, spec: StreamSpec) -> dict[str, Any]:
    try:
        return await nc.api(f"STREAM.INFO.{spec.name}")
    except ApiError as error:
        if error.is_no_stream:
            raise BrokerUnfit(f"{spec.name} is missing: `jsnats broker run` makes the streams") from error
        raise


def _usage(spec: StreamSpec, info: dict[str, Any]) -> Usage:
    state = info["state"]
    age = time.time() - datetime.fromisoformat(state["first_ts"]).timestamp() if state["messages"] else None
    config = info["config"]
    return Usage(spec.name, state["bytes"], config["max_bytes"], state["messages"], age, config["max_age"] // _NS)
