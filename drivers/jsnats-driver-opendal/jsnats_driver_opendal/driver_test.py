import asyncio
import errno
import hashlib
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import ValidationError

import jsnats_driver_opendal
from jsnats.agent import load
from jsnats.common.utils import serve
from jsnats.driver import ResourceStream, methods_of, progress_sink
from jsnats_driver_opendal.driver import FlasherInterface, MockFlasher, MockStorageMux, Opendal, StorageMuxInterface
from jsnats_driver_opendal.files import Files
from jsnats_driver_opendal.medium import to_the_end
from jsnats_driver_opendal.paths import clean
from jsnats_driver_opendal.storage import write_image


@pytest.fixture
def root(tmp_path):
    """The root of a storage, with a secret beside it and links that lead there."""
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("secret")
    (root / "dir-link").symlink_to(tmp_path)
    (root / "file-link").symlink_to(tmp_path / "secret")
    (root / "inside").mkdir()
    (root / "inside" / "file").write_text("inside")
    (root / "inner-link").symlink_to("inside")
    return root


@pytest.fixture
def files(root):
    """A storage on a disk."""
    return Opendal(scheme="fs", kwargs={"root": str(root)})


async def entries(found: AsyncIterator[str]) -> list[str]:
    """What an async generator yields, sorted."""
    return sorted([each async for each in found])


ESCAPES = [
    "../secret",
    "/../secret",
    "inside/../../secret",
    "inside/../file-link",
    "./.././secret",
    "..",
    "dir-link/secret",
    "dir-link/",
    "/dir-link//secret",
    "file-link",
    "loop",
    "inside/file\0",
]


@pytest.mark.parametrize("path", ESCAPES)
async def test_no_path_leads_out_of_the_root(files, root, path):
    """Neither `..` nor a link, for no method; and nothing outside is changed."""
    (root / "loop").symlink_to("loop")
    for call in (
        files.open(path, "rb"),
        files.open(path, "wb"),
        files.stat(path),
        files.exists(path),
        files.hash(path),
        files.read(path),
        files.delete(path),
        files.remove_all(path),
        files.create_dir(path),
        files.copy(path, "stolen"),
        files.copy("inside/file", path),
        files.rename(path, "stolen"),
        files.rename("inside/file", path),
        files.presign_read(path, 1),
        files.write(path, str(root / "inside" / "file")),
        files.register_path(path),
        entries(files.list(path)),
        entries(files.scan(path)),
    ):
        with pytest.raises(PermissionError, match="root"):
            await call
    assert (root.parent / "secret").read_text() == "secret"
    assert sorted(os.listdir(root.parent)) == ["root", "secret"]
    assert (root / "inside" / "file").read_text() == "inside"


async def test_links_and_dots_inside_the_root_are_fine(files):
    """Only what leads out is refused: a link within, a doubled slash, names with dots."""
    assert await files.hash("inner-link/file") == hashlib.sha256(b"inside").hexdigest()
    assert await files.exists("//inside/./file")
    await files.file_close(await files.open("..x..", "wb"))
    assert "..x.." in await entries(files.list())


@pytest.mark.parametrize("scheme", ["FS", " fs", "fs://", "fs://x/y", "File"])
def test_a_storage_has_one_spelling(root, scheme):
    """OpenDAL takes each of these for `fs`, and without the rules of `fs` a link leads anywhere."""
    with pytest.raises(ValidationError, match="the name of a service in lower case"):
        Opendal(scheme=scheme, kwargs={"root": str(root)})


async def test_what_a_link_hides_is_not_listed(files):
    """`scan` names the links but does not go through them."""
    found = await entries(files.scan())
    assert "file-link" in found
    assert not [path for path in found if path.startswith("dir-link/")]


async def test_remove_all_does_not_follow_links(files, root):
    """A link in a directory that is removed goes; what it leads to stays."""
    (root / "inside" / "out").symlink_to(root.parent)
    await files.remove_all("inside")
    assert not (root / "inside").exists()
    assert (root.parent / "secret").read_text() == "secret"


