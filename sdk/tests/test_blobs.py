"""Files of the lab against a real broker with roles."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jsnats.broker.testing import TestBroker, running_broker
from jsnats.schemas import (
    BLOB_CHUNK,
    AccessDenied,
    BlobCorrupt,
    BlobIncomplete,
    BlobNotFound,
    BlobRecord,
    BrokerUnfit,
    ConfigurationError,
    InvalidArgument,
    StorageFull,
    chunk_subject,
)
from jsnats.sdk import AsyncLab, Connection, connect, connect_async, open_connection
from jsnats.sdk._blob_source import BytesSource
from jsnats.sdk._chunks import read_blob, send_chunks

MB = 1_000_000


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A lab with two users, a viewer and an exporter."""
    with running_broker(principals={"user": ["alice", "mallory"], "viewer": ["vic"], "exporter": ["bench"]}) as running:
        yield running


@pytest.fixture
async def lab(broker: TestBroker) -> AsyncIterator[AsyncLab]:
    """A connection of alice."""
    async with connect_async(context=broker.context("alice")) as lab:
        yield lab


@pytest.fixture
async def mallory(broker: TestBroker) -> AsyncIterator[Connection]:
    """A user who stores what he should not."""
    async with await open_connection(broker.context("mallory")) as connection:
        yield connection


class Bar:
    """Remembers the progress it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.told.append((done, total))


async def read(lab: AsyncLab, sha256: str) -> bytes:
    """A whole file."""
    return b"".join([data async for data in lab.blobs.chunks(sha256)])


@pytest.mark.parametrize("size", [0, 1, BLOB_CHUNK - 1, BLOB_CHUNK, BLOB_CHUNK + 1, 40 * BLOB_CHUNK + 77])
async def test_round_trip(lab: AsyncLab, tmp_path: Path, size: int) -> None:
    """A file of any size is what it was; the second upload sends nothing, and each bar ends full."""
    data = os.urandom(size)
    path = tmp_path / "image.bin"
    path.write_bytes(data)
    up, again, down = Bar(), Bar(), Bar()
    info = await lab.blobs.put(path, on_progress=up)
    assert (info.sha256, info.size, info.name) == (hashlib.sha256(data).hexdigest(), size, "image.bin")
    assert (info.owner, info.sent, info.handle) == ("alice", size, f"blob:{info.sha256}")
    assert (await lab.blobs.put(str(path), on_progress=again)).sent == 0
    assert await read(lab, info.sha256) == data
    got = await lab.blobs.get(info.handle, tmp_path / "copy", down)
    assert (tmp_path / "copy").read_bytes() == data
    assert (got.name, got.size) == ("image.bin", size)
    assert up.told[-1] == again.told[-1] == down.told[-1] == (size, size)
    assert up.told == sorted(up.told)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    """Bytes as they come."""
    for part in parts:
        yield part


class OnlyRead:
    """Something that can be read once, like a socket's file."""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


async def test_sources(lab: AsyncLab, tmp_path: Path) -> None:
    """Bytes, open files from where they stand, compressed ones as they read, pipes and async pieces are uploaded."""
    data = os.urandom(BLOB_CHUNK + 100)
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / "raw").write_bytes(b"head" + data)
    with gzip.open(tmp_path / "packed", "wb") as file:
        file.write(data)
    with (
        (tmp_path / "raw").open("rb") as raw,
        gzip.open(tmp_path / "packed") as packed,
        gzip.open(tmp_path / "packed") as inner,
        io.BufferedReader(inner) as unpacked,  # type: ignore[arg-type]
    ):
        raw.seek(4)
        sources: list[Any] = [data, bytearray(data), memoryview(data), io.BytesIO(data), OnlyRead(data)]
        for source in (*sources, raw, packed, unpacked, pieces(data[:1000], b"", data[1000:])):
            assert (await lab.blobs.put(source)).sha256 == digest
        assert raw.tell() == 4
    reader, writer = os.pipe()
    threading.Thread(target=lambda: (os.write(writer, b"piped"), os.close(writer))).start()
    info = await lab.blobs.put(f"/dev/fd/{reader}", name="pipe")
    os.close(reader)
    assert (info.sha256, info.name) == (hashlib.sha256(b"piped").hexdigest(), "pipe")


