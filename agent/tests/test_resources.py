"""Files as arguments and results of calls, end to end on a real broker with roles on."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import random
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from pydantic.dataclasses import dataclass

from jsnats.agent import Exporter, Spec
from jsnats.agent._cache import Cache
from jsnats.agent._resources import FileSettings
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.client import Channel, DriverClient, client_tree
from jsnats.common.exceptions import BlobCorrupt, BlobNotFound, DriverError, InvalidArgument, StorageFull
from jsnats.driver import Driver, Resource, export
from jsnats.sdk import Blobs, Connection, FoundBlob, _blob_offer, connect, open_connection, shared_bridge

RANDOM = random.Random(7)


def image(size: int) -> bytes:
    """Bytes that no other test has."""
    return RANDOM.randbytes(size)


def sha256_of(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


@dataclass(kw_only=True)
class Images(Driver):
    """Takes images in each way a driver can. `calls` counts what was begun."""

    calls: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.begun, self.go_on, self.cancelled = threading.Event(), threading.Event(), threading.Event()

    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DynamicClient"

    @export
    async def digest(self, image: Resource, decompress: bool = True) -> list[Any]:
        """SHA-256, name and size of an image."""
        self.calls += 1
        digest = hashlib.sha256()
        async with self.resource(image, decompress=decompress) as stream:
            async for data in stream:
                digest.update(data)
        return [digest.hexdigest(), stream.name, stream.size]

    @export
    async def peek(self, image: Resource) -> bytes:
        """The first bytes of an image."""
        self.calls += 1
        async with self.resource(image) as stream:
            return (await stream.receive())[:4]

    @export
    def file(self, image: Resource | None = None) -> list[str]:
        """SHA-256 and name of an image, read as a file on the driver's thread."""
        self.calls += 1
        assert image is not None
        with self.resource_file(image) as path:
            return [sha256_of(path.read_bytes()), path.name]

    @export
    async def async_file(self, image: Resource) -> list[str]:
        """As `file`, on the loop."""
        async with self.resource_file(image) as path:
            return [await asyncio.to_thread(lambda: sha256_of(path.read_bytes())), path.name]

    @export
    async def interrupted(self, image: Resource) -> str:
        """As `digest`, with a pause behind the first bytes."""
        digest = hashlib.sha256()
        async with self.resource(image) as stream:
            digest.update(await stream.receive())
            self.begun.set()
            try:
                while not self.go_on.is_set():
                    await asyncio.to_thread(self.go_on.wait, 0.1)
                async for data in stream:
                    digest.update(data)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return digest.hexdigest()

    @export
    async def refuse(self, image: Resource) -> None:
        """Take no image."""
        raise OSError("no card")

    @export
    async def dump(self, size: int, seed: int) -> Resource:
        """A file of that many bytes."""
        async with self.new_resource("dump.img") as sink:
            source = random.Random(seed)
            for _ in range(size >> 16):
                await sink.send(source.randbytes(1 << 16))
        return sink.handle

    @export
    async def lengths(self, image: Resource) -> AsyncGenerator[int, None]:
        """How the bytes of an image come."""
        async with self.resource(image) as stream:
            async for data in stream:
                yield len(data)

    @export
    async def fail_in_dump(self) -> Resource:
        """Give up in the middle of a file."""
        async with self.new_resource() as sink:
            await sink.send(b"half")
            raise OSError("the device is gone")

    @export
    async def ping(self) -> str:
        """Answer."""
        return "pong"