async def test_the_rule_holds_for_every_storage():
    """`..` is refused in object stores and URLs as well, where OpenDAL takes it as it is."""
    for scheme, kwargs in (("memory", {}), ("http", {"endpoint": "http://127.0.0.1:9", "root": "/pub"})):
        with pytest.raises(PermissionError):
            await Opendal(scheme=scheme, kwargs=kwargs).stat("../x")
    assert [clean(path) for path in ("", "/", "a//b/", "./a")] == ["", "", "a/b/", "a"]


@pytest.fixture(params=["fs", "memory"])
def storage(request, tmp_path):
    """A storage that can rename, and one that cannot."""
    return Opendal(scheme=request.param, kwargs={"root": str(tmp_path / "files")} if request.param == "fs" else {})


def taken(handle: str) -> bytes:
    """The content of a file that a driver made without an agent, which is removed."""
    data = Path(handle).read_bytes()
    Path(handle).unlink()
    return data


async def put(storage: Opendal, path: str, data: bytes) -> None:
    """Write a file."""
    fd = await storage.open(path, "wb")
    assert await storage.file_write(fd, data) == len(data)
    await storage.file_close(fd)


async def test_an_open_file_has_a_position(storage):
    """Written in parts, read from anywhere; each handle says what it can do."""
    fd = await storage.open("a/b.bin", "wb")
    for part in (b"0123", b"4567"):
        await storage.file_write(fd, part)
    assert (await storage.file_writable(fd), await storage.file_readable(fd)) == (True, False)
    await storage.file_close(fd)
    assert await storage.file_closed(fd)
    await storage.file_close(fd)
    fd = await storage.open("a/b.bin", "r")
    assert (await storage.file_readable(fd), await storage.file_writable(fd)) == (True, False)
    assert (await storage.file_seekable(fd), await storage.file_closed(fd)) == (True, False)
    assert await storage.file_read(fd, 3) == b"012"
    assert await storage.file_seek(fd, -2, 2) == 6
    assert (await storage.file_read(fd), await storage.file_read(fd)) == (b"67", b"")
    assert await storage.file_tell(fd) == 8
    with pytest.raises(ValueError, match="negative seek position -1"):
        await storage.file_seek(fd, -1)
    with pytest.raises(OSError, match="negative"):
        await storage.file_seek(fd, -9, 1)
    await storage.close()
    with pytest.raises(ValueError, match="the lease has ended"):
        await storage.file_read(fd)


async def test_names_are_changed(storage):
    """Copy and rename work on a storage that can do neither itself; stat and list see the result."""
    await put(storage, "one", b"data")
    await storage.copy("one", "dir/two")
    await storage.rename("one", "three")
    assert await entries(storage.list()) == ["dir/", "three"]
    assert await entries(storage.list("dir")) == ["dir/two"]
    assert {"dir/two", "three"} <= set(await entries(storage.scan()))
    found = await storage.stat("dir/two")
    assert (found.mode, found.content_length) == ("file", 4)
    assert (await storage.stat("dir/")).mode == "dir"
    await storage.delete("three")
    await storage.remove_all("dir")
    assert await entries(storage.scan()) == []
    assert not await storage.exists("three")


async def test_a_file_renamed_to_itself_stays(storage):
    """It is refused, as OpenDAL does it; a copy and a removal would lose it."""
    await put(storage, "one", b"data")
    with pytest.raises(OSError, match="are same"):
        await storage.rename("one", "./one")
    assert taken(await storage.read("one")) == b"data"


@pytest.mark.parametrize("algo", ["sha256", "md5", "blake2b"])
async def test_the_hash_is_that_of_hashlib(storage, algo):
    """Any algorithm with a digest of fixed length."""
    await put(storage, "file", b"x" * 3_000_000)
    assert await storage.hash("file", algo) == hashlib.new(algo, b"x" * 3_000_000).hexdigest()