async def test_sources_that_are_none(lab: AsyncLab, tmp_path: Path) -> None:
    """A directory, a missing file and something else are refused before the lab is asked."""
    with pytest.raises(ConfigurationError, match="is a directory"):
        await lab.blobs.put(tmp_path)
    with pytest.raises(FileNotFoundError):
        await lab.blobs.put(tmp_path / "missing")
    with pytest.raises(TypeError, match="a path, bytes or a binary file"):
        await lab.blobs.put(5)  # type: ignore[arg-type]


async def test_targets(lab: AsyncLab, tmp_path: Path) -> None:
    """A file is replaced, an open file is written to, and a device stays what it is."""
    info = await lab.blobs.put(b"content")
    (tmp_path / "there").write_bytes(b"before")
    await lab.blobs.get(info.sha256, tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == b"content"
    buffer = io.BytesIO()
    await lab.blobs.get(info.sha256, buffer)
    assert buffer.getvalue() == b"content"
    await lab.blobs.get(info.sha256, "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(FileNotFoundError):
        await lab.blobs.get(info.sha256, tmp_path / "no" / "folder")
    assert os.listdir(tmp_path) == ["there"]


async def test_a_file_that_is_not_there(lab: AsyncLab, tmp_path: Path) -> None:
    """What the store does not have is a LookupError, what is no hash a ValueError, and no target is left behind."""
    missing = "0" * 64
    assert await lab.blobs.info(missing) is None
    for work in (lab.blobs.rm(missing), lab.blobs.report_bad(missing), lab.blobs.get(missing, tmp_path / "x")):
        with pytest.raises(BlobNotFound):
            await work
    with pytest.raises(BlobNotFound):
        await read(lab, missing)
    with pytest.raises(InvalidArgument):
        await lab.blobs.info("blob:*")
    assert os.listdir(tmp_path) == []


async def test_a_wrong_chunk_is_noticed_and_healed(lab: AsyncLab, mallory: Connection, tmp_path: Path) -> None:
    """Somebody stores a wrong chunk 3 first: the download fails as BlobCorrupt and leaves no file, `report_bad` drops
    the blob and names its uploader, another upload heals it, and a report about a good one changes nothing."""
    data = os.urandom(10 * BLOB_CHUNK)
    sha256 = hashlib.sha256(data).hexdigest()
    await mallory.request(chunk_subject(sha256, 3), os.urandom(BLOB_CHUNK))
    info = await lab.blobs.put(data, name="image")
    assert info.sent == len(data) - BLOB_CHUNK
    with pytest.raises(BlobCorrupt, match="'image' is something else"):
        await lab.blobs.get(sha256, tmp_path / "x")
    assert os.listdir(tmp_path) == []
    assert await lab.blobs.report_bad(sha256) == "alice"
    assert await lab.blobs.info(sha256) is None
    assert (await lab.blobs.put(data)).sent == len(data)
    assert await read(lab, sha256) == data
    assert await lab.blobs.report_bad(sha256) == ""
    assert await lab.blobs.info(sha256) is not None


@pytest.mark.parametrize("wrong", [b"", b"short", b"x" * (BLOB_CHUNK + 1)])
async def test_a_chunk_of_a_wrong_size_is_noticed_at_once(lab: AsyncLab, mallory: Connection, wrong: bytes) -> None:
    """The bytes after a chunk of another length are not even handed out."""
    data = os.urandom(3 * BLOB_CHUNK)
    sha256 = hashlib.sha256(data).hexdigest()
    await mallory.request(chunk_subject(sha256, 1), wrong)
    await lab.blobs.put(data)
    received = []
    with pytest.raises(BlobCorrupt, match="chunk 1"):
        async for piece in lab.blobs.chunks(sha256):
            received.append(piece)
    assert received in ([], [data[:BLOB_CHUNK]])


async def test_a_lost_chunk_is_noticed(lab: AsyncLab, broker: TestBroker) -> None:
    """A chunk that the broker has lost is BlobCorrupt; when all of it was removed meanwhile, BlobNotFound."""
    data = os.urandom(3 * BLOB_CHUNK)
    info = await lab.blobs.put(data)
    admin = await open_connection(broker.context())
    await admin.api("STREAM.PURGE.JSNATS_BLOBS", {"filter": chunk_subject(info.sha256, 2)})
    with pytest.raises(BlobCorrupt, match="chunk 2 of"):
        await read(lab, info.sha256)
    await lab.blobs.report_bad(info.sha256)
    await lab.blobs.put(data)
    with pytest.raises(BlobNotFound, match="removed while it was read"):
        async for _ in lab.blobs.chunks((await lab.blobs.put(os.urandom(64 * BLOB_CHUNK))).sha256):
            await admin.api("STREAM.PURGE.JSNATS_BLOBS", {"filter": "jsnats.blob.>"})
    await admin.close()


async def test_a_download_that_is_left_leaves_nothing_running(lab: AsyncLab) -> None:
    """Leaving the iteration early ends its subscription and its tasks."""
    info = await lab.blobs.put(os.urandom(64 * BLOB_CHUNK))
    before = asyncio.all_tasks()
    arriving = lab.blobs.chunks(info.sha256)
    assert len(await anext(arriving)) == BLOB_CHUNK
    await arriving.aclose()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before | {lab.bulk._opening}


async def test_an_upload_that_is_cancelled_is_resumed(lab: AsyncLab) -> None:
    """After a cancellation at half, the next upload sends only what is missing."""
    data = os.urandom(200 * BLOB_CHUNK)
    half = asyncio.Event()

    def told(done: int, total: int) -> None:
        if done >= total // 2:
            half.set()

    upload = asyncio.create_task(lab.blobs.put(data, on_progress=told))
    await half.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    info = await lab.blobs.put(data)
    assert 0 < info.sent <= len(data) // 2
    assert await read(lab, info.sha256) == data


async def test_two_clients_upload_the_same_at_once(broker: TestBroker, lab: AsyncLab) -> None:
    """Both succeed, and the file is right."""
    data = os.urandom(50 * BLOB_CHUNK)
    async with connect_async(context=broker.context("mallory")) as other:
        one, two = await asyncio.gather(lab.blobs.put(data), other.blobs.put(data))
        assert one.sha256 == two.sha256
        assert one.owner == two.owner
        assert await read(other, one.sha256) == data


# ---------------------------------------------------------------------- while it is uploaded


async def test_a_file_is_followed_while_it_is_uploaded(lab: AsyncLab) -> None:
    """Once it is offered it can be looked up, and read while its chunks arrive, here the last first; who did not ask to
    follow is told that it is not there yet."""
    data = os.urandom(30 * BLOB_CHUNK + 5)
    async with lab.blobs.offer(data) as offer:
        found = await lab.blobs.look_up(offer.sha256)
        assert (found.coming, found.blob.size, offer.whole) == (True, len(data), False)
        with pytest.raises(BlobNotFound, match="still being uploaded"):
            await read(lab, offer.sha256)
        pieces = lab.blobs.read(found)
        first = asyncio.ensure_future(anext(pieces))
        for numbers in (range(20, 31), range(3, 20), range(3)):
            await send_chunks(lab.connection, offer.sha256, BytesSource(data), numbers, lambda _: None)
        assert await first + b"".join([piece async for piece in pieces]) == data
        await offer.send()
    assert not (await lab.blobs.look_up(offer.sha256)).coming


async def test_an_upload_that_stops_is_named(lab: AsyncLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows it gets what there is, then an error that says how much that was; it can be uploaded after all."""
    monkeypatch.setattr("jsnats.sdk._chunks.FOLLOW_S", 0.1)
    data = os.urandom(5 * BLOB_CHUNK)
    async with lab.blobs.offer(data, name="a.img") as offer:
        await send_chunks(lab.connection, offer.sha256, BytesSource(data), [0, 1, 3], lambda _: None)
        with pytest.raises(BlobIncomplete, match=f"'a.img' stopped after {2 * BLOB_CHUNK} of {len(data)} bytes"):
            async for _ in lab.blobs.read(await lab.blobs.look_up(offer.sha256)):
                pass
        await offer.send()
    assert await read(lab, offer.sha256) == data


async def test_a_wrong_chunk_is_noticed_by_who_follows(lab: AsyncLab, mallory: Connection) -> None:
    """Bytes that somebody else planted in an upload are not what its hash says."""
    data = os.urandom(3 * BLOB_CHUNK)
    async with lab.blobs.offer(data) as offer:
        found = await lab.blobs.look_up(offer.sha256)
        await mallory.request(chunk_subject(offer.sha256, 1), bytes(BLOB_CHUNK))
        await offer.send()
    with pytest.raises(BlobCorrupt):
        async for _ in lab.blobs.read(found):
            pass


# ---------------------------------------------------------------------- faults


async def test_a_file_that_changes_meanwhile(lab: AsyncLab, tmp_path: Path) -> None:
    """A file that is written to or cut while it is uploaded is refused, and leaves no chunks of two versions."""
    path = tmp_path / "growing"
    for change in ("append", "cut"):
        data = os.urandom(40 * BLOB_CHUNK)
        path.write_bytes(data)

        def told(done: int, total: int, change: str = change) -> None:
            if done == 0:
                os.truncate(path, total + 5 if change == "append" else 5)

        with pytest.raises(ConfigurationError, match="growing changed while it was uploaded"):
            await lab.blobs.put(path, on_progress=told)
        path.write_bytes(data)
        assert (await lab.blobs.put(path)).sent == len(data)


async def test_ls_and_rm(broker: TestBroker, lab: AsyncLab) -> None:
    """One lists and removes one's own files only; an admin everybody's."""
    mine = await lab.blobs.put(b"of alice", name="a")
    async with connect_async(context=broker.context("mallory")) as other:
        theirs = await other.blobs.put(b"of mallory", name="m")
        assert (await other.blobs.ls())[0] == replace(theirs, sent=0, used=theirs.created)
        assert mine.sha256 not in [each.sha256 for each in await other.blobs.ls()]
        with pytest.raises(BlobNotFound, match="alice or an admin"):
            await other.blobs.rm(mine.sha256)
    assert mine.sha256 in [each.sha256 for each in await lab.blobs.ls()]
    async with connect_async(context=broker.context()) as admin:
        assert {mine.sha256, theirs.sha256} <= {each.sha256 for each in await admin.blobs.ls()}
        await admin.blobs.rm(theirs.handle)
    await lab.blobs.rm(mine.sha256)
    assert await lab.blobs.info(mine.sha256) is None
    assert (await lab.blobs.put(b"of alice")).sent == len(b"of alice")


async def test_a_viewer_has_no_files(broker: TestBroker, lab: AsyncLab) -> None:
    """A viewer can neither upload nor read, and is told so at once."""
    info = await lab.blobs.put(b"seen by users")
    async with connect_async(context=broker.context("vic")) as vic:
        for work in (vic.blobs.put(b"x"), vic.blobs.info(info.sha256), vic.blobs.ls()):
            async with asyncio.timeout(2):
                with pytest.raises(AccessDenied, match="vic"):
                    await work


async def test_an_exporter_has_files(broker: TestBroker, lab: AsyncLab) -> None:
    """An exporter reads what users upload, and uploads for them."""
    info = await lab.blobs.put(b"to the board")
    async with connect_async(context=broker.context("bench")) as exporter:
        assert await read(exporter, info.sha256) == b"to the board"
        dump = await exporter.blobs.put(pieces(b"from ", b"the board"), name="dump")
        assert dump.owner == "bench"
    assert await read(lab, dump.sha256) == b"from the board"


async def test_a_full_store_is_one_clear_error(tmp_path: Path) -> None:
    """Beyond the quota, and in a store that others have filled, an upload is refused in one line; reading, listing and
    everything else goes on, and after `rm` there is room again."""
    with running_broker(tmp_path, total_bytes=40 * MB, principals={"user": ["bob"]}) as broker:
        async with connect_async(context=broker.add("user", "alice")) as lab:
            kept = await lab.blobs.put(os.urandom(8 * MB), name="kept.img")
            with pytest.raises(StorageFull, match=r"no room for the 5\.0 MB of big\.img: you may store 10\.0 MB"):
                await lab.blobs.put(os.urandom(5 * MB), name="big.img")
            data = os.urandom(9 * MB)
            async with connect_async(context=broker.context("bob")) as bob:
                await bob.blobs.put(data)
            async with connect_async(context=broker.add("user", "cid")) as cid:
                with pytest.raises(StorageFull, match=r"the lab's store has 3\.0 MB left of 20\.0 MB") as refused:
                    await cid.blobs.put(os.urandom(5 * MB))
            assert "\n" not in str(refused.value)
            sha256 = hashlib.sha256(data[1:]).hexdigest()
            with pytest.raises(StorageFull, match="the broker has no room for the file"):
                await send_chunks(lab.connection, sha256, BytesSource(data[1:]), range(34), lambda _: None)
            assert len(await read(lab, kept.sha256)) == 8 * MB
            assert [each.name for each in await lab.blobs.ls()] == ["kept.img"]
            assert await lab.exporters() == []
            await lab.blobs.rm(kept.sha256)


async def test_a_broker_without_the_stream(tmp_path: Path) -> None:
    """Where the stream is missing, up- and download say what to start."""
    with running_broker(tmp_path) as broker:
        async with connect_async(context=broker.add("user", "alice")) as lab:
            blob = BlobRecord(sha256="a" * 64, size=5, chunks=1)
            async with connect_async(context=broker.context()) as admin:
                await admin.connection.api("STREAM.DELETE.JSNATS_BLOBS")
            with pytest.raises(BrokerUnfit, match="jsnats broker run"):
                async for _ in read_blob(lab.connection, blob):
                    pass
            with pytest.raises(BrokerUnfit, match="jsnats broker run"):
                await send_chunks(lab.connection, blob.sha256, BytesSource(b"hello"), [0], lambda _: None)


async def test_a_broker_without_a_store(tmp_path: Path) -> None:
    """Where no service answers, the error says what to start."""
    with running_broker(tmp_path, principals={"user": ["alice"]}) as broker:
        broker.revoke("scheduler")
        async with connect_async(context=broker.context("alice")) as lab:
            with pytest.raises(BrokerUnfit, match="jsnats broker run"):
                await lab.blobs.put(b"x")


def test_the_sync_twins(broker: TestBroker, tmp_path: Path) -> None:
    """Sync code has all of it."""
    data = os.urandom(5 * BLOB_CHUNK)
    with connect(context=broker.context("alice")) as lab:
        bar = Bar()
        info = lab.blobs.put(io.BytesIO(data), name="sync", on_progress=bar)
        assert bar.told[-1] == (len(data), len(data))
        assert b"".join(lab.blobs.chunks(info.sha256)) == data
        assert next(lab.blobs.chunks(info.sha256)) == data[:BLOB_CHUNK]
        lab.blobs.get(info.sha256, tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == data
        found = lab.blobs.info(info.sha256)
        assert found
        assert found.chunks == 5
        assert info.sha256 in [each.sha256 for each in lab.blobs.ls()]
        assert lab.blobs.report_bad(info.sha256) == ""
        lab.blobs.rm(info.sha256)
        assert lab.blobs.info(info.sha256) is None