class Host:
    """An exporter with an `Images`, its client, and the store as an admin sees it."""

    def __init__(self, broker: TestBroker, name: str, settings: FileSettings) -> None:
        self.driver = Images()
        self.name = name
        assert settings.cache
        self.directory = settings.cache
        self._broker = broker
        spec = Spec(name=name, root=self.driver, files=settings)
        self.exporter = Exporter(spec, broker.context(name))
        self.lab = connect(context=broker.context("tester"))
        self.admin: Connection
        self.client: Any

    def __enter__(self) -> Host:
        bridge = shared_bridge()
        bridge.run(self.exporter.__aenter__())
        self.admin = bridge.run(open_connection(self._broker.context(), name="admin"))
        self.client = client_tree(self.lab.tree(self.name), Channel(self.lab.inner, self.name))
        return self

    def __exit__(self, *exc: object) -> None:
        bridge = shared_bridge()
        bridge.run(self.exporter.stop())
        bridge.run(self.admin.close())
        self.lab.close()

    def stored(self) -> int:
        """How many messages were ever stored in BLOBS: an upload adds some."""
        info = shared_bridge().run(self.admin.api("STREAM.INFO.JSNATS_BLOBS"))
        return int(info["state"]["last_seq"])

    def damage_store(self, sha256: str, chunk: int = 0) -> None:
        """Replace a chunk of a stored file."""
        shared_bridge().run(self._damage_store(f"jsnats.blob.{sha256}.{chunk}"))

    async def _damage_store(self, subject: str) -> None:
        kept = await self.admin.request(f"$JS.API.DIRECT.GET.JSNATS_BLOBS.{subject}")
        await self.admin.api("STREAM.PURGE.JSNATS_BLOBS", {"filter": subject})
        answer = await self.admin.request(subject, b"\xff" * len(kept.data))
        assert "error" not in json.loads(answer.data)

    def forget(self, sha256: str) -> None:
        """Drop a file from the exporter's cache."""
        Cache(self.directory).drop(sha256)

    def cached(self) -> set[str]:
        """What lies in the cache directory."""
        return set(os.listdir(self.directory)) if self.directory.exists() else set()


@pytest.fixture
def host(broker: TestBroker, tmp_path: Path) -> Iterator[Host]:
    """An exporter with a cache of its own."""
    with Host(broker, "bench", FileSettings(cache=tmp_path / "cache")) as host:
        yield host


# ---------------------------------------------------------------------- arguments


def test_a_path_is_uploaded_once_and_fetched_once(host: Host, tmp_path: Path) -> None:
    """The second call stores nothing at the broker, and works even when the store has lost the file."""
    data = image(3_000_000)
    (tmp_path / "a.img").write_bytes(data)
    expected = [sha256_of(data), "a.img", len(data)]
    assert host.client.digest(tmp_path / "a.img") == expected
    stored = host.stored()
    assert host.client.digest(str(tmp_path / "a.img")) == expected
    assert host.stored() == stored
    host.lab.blobs.rm(sha256_of(data))
    assert host.client.digest(f"blob:{sha256_of(data)}") == [sha256_of(data), "", len(data)]


@pytest.mark.parametrize("size", [0, 1, 262_144, 262_145, 2_500_000])
def test_anything_can_be_passed(host: Host, size: int) -> None:
    """Bytes, a binary file, a handle of `upload`, by position or by name, of any size."""
    data = image(size)
    assert host.client.digest(data)[0] == sha256_of(data)
    assert host.client.digest(image=io.BytesIO(data))[0] == sha256_of(data)
    handle = host.client.upload(data, name="named.img")
    assert host.client.digest(handle) == [sha256_of(data), "named.img", size]


def test_a_stream_of_results_takes_files_too(host: Host) -> None:
    """A generator's argument is uploaded as well."""
    assert sum(host.client.lengths(image(600_000))) == 600_000


async def test_asyncio_uploads_and_downloads(host: Host, broker: TestBroker, tmp_path: Path) -> None:
    """`upload_async` takes an async iterator too, `download_async` gives the bytes back."""
    from jsnats.sdk import connect_async

    data = image(700_000)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 100_000):
            yield data[at : at + 100_000]

    async with connect_async(context=broker.context("tester")) as lab:
        client: DriverClient = await lab.exporter("bench")
        handle = await client.upload_async(pieces(), name="streamed")
        assert (await client.call_async("digest", handle))[0] == sha256_of(data)
        target = io.BytesIO()
        await client.download_async(handle, target)
        assert target.getvalue() == data


@pytest.mark.parametrize("method", ["file", "async_file"])
def test_a_tool_gets_a_file(host: Host, tmp_path: Path, method: str) -> None:
    """A path with the file's suffix, to a plain method and to an async one; gone after the block, cached or not."""
    data = image(1_500_000)
    (tmp_path / "fw v1.bin").write_bytes(data)
    (tmp_path / "fw v1.bin.xz").write_bytes(lzma.compress(data, preset=0))
    call = getattr(host.client, method)
    for name in ("fw v1.bin", "fw v1.bin.xz", "fw v1.bin"):
        assert call(tmp_path / name) == [sha256_of(data), "fw_v1.bin"]
    assert {len(name) for name in host.cached()} == {64}


