"""What a hub does for each of its sites: it keeps copies of the site's streams, and says whether the site is connected.

The copies are mirrors in the site's account, by the names the streams have at the site, with the same sequences and
times. nats-server makes up by itself for what it has missed, and takes 10 to 40 s to begin (2.15). Records are wanted
sooner: whose lease it is. Their copies are small, and a new mirror begins at once, so they are made anew.

A site that was restored from a backup, or has lost its store, counts from another number. A mirror would not notice,
and leave out what comes until then. So each copy says of which lab it is, and is made anew when the site has another.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any

from jsnats.schemas import BLOBS, LAB, LINK_BUCKET, ConfigurationError, JsnatsError, LinkRecord, StreamSpec, link_key
from jsnats.sdk import ApiError, Connection, NoResponders, last_record, open_connection, put_record

from ._ensure import stream_config
from ._lab_dir import BROKER, LabDir
from ._sites import COPIED, api_of

log = logging.getLogger("jsnats.sites")

LOOK_S = 2.0
ANSWER_S = 2.0
SILENCE_S = 3.0
"""A mirror hears of its origin every second."""
RENEW_S = 10.0
RETRY_S = 5.0
COPY_SHARE = 0.1
"""Of what the lab may store of that kind, for history; records are copied whole."""
LINK_BYTES = 1 << 20
ORIGIN = "jsnats.origin"
"""In the metadata of a copy: when the bucket of the lab's records was made at the site. A restore makes a new one."""
_AT_ORIGIN = ("subjects", "republish", "allow_atomic", "duplicate_window")