async def test_faults_are_builtins(storage):
    """What is missing, what cannot be done, what makes no sense: each in one line."""
    for call in (storage.stat("no"), storage.open("no", "rb"), storage.hash("no"), storage.copy("no", "x")):
        with pytest.raises(FileNotFoundError, match="no: there is no such file") as caught:
            await call
        assert "\n" not in str(caught.value)
    with pytest.raises(NotImplementedError, match="this storage cannot do that"):
        await storage.presign_read("no", 10)
    with pytest.raises(IsADirectoryError):
        await storage.open("dir/", "wb")
    for algo in ("none", "shake_128"):
        with pytest.raises(ValueError, match="no hash algorithm"):
            await storage.hash("no", algo)
    with pytest.raises(ValueError, match="none of rb, wb, ab"):
        await storage.open("no", "r+")
    assert await entries(storage.scan()) == []


async def test_append_goes_on_at_the_end(files):
    """Where the storage can."""
    await put(files, "log", b"one")
    fd = await files.open("log", "ab")
    await files.file_write(fd, b"two")
    await files.file_close(fd)
    assert await files.hash("log") == hashlib.sha256(b"onetwo").hexdigest()


async def test_not_too_many_files_are_open(storage):
    """A client that never closes is stopped; the end of the lease closes all."""
    for index in range(64):
        await storage.open(f"f{index}", "wb")
    with pytest.raises(OSError, match="64 files are open"):
        await storage.open("one-more", "wb")
    await storage.close()
    await storage.open("one-more", "wb")


@pytest.mark.parametrize("remove", [False, True])
async def test_what_was_made_in_a_lease_is_removed_at_its_end(tmp_path, remove):
    """If that is asked for; what was there before stays, overwritten or not."""
    (tmp_path / "old").write_text("old")
    storage = Opendal(scheme="fs", kwargs={"root": str(tmp_path)}, remove_created_on_close=remove)
    await put(storage, "old", b"new")
    await put(storage, "dir/sub/file", b"x")
    await storage.copy("old", "copied")
    await storage.rename("copied", "renamed")
    await storage.create_dir("empty")
    await put(storage, "gone", b"x")
    await storage.delete("gone")
    (tmp_path / "by-device").write_text("x")
    await storage.register_path("by-device")
    made = ["dir/", "dir/sub/", "dir/sub/file", "renamed", "empty/", "by-device"]
    assert await storage.get_created_resources() == made
    await storage.close()
    assert await storage.get_created_resources() == []
    rest = ["by-device", "dir", "empty", "old", "renamed"]
    assert sorted(os.listdir(tmp_path)) == (["old"] if remove else rest)
    await storage.close()


async def test_a_file_that_fails_half_way_is_not_left(storage, tmp_path):
    """`write` of a source that breaks off removes what it wrote."""
    fifo = tmp_path / "source"
    os.mkfifo(fifo)

    class Broken(Exception):
        pass

    async def broken() -> AsyncGenerator[bytes, None]:
        yield b"half"
        raise Broken

    class Resources:
        @asynccontextmanager
        async def open(self, handle):
            yield ResourceStream(broken())

    vars(storage)["_resources"] = Resources()
    with pytest.raises(Broken):
        await storage.write("file", "handle")
    assert not await storage.exists("file")
    assert await storage.get_created_resources() == []


async def test_a_file_that_cannot_be_completed_is_not_left(files, root, tmp_path, monkeypatch):
    """What the storage says only when the file is closed is an error of `write`."""
    (tmp_path / "source").write_bytes(b"x" * 10)

    async def fail(fd):
        await Files.close(files._files, fd)
        raise OSError("no room")

    monkeypatch.setattr(files._files, "close", fail)
    with pytest.raises(OSError, match="no room"):
        await files.write("file", str(tmp_path / "source"))
    assert not (root / "file").exists()
    assert await files.get_created_resources() == []