def test_a_users_name_is_no_path(host: Host) -> None:
    """`../` in a name does not leave the directory that was made for the file."""
    handle = host.client.upload(b"evil", name="../../../../tmp/evil")
    assert host.client.file(handle) == [sha256_of(b"evil"), "_.._.._.._tmp_evil"]
    assert host.client.file(host.client.upload(b"evil", name=".."))[1] == "resource"


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress), (".zst", zstd.compress)],
)
def test_a_compressed_image_arrives_decompressed(host: Host, tmp_path: Path, suffix: str, pack: Any) -> None:
    """Known by its content; as it is when the driver wants that."""
    data = image(300_000) + bytes(1_000_000)
    path = tmp_path / f"a.img{suffix}"
    packed = pack(data)  # once: gzip writes the time
    path.write_bytes(packed)
    assert host.client.digest(path) == [sha256_of(data), "a.img", None]
    assert host.client.digest(path, decompress=False) == [sha256_of(packed), path.name, len(packed)]


def test_a_file_that_is_not_there_is_an_error_here(host: Host, tmp_path: Path) -> None:
    """Of the user's machine: nothing was called."""
    with pytest.raises(FileNotFoundError):
        host.client.digest(tmp_path / "missing.img")
    assert host.driver.calls == 0


def test_an_unknown_hash_is_not_found(host: Host) -> None:
    """And a path of the exporter is no handle."""
    with pytest.raises(BlobNotFound):
        host.client.digest(f"blob:{'0' * 64}")
    with pytest.raises(InvalidArgument, match="no handle"):
        host.client.call("digest", "/etc/passwd")


# ---------------------------------------------------------------------- while it is uploaded


def upload_in_two(host: Host, monkeypatch: pytest.MonkeyPatch, between: Callable[[], None]) -> None:
    """From now on, uploads pause behind their first chunk until the driver has it, and then do `between`."""
    real = _blob_offer.send_chunks

    async def send(connection: Connection, sha256: str, source: Any, missing: list[int], sent: Any) -> None:
        await real(connection, sha256, source, missing[:1], sent)
        await asyncio.to_thread(host.driver.begun.wait)
        between()
        await real(connection, sha256, source, missing[1:], sent)

    monkeypatch.setattr(_blob_offer, "send_chunks", send)


def test_a_call_begins_while_its_file_is_uploaded(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver has the first bytes before the rest is sent, and reads it to the end; the cache has it then."""
    data = image(1_500_000)
    upload_in_two(host, monkeypatch, host.driver.go_on.set)
    assert host.client.interrupted(data) == sha256_of(data)
    assert host.cached() == {sha256_of(data)}
    assert host.lab.blobs.info(sha256_of(data))


def test_an_upload_that_fails_ends_its_call(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gets the error of the upload; the call is cancelled, and no part stays in the cache."""

    def fail() -> None:
        raise StorageFull("no room")

    upload_in_two(host, monkeypatch, fail)
    with pytest.raises(StorageFull, match="no room"):
        host.client.interrupted(image(1_500_000))
    host.driver.go_on.set()
    assert host.client.ping() == "pong"
    assert host.driver.cancelled.wait(5)
    assert host.cached() == set()


def test_a_call_that_fails_ends_its_upload(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver says comes at once, and the rest is not uploaded."""
    data = image(1_500_000)
    upload_in_two(host, monkeypatch, lambda: None)
    stored = host.stored()
    with pytest.raises(DriverError, match="no card"):
        host.client.refuse(data)
    assert host.stored() - stored <= 1
    assert host.lab.blobs.info(sha256_of(data)) is None
    host.driver.begun.set()  # for the thread that waits


def test_with_a_time_limit_the_call_begins_behind_the_upload(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for the call: the driver is not called before all is uploaded."""
    calls: list[int] = []
    host.driver.begun.set()
    upload_in_two(host, monkeypatch, lambda: calls.append(host.driver.calls))
    data = image(600_000)
    assert host.client.options(timeout_s=30).digest(data)[0] == sha256_of(data)
    assert calls == [0]


def test_an_exporter_that_cannot_follow_is_called_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """To an exporter or a store of before, a file that is coming is not there: the call is made again when it is."""
    data = image(1_500_000)
    real = Blobs.look_up
    seen: list[bool] = []

    async def only_whole(self: Blobs, sha256: str) -> FoundBlob:
        found = await real(self, sha256)
        seen.append(found.coming)
        host.driver.begun.set()
        if found.coming:
            raise BlobNotFound("the lab has no such file")
        return found

    monkeypatch.setattr(Blobs, "look_up", only_whole)
    upload_in_two(host, monkeypatch, lambda: None)
    assert host.client.digest(data)[0] == sha256_of(data)
    assert seen == [True, False]


# ---------------------------------------------------------------------- damage


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress, zstd.compress])
def test_a_damaged_chunk_is_noticed_and_uploaded_again(host: Host, pack: Any) -> None:
    """The exporter finds it, whether or not decompression fails before; the store is told, drops it, and the second
    call succeeds."""
    data = image(700_000).hex().encode()
    sent = pack(data)
    host.client.upload(sent)
    host.damage_store(sha256_of(sent), chunk=1)
    assert host.client.digest(sent)[0] == sha256_of(data)
    assert host.driver.calls == 2
    assert host.cached() == {sha256_of(sent)}