@asynccontextmanager
async def serving_sites(lab: LabDir) -> AsyncIterator[None]:
    """Do so for the sites that there are, and for those that are added, for as long as the `async with`."""
    serving = asyncio.ensure_future(_serve_all(lab))
    try:
        yield
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def _serve_all(lab: LabDir) -> None:
    served: dict[str, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as group:
        while True:
            sites = await _sites(lab, served)
            for site in served.keys() - sites:
                served.pop(site).cancel()
            for site in sites - served.keys():
                served[site] = group.create_task(_serve_one(lab, site))
            await asyncio.sleep(LOOK_S)


async def _sites(lab: LabDir, served: Collection[str]) -> set[str]:
    """Those that there are; as before while the directory cannot be read."""
    try:
        return set(await asyncio.to_thread(lab.sites))
    except ConfigurationError as error:
        log.warning("the sites that are served stay as they are: %s", error)
        return set(served)


async def _serve_one(lab: LabDir, site: str) -> None:
    while True:
        try:
            async with await open_connection(lab.context(BROKER, site=site), name=f"jsnats site {site}") as nc:
                await ensure_copies(nc, site, lab, await _origin(nc, site))
                await _watch(nc, site, lab)
        except (JsnatsError, TimeoutError) as error:
            log.warning("the site %s is not served now: %s", site, error)
        except Exception:  # one site must not take the others with it
            log.exception("the site %s is not served now", site)
        await asyncio.sleep(RETRY_S)


# ---------------------------------------------------------------------- copies


async def ensure_copies(nc: Connection, site: str, lab: LabDir, origin: str = "") -> None:
    """Make the mirrors and the bucket that are missing, and anew those of another `origin`, if that is known.

    Raises ApiError.
    """
    for spec in COPIED:
        await _ensure(nc, _copy_of(spec, site, lab, origin))
    bucket = {"name": LINK_BUCKET, "subjects": ["$KV.jsnats_link.>"], "max_msgs_per_subject": 1}
    await _ensure(nc, bucket | {"allow_direct": True, "max_bytes": LINK_BYTES, "num_replicas": _replicas(lab)})


def _copy_of(spec: StreamSpec, site: str, lab: LabDir, origin: str) -> dict[str, Any]:
    config = copy_config(spec, site, lab.settings().store_bytes) | {"num_replicas": _replicas(lab)}
    return config | ({"metadata": {ORIGIN: origin}} if origin else {})


def _replicas(lab: LabDir) -> int:
    outside = lab.outside()
    return outside.replicas if outside else 1


def copy_config(spec: StreamSpec, site: str, total_bytes: int) -> dict[str, Any]:
    """The mirror of a stream of a site, of a hub that may store `total_bytes` of its own."""
    own = stream_config(spec, total_bytes if spec.kv else int(total_bytes * COPY_SHARE))
    kept = {key: value for key, value in own.items() if key not in _AT_ORIGIN}
    return kept | {"mirror": {"name": spec.name, "external": {"api": api_of(site), "deliver": ""}}}


async def _ensure(nc: Connection, config: dict[str, Any]) -> None:
    try:
        present = (await nc.api(f"STREAM.INFO.{config['name']}"))["config"]
    except ApiError as error:
        if not error.is_no_stream:
            raise
        await nc.api(f"STREAM.CREATE.{config['name']}", config)
        return
    if (origin := config.get("metadata", {}).get(ORIGIN)) and present.get("metadata", {}).get(ORIGIN) != origin:
        await _copy_anew(nc, config)
        return
    changed = {key: config[key] for key in ("max_bytes", "num_replicas") if present[key] != config[key]}
    if changed:
        await nc.api(f"STREAM.UPDATE.{config['name']}", present | changed)


async def _copy_anew(nc: Connection, config: dict[str, Any]) -> None:
    log.info("%s is copied anew", config["name"])
    await nc.api(f"STREAM.DELETE.{config['name']}")
    await nc.api(f"STREAM.CREATE.{config['name']}", config)


# ---------------------------------------------------------------------- the link


async def _watch(nc: Connection, site: str, lab: LabDir) -> None:
    """Write down whenever the site is connected, or not any more, and see to the copies.

    Raises ApiError, Disconnected, BrokerUnreachable.
    """
    found = await last_record(nc, LINK_BUCKET, link_key(site))
    known = LinkRecord.decode(found.body) if found and found.body else None
    heard, renewed = _last_heard(known), time.monotonic()
    copied = ""
    while True:
        connected = await _reaches(nc, site)
        heard = time.time() if connected else heard
        if known is None or known.connected != connected:
            known = LinkRecord(connected=connected, since=heard)
            await put_record(nc, link_key(site), known.encode())
            log.info("the site %s is %s", site, "connected" if connected else "not connected")
        if connected and (origin := await _origin(nc, site)) and origin != copied:
            await ensure_copies(nc, site, lab, origin)
            copied = origin
        if connected and time.monotonic() - renewed > RENEW_S and (silent := await _silent(nc)):
            for spec in silent:
                await _copy_anew(nc, _copy_of(spec, site, lab, copied))
            renewed = time.monotonic()
        await asyncio.sleep(LOOK_S)


def _last_heard(known: LinkRecord | None) -> float:
    """When the site was connected last, by what was written down; now, if it was until nobody looked any more."""
    if known is None:
        return 0.0
    return time.time() if known.connected else known.since


async def _reaches(nc: Connection, site: str) -> bool:
    """Whether the broker of the site answers, if only that it has no such file."""
    try:
        await nc.request(f"{api_of(site)}.DIRECT.GET.{BLOBS.name}.jsnats.blob.none", timeout_s=ANSWER_S)
    except (NoResponders, TimeoutError):
        return False
    return True


async def _origin(nc: Connection, site: str) -> str:
    """Which lab is at the site; nothing if it does not say so now."""
    try:
        answer = await nc.request(f"{api_of(site)}.STREAM.INFO.{LAB.name}", timeout_s=ANSWER_S)
    except (NoResponders, TimeoutError):
        return ""
    created: str = json.loads(answer.data).get("created", "")
    return created


async def _silent(nc: Connection) -> list[StreamSpec]:
    """The copies of records that do not hear of their origin."""
    return [spec for spec in COPIED if spec.kv and await _is_silent(nc, spec.name)]


async def _is_silent(nc: Connection, copy: str) -> bool:
    active = (await nc.api(f"STREAM.INFO.{copy}")).get("mirror", {}).get("active", -1)
    return not 0 <= active / 1e9 < SILENCE_S