@pytest.fixture
def web(root):
    """A web server over the root, and its address."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(root / "inside"))

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def test_a_web_server_is_read(web):
    """stat, hash and read work; what http cannot do is NotImplementedError."""
    storage = Opendal(scheme="http", kwargs={"endpoint": web})
    assert (await storage.stat("file")).content_length == 6
    assert await storage.hash("file") == hashlib.sha256(b"inside").hexdigest()
    fd = await storage.open("file", "rb")
    assert await storage.file_read(fd) == b"inside"
    await storage.close()
    with pytest.raises(FileNotFoundError):
        await storage.stat("missing")
    with pytest.raises(NotImplementedError):
        await entries(storage.list())
    with pytest.raises(NotImplementedError):
        await storage.file_close(await storage.open("new", "wb"))


@pytest.fixture
def bucket():
    """An S3 server with a bucket; yields its configuration."""
    moto = pytest.importorskip("moto.server", reason="needs moto's S3 server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/images", method="PUT")):
        pass
    yield {
        "bucket": "images",
        "endpoint": endpoint,
        "region": "us-east-1",
        "access_key_id": "id",
        "secret_access_key": "key",
        "disable_config_load": "true",
        "disable_ec2_metadata": "true",
    }
    server.stop()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of botocore's and moto's own code
async def test_an_object_store_is_a_storage(bucket):
    """Files of several parts, names, rename by copy, and requests that anybody may make."""
    storage = Opendal(scheme="s3", kwargs=bucket)
    data = os.urandom(9_000_000)
    fd = await storage.open("dir/image", "wb")
    for at in range(0, len(data), 1 << 20):
        await storage.file_write(fd, data[at : at + (1 << 20)])
    await storage.file_close(fd)
    assert (await storage.stat("dir/image")).content_length == len(data)
    await storage.rename("dir/image", "moved")
    assert await entries(storage.scan()) == ["moved"]
    assert await storage.hash("moved") == hashlib.sha256(data).hexdigest()
    request = await storage.presign_read("moved", 60)
    assert request.method == "GET"
    fetched = await asyncio.to_thread(lambda: urllib.request.urlopen(request.url).read())
    assert fetched == data
    assert (await storage.presign_write("moved", 60)).method == "PUT"
    assert (await storage.presign_stat("moved", 60)).method == "HEAD"
    assert (await storage.capability())["presign_read"] is True


def test_a_storage_that_cannot_be_is_one_line():
    """An unknown scheme, and one without what it needs; keys do not show in a repr."""
    with pytest.raises(ValidationError, match="nope: scheme is not registered"):
        Opendal(scheme="nope", kwargs={})
    with pytest.raises(ValidationError, match="fs: root is not specified"):
        Opendal(scheme="fs", kwargs={})
    with pytest.raises(ValidationError, match="create root dir failed: No such file or directory") as caught:
        Opendal(scheme="fs", kwargs={"root": "/proc/no/such"})
    assert "Backtrace" not in str(caught.value)
    with pytest.raises(ValidationError):
        Opendal(scheme="memory", kwargs={}, root="x")  # type: ignore[call-arg]
    assert "secret" not in repr(Opendal(scheme="memory", kwargs={"secret": "secret"}))


# ---------------------------------------------------------------------- flashers


async def test_a_mock_gives_back_what_was_flashed(tmp_path):
    """For each target its own; before that there is nothing. Progress is told."""
    (tmp_path / "a").write_bytes(b"a" * 3_000_000)
    (tmp_path / "b").write_bytes(b"b")
    flasher, said = MockFlasher(), []
    with pytest.raises(ValueError, match="nothing was flashed to the device"):
        await flasher.dump()
    token = progress_sink.set(lambda done, total, message: said.append((done, total)))
    await flasher.flash(str(tmp_path / "a"))
    progress_sink.reset(token)
    assert said[-1] == (3_000_000, 3_000_000)
    await flasher.flash(str(tmp_path / "b"), "boot")
    for target, data in ((None, b"a" * 3_000_000), ("boot", b"b")):
        assert taken(await flasher.dump(target)) == data


class Mux(StorageMuxInterface):
    """Plain functions, as over a blocking library; writes down what it is told, and fails where it should."""

    def __post_init__(self):
        super().__post_init__()
        self.told, self.broken = [], set()

    def _tell(self, what: str) -> None:
        self.told.append((what, threading.get_ident()))
        if what in self.broken:
            raise OSError(f"{what} failed")

    def host(self) -> None:
        self._tell("host")

    def dut(self) -> None:
        self._tell("dut")

    def off(self) -> None:
        self._tell("off")

    def write(self, src: str) -> None:
        self._tell("write")

    def read(self) -> str:
        self._tell("read")
        return "blob:" + "0" * 64


def told(mux: Mux) -> list[str]:
    """What it was told, without where."""
    return [what for what, _ in mux.told]


async def test_flash_takes_the_card_and_gives_it_back():
    """host, write, dut; and for a dump host, read, dut."""
    mux = Mux()
    await mux.flash("image")
    await mux.dump()
    assert told(mux) == ["host", "write", "dut", "host", "read", "dut"]
    with pytest.raises(ValueError, match="leave the target out"):
        await mux.flash("image", "boot")
    assert told(mux)[6:] == []


@pytest.mark.parametrize("broken", ["host", "write"])
async def test_half_an_image_is_not_booted(broken):
    """When the write fails, the card is attached to nothing and the error is the write's."""
    mux = Mux()
    mux.broken = {broken}
    with pytest.raises(OSError, match=f"{broken} failed"):
        await mux.flash("image")
    assert told(mux)[-1] == "off"
    assert "dut" not in told(mux)