def test_damage_that_somebody_else_reported_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has gone when it is reported, or the answer was lost: it is uploaded again all the same."""
    report_bad = Blobs.report_bad

    async def slower(self: Blobs, sha256: str) -> str:
        await report_bad(self, sha256)
        return await report_bad(self, sha256)

    monkeypatch.setattr(Blobs, "report_bad", slower)
    data = image(700_000)
    host.client.upload(data)
    host.damage_store(sha256_of(data), chunk=1)
    assert host.client.digest(data)[0] == sha256_of(data)


def test_damage_in_what_nobody_reads_is_noticed_too(host: Host) -> None:
    """A driver that reads only the beginning learns that the file was wrong before its block ends."""
    data = image(1_200_000)
    host.client.upload(data)
    host.damage_store(sha256_of(data))
    with pytest.raises(BlobCorrupt, match=sha256_of(data)[:12]):
        host.client.call("peek", f"blob:{sha256_of(data)}")
    assert host.cached() == set()


def test_what_can_be_read_only_once_is_not_flashed_as_nothing(host: Host) -> None:
    """A pipe cannot be uploaded again: the caller is told that the file was damaged."""
    data = image(400_000)

    def pipe() -> Any:
        read, write = os.pipe()
        threading.Thread(target=lambda: [os.write(write, data), os.close(write)]).start()
        return os.fdopen(read, "rb")

    with pipe() as first:
        host.client.upload(first)
    host.damage_store(sha256_of(data))
    with pipe() as second, pytest.raises(BlobCorrupt):
        host.client.digest(second)
    assert host.driver.calls == 1


@pytest.mark.parametrize("method", ["digest", "file"])
def test_a_damaged_copy_on_the_exporter_heals(host: Host, method: str) -> None:
    """The cached file was changed on the disk: it is dropped and fetched again, and the store keeps its own."""
    data = image(600_000)
    call = getattr(host.client, method)
    call(data)
    path = host.directory / sha256_of(data)
    path.chmod(0o600)
    path.write_bytes(data[:-1] + b"?")
    stored = host.stored()
    assert call(data)[0] == sha256_of(data)
    assert host.stored() == stored
    assert sha256_of(path.read_bytes()) == sha256_of(data)


def test_a_fetch_outlives_the_broker(tmp_path: Path) -> None:
    """The broker is killed when the first bytes are with the driver: the rest comes from its successor."""
    data = image(12 << 20)
    with (
        running_broker(principals={"exporter": ["bench"], "user": ["tester"]}) as broker,
        Host(broker, "bench", FileSettings(cache=tmp_path / "cache")) as host,
        ThreadPoolExecutor() as pool,
    ):
        done = pool.submit(host.client.interrupted, data)
        assert host.driver.begun.wait(30)
        broker.kill()
        host.driver.go_on.set()
        assert done.result(30) == sha256_of(data)
        assert host.cached() == {sha256_of(data)}


# ---------------------------------------------------------------------- the cache


def test_the_cache_keeps_its_limit(broker: TestBroker, tmp_path: Path) -> None:
    """What was used least recently makes room; what is larger than all of it is streamed past, as a file too."""
    settings = FileSettings(cache=tmp_path / "cache", max_bytes=2_500_000)
    with Host(broker, "bench", settings) as host:
        images = [image(1_000_000) for _ in range(3)]
        for each in images:
            host.client.digest(each)
        assert host.cached() == {sha256_of(each) for each in images[1:]}
        large = image(3_000_000)
        assert host.client.digest(large)[0] == sha256_of(large)
        assert host.client.file(large)[0] == sha256_of(large)
        assert host.cached() == {sha256_of(each) for each in images[1:]}


@contextmanager
def small_disk(target: Path) -> Iterator[Path]:
    """A directory on a disk of 4 MiB."""
    target.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(target)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small disk here: needs root")
    try:
        yield target
    finally:
        subprocess.run(["umount", "-l", str(target)], check=True)


def test_a_full_disk_stops_nothing_but_what_needs_it(broker: TestBroker, tmp_path: Path) -> None:
    """A stream goes past the cache; a file is refused with the directory's name; everything else goes on."""
    data, small = image(6 << 20), image(1 << 20)
    with small_disk(tmp_path / "disk") as disk, Host(broker, "bench", FileSettings(cache=disk)) as host:
        assert host.client.digest(data)[0] == sha256_of(data)
        with pytest.raises(OSError, match=f"cannot write to the cache directory {disk}: No space left") as caught:
            host.client.file(data)
        assert isinstance(caught.value, DriverError)
        with pytest.raises(OSError, match=f"cache directory {disk}: No space left"):
            host.client.dump(6 << 20, 1)
        assert host.client.ping() == "pong"
        assert host.client.file(small)[0] == sha256_of(small)
        assert host.cached() == {sha256_of(small)}


