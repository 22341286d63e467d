import gzip
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from jsnats.agent.testing import AgentProcess
from jsnats.client import DriverClient
from jsnats.common.exceptions import DriverError
from jsnats.common.utils import serve, session_broker
from jsnats.sdk import Lab, connect
from jsnats_driver_opendal.client import FlasherClient, OpendalClient, StorageMuxFlasherClient
from jsnats_driver_opendal.common import Metadata, PresignedRequest
from jsnats_driver_opendal.driver import MockFlasher, MockStorageMux, Opendal


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The exporter's cache, empty at first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "jsnats" / "blobs"


@pytest.fixture
def client(tmp_path):
    """The client of a storage on a disk."""
    with serve(Opendal(scheme="fs", kwargs={"root": str(tmp_path / "files")})) as client:
        assert isinstance(client, OpendalClient)
        yield client


def run(client: DriverClient, *words: str) -> str:
    """Invoke the client's commands; return what was printed."""
    result = CliRunner().invoke(client.cli(), words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@contextmanager
def lab() -> Iterator[Lab]:
    """A connection of the user that `serve` calls as."""
    with connect(context=session_broker().context("tester")) as lab:
        yield lab


def test_files_go_there_and_back(client, tmp_path):
    """Whole ones by way of the store, byte for byte, and small ones in calls; 2 MB through an open file."""
    data = os.urandom(2_000_000)
    packed = gzip.compress(data)
    (tmp_path / "a.gz").write_bytes(packed)
    client.write_from_path("dir/a.gz", tmp_path / "a.gz")
    assert (tmp_path / "files" / "dir" / "a.gz").read_bytes() == packed
    client.read_into_path("dir/a.gz", tmp_path / "back.gz")
    assert (tmp_path / "back.gz").read_bytes() == packed
    client.write_bytes("small", data)
    assert client.read_bytes("small") == data


def test_an_open_file_is_like_pythons(client):
    """Position, ability and end; a block closes it."""
    with client.open("file", "wb") as file:
        assert (file.write(b"0123456789"), file.writable(), file.readable()) == (10, True, False)
        assert not file.closed
    assert file.closed
    with client.open("file", "rb") as file:
        assert (file.read(4), file.tell(), file.seek(-1, 2), file.read(), file.read()) == (b"0123", 4, 9, b"9", b"")
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        file.seek(0)
        assert file.read(100) == b"0123456789"


def test_names_and_what_is_known_of_them(client, tmp_path):
    """Each method of the storage has one here."""
    client.write_bytes("a", b"data")
    client.copy("a", "dir/b")
    client.rename("a", "c")
    client.create_dir("empty")
    assert sorted(client.list()) == ["c", "dir/", "empty/"]
    assert sorted(client.scan()) == ["c", "dir/", "dir/b", "empty/"]
    assert (client.exists("c"), client.exists("a")) == (True, False)
    found = client.stat("c")
    assert isinstance(found, Metadata)
    assert (found.mode, found.content_length) == ("file", 4)
    assert client.hash("c", "md5") == hashlib.md5(b"data").hexdigest()
    assert client.get_created_resources() == ["dir/", "dir/b", "c", "empty/"]
    client.delete("c")
    client.remove_all("dir")
    client.register_path("other")
    assert client.get_created_resources() == ["empty/", "other"]
    assert (client.capability()["rename"], client.capability()["presign"]) == (True, False)


def test_faults_arrive_as_builtins(client):
    """With the exception's class as cause; a path out of the root is refused."""
    with pytest.raises(OSError, match="stat: no: there is no such file") as caught:
        client.stat("no")
    assert isinstance(caught.value, DriverError)
    assert caught.value.cause == "FileNotFoundError"
    with pytest.raises(OSError, match="not a path below the root"):
        client.write_bytes("../x", b"")
    with pytest.raises(NotImplementedError, match="cannot do that"):
        client.presign_read("no", 10)


def test_a_presigned_request_is_a_model():
    """What `presign_read` and its sisters return."""
    with serve(Opendal(scheme="s3", kwargs=S3)) as client:
        for method in (client.presign_stat, client.presign_read, client.presign_write):
            request = method("file", 60)
            assert isinstance(request, PresignedRequest)
            assert "X-Amz-Expires=60" in request.url


S3 = {
    "bucket": "b",
    "endpoint": "http://127.0.0.1:9",
    "region": "us-east-1",
    "access_key_id": "id",
    "secret_access_key": "key",
    "disable_config_load": "true",
    "disable_ec2_metadata": "true",
}


def test_each_method_has_a_command(client, tmp_path):
    """`j files ...`: the results as text or JSON, the exit code of `exists` as of `test -e`."""
    (tmp_path / "local").write_bytes(b"data")
    run(client, "write", "a", str(tmp_path / "local"))
    run(client, "copy", "a", "dir/b")
    run(client, "rename", "dir/b", "dir/c")
    run(client, "create-dir", "empty")
    run(client, "read", "dir/c", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b"data"
    assert run(client, "read", "dir/c", "-") == "data"
    assert sorted(run(client, "list").split()) == ["a", "dir/", "empty/"]
    assert sorted(run(client, "scan", "dir").split()) == ["dir/c"]
    assert json.loads(run(client, "stat", "a"))["content_length"] == 4
    assert run(client, "hash", "a", "--algo", "md5").strip() == hashlib.md5(b"data").hexdigest()
    assert run(client, "created").split() == ["a", "dir/", "dir/c", "empty/"]
    run(client, "delete", "a")
    run(client, "remove-all", "dir")
    assert run(client, "exists", "empty/") == "true\n"
    assert CliRunner().invoke(client.cli(), ["exists", "a"]).exit_code == 1
    assert json.loads(run(client, "capability"))["write"] is True
    with serve(Opendal(scheme="s3", kwargs=S3)) as s3:
        for command in ("presign-stat", "presign-read", "presign-write"):
            assert "X-Amz-Expires=5" in json.loads(run(s3, command, "file", "-e", "5"))["url"]


def test_an_image_is_flashed_and_dumped(tmp_path):
    """A path, bytes, a file, a map of targets; what comes back is what was flashed, decompressed."""
    data = os.urandom(700_000)
    (tmp_path / "a.img.gz").write_bytes(gzip.compress(data))
    with serve(MockFlasher()) as client:
        assert isinstance(client, FlasherClient)
        client.flash(tmp_path / "a.img.gz")
        client.dump(tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == data
        client.flash({"boot": b"boot", "root": io.BytesIO(b"root")})
        client.dump(tmp_path / "out", target="root")
        assert (tmp_path / "out").read_bytes() == b"root"
        with pytest.raises(ValueError, match="leave `target` out"):
            client.flash({"boot": b"boot"}, target="root")
        with pytest.raises(ValueError, match="nothing was flashed to swap"):
            client.dump(tmp_path / "out", target="swap")


def test_flashing_again_uploads_and_fetches_nothing(tmp_path):
    """The store need not have the image any more, and progress begins with the writing."""
    data = os.urandom(1_000_000)
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / "a.img").write_bytes(data)
    with serve(MockFlasher()) as client, lab() as connected:
        client.flash(tmp_path / "a.img")
        assert digest in os.listdir(session_broker().directory / "cache")
        told: list[dict[str, Any]] = []
        client.options(on_progress=told.append).flash(tmp_path / "a.img")
        uploads = [each["done"] for each in told if each["message"] == "uploading a.img"]
        assert set(uploads) == {len(data)}
        connected.blobs.rm(digest)
        client.flash(f"blob:{digest}", target="again")
        client.dump(tmp_path / "out", target="again")
    assert (tmp_path / "out").read_bytes() == data


def test_two_exporters_of_a_host_share_what_was_fetched(tmp_path, cache):
    """Two agents, each a process of its own: the second finds the image in the cache though the store has lost it."""
    broker = session_broker()
    data = os.urandom(500_000)
    digest = hashlib.sha256(data).hexdigest()
    names = ("flash-1", "flash-2")
    for name in names:
        broker.add("exporter", name)
    agents = [AgentProcess(name, broker.context_path(name), "jsnats_driver_opendal:MockFlasher") for name in names]
    with agents[0], agents[1], lab() as connected:
        first, second = (connected.exporter(name) for name in names)
        first.flash(data)
        connected.blobs.rm(digest)
        second.flash(f"blob:{digest}")
        second.dump(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data


def test_a_card_is_flashed(tmp_path):
    """The card ends at the device; the single steps are there too."""
    with serve(MockStorageMux()) as client:
        assert isinstance(client, StorageMuxFlasherClient)
        client.flash(b"image")
        assert client.call("attached") == "dut"
        client.dump(tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == b"image"
        with pytest.raises(OSError, match="attached to dut"):
            client.write_local_file(tmp_path / "out")
        (tmp_path / "other").write_bytes(b"other")
        client.host()
        client.write_local_file(tmp_path / "other")
        client.read_local_file(tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == b"other"
        client.off()
        assert client.call("attached") == "off"


def test_flashers_have_commands(tmp_path):
    """`j flasher flash FILE`, `dump FILE`, `-t`; a card has host, dut, off and write as well."""
    (tmp_path / "image").write_bytes(b"image")
    with serve(MockFlasher()) as client:
        told = run(client, "flash", str(tmp_path / "image"), "-t", "boot")
        assert re.fullmatch(
            r"flashed 5 B in \d+\.\d s \([\d.]+ k?B/s\), (5 B uploaded|already there, nothing uploaded)\n", told
        )
        again = run(client, "flash", str(tmp_path / "image"), "-t", "boot")
        assert again.endswith(", already there, nothing uploaded\n")
        run(client, "dump", str(tmp_path / "out"), "-t", "boot")
        assert (tmp_path / "out").read_bytes() == b"image"
    with serve(MockStorageMux()) as client:
        run(client, "host")
        assert run(client, "write", str(tmp_path / "image")).startswith("wrote 5 B in ")
        run(client, "off")
        run(client, "flash", str(tmp_path / "image"))
        assert client.call("attached") == "dut"
        run(client, "dut")
        run(client, "dump", str(tmp_path / "out"))
        assert (tmp_path / "out").read_bytes() == b"image"