async def test_the_first_fault_of_a_flash_is_the_one_that_is_told(caplog):
    """When the card cannot be taken away either, as from a mux that was unplugged, that is in the log."""
    mux = Mux()
    mux.broken = {"write", "off"}
    with pytest.raises(OSError, match="write failed"):
        await mux.flash("image")
    assert "the card was not attached to nothing after a flash that failed: off failed" in caplog.text


async def test_a_failed_dump_gives_the_card_back():
    """What is on it is whole."""
    mux = Mux()
    mux.broken = {"read"}
    with pytest.raises(OSError, match="read failed"):
        await mux.dump()
    assert told(mux) == ["host", "read", "dut"]


def test_plain_functions_run_on_the_drivers_thread():
    """In a flash too: a library that is not thread-safe sees one thread."""
    mux = Mux()
    with serve(mux) as client:
        client.flash(b"image")
        client.off()
    assert len({ident for _, ident in mux.told}) == 1
    assert threading.get_ident() not in {ident for _, ident in mux.told}


async def test_a_mock_card_is_where_one_says(tmp_path):
    """It is written and read only at the host."""
    (tmp_path / "image").write_bytes(b"image")
    mux = MockStorageMux()
    with pytest.raises(OSError, match="attached to off: attach it to the host first"):
        await mux.write(str(tmp_path / "image"))
    await mux.flash(str(tmp_path / "image"))
    assert await mux.attached() == "dut"
    with pytest.raises(OSError, match="attached to dut"):
        await mux.read()
    assert taken(await mux.dump()) == b"image"


async def test_a_full_medium_says_so(tmp_path):
    """A device that takes nothing is an OSError, not a flash that seems to have worked."""
    (tmp_path / "image").write_bytes(b"x" * 10_000)
    with pytest.raises(OSError, match="No space left"):
        await write_image(MockFlasher(), str(tmp_path / "image"), Path("/dev/full"))


async def test_a_medium_that_is_not_there_is_not_made(tmp_path):
    """A device that is not plugged in is an error, not a file of that name."""
    (tmp_path / "image").write_bytes(b"image")
    with pytest.raises(FileNotFoundError, match="sdz"):
        await write_image(MockFlasher(), str(tmp_path / "image"), tmp_path / "sdz")
    assert not (tmp_path / "sdz").exists()


async def test_a_flash_ends_when_the_medium_has_it_all(tmp_path, monkeypatch):
    """What the medium says only when its buffers are written is an error of the flash."""

    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "image").write_bytes(b"x")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="the medium did not take what was written: Input/output error"):
        await MockFlasher().flash(str(tmp_path / "image"))