def test_a_directory_that_cannot_be_written_is_no_cache(broker: TestBroker, tmp_path: Path) -> None:
    """Streams go on; a file is refused with the reason."""
    (tmp_path / "occupied").write_text("a file")
    data = image(300_000)
    with Host(broker, "bench", FileSettings(cache=tmp_path / "occupied" / "cache")) as host:
        assert host.client.digest(data)[0] == sha256_of(data)
        with pytest.raises(OSError, match=r"occupied/cache: Not a directory"):
            host.client.file(data)


def test_two_agents_share_a_directory(broker: TestBroker, tmp_path: Path) -> None:
    """What one has fetched the other need not: the store has lost it meanwhile."""
    broker.add("exporter", "bench-2")
    settings = FileSettings(cache=tmp_path / "cache")
    data = image(900_000)
    with Host(broker, "bench", settings) as one, Host(broker, "bench-2", settings) as other:
        one.client.digest(data)
        one.lab.blobs.rm(sha256_of(data))
        assert other.client.digest(f"blob:{sha256_of(data)}")[0] == sha256_of(data)
        assert other.client.call("file", f"blob:{sha256_of(data)}?name=x.bin") == [sha256_of(data), "x.bin"]


def test_a_cancelled_call_leaves_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch that is given up in the middle leaves no part in the cache, and the next call has all of the file."""
    data = image(2_000_000)
    real = Blobs.read
    stopped = asyncio.Event()

    async def slow(self: Blobs, found: FoundBlob) -> AsyncIterator[bytes]:
        count = 0
        async for piece in real(self, found):
            count += 1
            if count == 4:
                await stopped.wait()
            yield piece

    handle = host.client.upload(data)
    monkeypatch.setattr(Blobs, "read", slow)
    with pytest.raises(TimeoutError):
        host.client.options(timeout_s=0.5).call("digest", handle)
    monkeypatch.setattr(Blobs, "read", real)
    assert host.client.digest(handle)[0] == sha256_of(data)
    assert host.cached() == {sha256_of(data)}


# ---------------------------------------------------------------------- results


def test_a_dump_is_downloaded(host: Host, tmp_path: Path) -> None:
    """20 MiB with equal digests; the exporter's host keeps it, so that flashing it again fetches nothing."""
    told: list[dict[str, Any]] = []
    handle = host.client.dump(20 << 20, 5)
    host.client.options(on_progress=told.append).download(handle, tmp_path / "dump.img")
    source = random.Random(5)
    expected = sha256_of(b"".join(source.randbytes(1 << 16) for _ in range(320)))
    assert sha256_of((tmp_path / "dump.img").read_bytes()) == expected
    assert told[-1] == {"done": 20 << 20, "total": 20 << 20, "message": "downloading dump.img"}
    assert host.cached() == {expected}
    stored = host.stored()
    assert host.client.digest(tmp_path / "dump.img") == [expected, "dump.img", 20 << 20]
    assert host.stored() == stored