async def test_an_image_can_be_read_back(tmp_path, monkeypatch):
    """Then a medium that has something else on it, or less, is an error; progress says how far the comparison is."""
    (tmp_path / "image").write_bytes(b"x" * 3_000_000)
    (medium := tmp_path / "medium").touch()
    said = []
    token = progress_sink.set(lambda done, total, message: said.append((message, done, total)))
    assert await write_image(MockFlasher(), str(tmp_path / "image"), medium, verify=True) == 3_000_000
    progress_sink.reset(token)
    assert said[-3:] == [("comparing", done, 3_000_000) for done in (1 << 20, 2 << 20, 3_000_000)]
    for spoilt in (b"y" * 3_000_000, b"x" * 2_999_999):
        monkeypatch.setattr(os, "fsync", lambda descriptor, spoilt=spoilt: medium.write_bytes(spoilt))
        with pytest.raises(OSError, match="medium does not give back what was written"):
            await write_image(MockFlasher(), str(tmp_path / "image"), medium, verify=True)


async def test_a_medium_that_hangs_is_given_up(tmp_path, monkeypatch):
    """After the time that it was given to take what was written."""
    (tmp_path / "image").write_bytes(b"x")
    (medium := tmp_path / "medium").touch()
    go_on = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda descriptor: go_on.wait(30))
    with pytest.raises(TimeoutError, match="medium did not take within 0.1 s what was written"):
        await write_image(MockFlasher(), str(tmp_path / "image"), medium, sync_timeout=0.1)
    go_on.set()


async def test_a_cancelled_write_is_waited_for():
    """The file stays open as long as a thread writes into it: its number would be that of the next file."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(30)
        ended.set()

    running = asyncio.create_task(to_the_end(work))
    await asyncio.to_thread(begun.wait, 30)
    running.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not running.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()


def test_the_interfaces_cannot_be_made():
    """Their methods are the driver's to write; they are exported already, and say which argument is a file."""
    for cls in (FlasherInterface, StorageMuxInterface):
        with pytest.raises(TypeError, match="abstract"):
            cls()  # type: ignore[abstract]
    methods = methods_of(Mux)
    assert set(methods) == {"flash", "dump", "host", "dut", "off", "write", "read"}
    source = methods["flash"].record.params["properties"]["source"]
    assert (source["format"], methods["dump"].record.result["format"]) == ("jsnats-resource", "jsnats-resource")


def test_the_example_is_a_valid_exporter(tmp_path, monkeypatch):
    """examples/exporter.yaml gives the drivers with the parameters it says."""
    text = (Path(__file__).parents[1] / "examples" / "exporter.yaml").read_text()
    path = tmp_path / "exporter.yaml"
    path.write_text(text.replace("/var/tmp/jsnats-files", str(tmp_path / "files")))
    (exporter,) = load([path])
    storage = exporter.root.children["tftp-root"]
    assert isinstance(storage, Opendal)
    assert (storage.scheme, storage.remove_created_on_close) == ("fs", True)
    assert exporter.files.fetch == ("images.example.com",)
    assert isinstance(exporter.root.children["card"], MockStorageMux)


def test_the_package_offers_the_drivers_lazily():
    """`from jsnats_driver_opendal import Opendal` works, and a name that is not there is an AttributeError."""
    assert jsnats_driver_opendal.Opendal is Opendal
    with pytest.raises(AttributeError, match="has no attribute 'Floppy'"):
        _ = jsnats_driver_opendal.Floppy


def test_a_client_does_not_load_the_exporter_side():
    """Importing the package and its client leaves the driver, `jsnats.driver` and opendal unloaded."""
    code = (
        "import sys, jsnats_driver_opendal.client as c;"
        "sys.exit(bool({'opendal', 'jsnats.driver', c.__package__ + '.driver'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_flasher_does_not_load_the_library_of_storages():
    """An exporter without a storage saves its 7 MiB."""
    ask = "import sys, jsnats_driver_opendal.driver as driver; driver.MockFlasher(); print('opendal' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", ask], text=True) == "False\n"