def test_a_dump_that_fails_leaves_nothing(host: Host) -> None:
    """Neither in the store nor on the exporter's disk."""
    stored = host.stored()
    with pytest.raises(OSError, match="the device is gone"):
        host.client.fail_in_dump()
    assert (host.stored(), host.cached()) == (stored, set())


def test_a_url_is_not_in_the_store(host: Host, tmp_path: Path) -> None:
    """`download` says so instead of fetching it."""
    with pytest.raises(InvalidArgument, match="not in the lab's store"):
        host.client.download("https://host/image", tmp_path / "x")


# ---------------------------------------------------------------------- URLs


class _Pages(BaseHTTPRequestHandler):
    body = gzip.compress(b"from the web" * 1000)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    """The URL of an image on a web server of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/fw.img.gz"
        server.shutdown()
        thread.join()


def test_a_url_is_refused_by_default(host: Host, web: str) -> None:
    """One line that says where to allow it."""
    with pytest.raises(OSError, match="does not fetch from 127.0.0.1") as caught:
        host.client.digest(web)
    assert "add the host to fetch:" in str(caught.value)


def test_a_url_of_a_listed_host_is_fetched(broker: TestBroker, tmp_path: Path, web: str) -> None:
    """By the exporter itself, decompressed, as a stream and as a file."""
    settings = FileSettings(cache=tmp_path / "cache", fetch=("127.0.0.1",))
    with Host(broker, "bench", settings) as host:
        expected = sha256_of(b"from the web" * 1000)
        stored = host.stored()
        assert host.client.digest(web) == [expected, "fw.img", None]
        assert host.client.file(web) == [expected, "fw.img"]
        assert (host.stored(), host.cached()) == (stored, set())


# ---------------------------------------------------------------------- commands


def test_commands_upload_by_the_schema(host: Host, broker: TestBroker, tmp_path: Path) -> None:
    """`jsnats call` and `j` take a local path, standard input or a handle; the upload shows no bar in a pipe."""
    data = image(500_000)
    (tmp_path / "a.img").write_bytes(data)
    context = {"JSNATS_CONTEXT": str(broker.context_path("tester")), "JSNATS_EXPORTER": "bench"}

    def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        code = f"import sys; from jsnats.sdk.cli import main, j_main; sys.argv = {list(words)!r}; {words[0]}()"
        code = code.replace("jsnats()", "main()").replace("; j()", "; j_main()")
        return subprocess.run([sys.executable, "-c", code], input=stdin, capture_output=True, env=os.environ | context)

    path = str(tmp_path / "a.img")
    for words, stdin, name in (
        (["jsnats", "call", "bench.digest", path, "--json"], b"", "a.img"),
        (["jsnats", "call", "bench.digest", f"image={path}", "--json"], b"", "a.img"),
        (["jsnats", "call", "bench.digest", "-", "--json"], data, ""),
        (["jsnats", "call", "bench.digest", f"blob:{sha256_of(data)}", "--json"], b"", ""),
        (["j", "digest", "--image", path, "--json"], b"", "a.img"),
    ):
        done = run(*words, stdin=stdin)
        assert done.stderr == b""
        assert json.loads(done.stdout) == [sha256_of(data), name, len(data)]
    done = run("jsnats", "stream", "bench.lengths", path)
    assert sum(map(int, done.stdout.split())) == len(data)
    job = run("jsnats", "call", "--detach", "bench.digest", path).stdout.decode().strip()
    assert list(host.lab.job(job).items()) == [[sha256_of(data), "a.img", len(data)]]
    missing = run("jsnats", "call", "bench.digest", "missing.img")
    assert missing.returncode == 2
    assert b"there is no file missing.img" in missing.stderr
    usage = run("jsnats", "call", "bench.digest", "--help")
    assert b"digest(image: file, decompress: bool = true)" in usage.stdout
