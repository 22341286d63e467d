import asyncio
import errno
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import jsnats_driver_http
from jsnats.agent import load
from jsnats.testing import until_async
from jsnats_driver_http.driver import HttpServer
from jsnats_driver_opendal import server
from jsnats_driver_opendal.testing import output_of

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")

MIB = 1 << 20
GET_LARGE = "GET /large HTTP/1.1\r\nHost: here\r\n\r\n"


@asynccontextmanager
async def running(root: Path, **more: Any) -> AsyncGenerator[HttpServer, None]:
    """A server that listens on loopback."""
    config: dict[str, Any] = {"root_dir": str(root), "host": "127.0.0.1", "port": 0} | more
    driver = HttpServer(**config)
    await driver.start_server()
    try:
        yield driver
    finally:
        await driver.close()


async def curl(*words: object, code: int = 0) -> bytes:
    """What curl prints; its exit code has to be `code`."""
    return await output_of("curl", "--silent", "--path-as-is", *words, code=code)


async def status(*words: object) -> str:
    """The status that curl is told."""
    return (await curl("-o", "/dev/null", "-w", "%{http_code}", *words)).decode()


@asynccontextmanager
async def asked(driver: HttpServer, request: str) -> AsyncGenerator[asyncio.StreamReader, None]:
    """A connection on which a request was made; it is paused until it is read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", await driver.get_port())
    writer.write(request.encode())
    try:
        yield reader
    finally:
        writer.transport.abort()
        await asyncio.wait({asyncio.ensure_future(writer.wait_closed())})


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server ends the connection, in whatever way."""
    data = b""
    with suppress(ConnectionError):
        while more := await reader.read(MIB):
            data += more
    return data


@contextmanager
def sparse(path: Path, size: int) -> Iterator[None]:
    """A large file that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
    yield
    path.unlink()


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB])
async def test_a_file_arrives_as_it_is(tmp_path, size):
    """Whatever its size is beside that of a block, with its length in the header."""
    data = os.urandom(size)
    (tmp_path / "a.img").write_bytes(data)
    async with running(tmp_path) as driver:
        url = await driver.get_url("a.img")
        assert await curl("--fail", url) == data
        head = (await curl("--head", url)).decode()
    assert "200 OK" in head
    assert f"content-length: {size}\r\n" in head
    assert "accept-ranges: bytes" in head
    assert "content-type: application/octet-stream" in head


async def test_ranges(tmp_path):
    """A part, the end, several parts, one behind the end, and one of a file that has changed."""
    (tmp_path / "a").write_bytes(bytes(range(100)))
    async with running(tmp_path) as driver:
        url = await driver.get_url("a")
        assert await curl("-r", "10-19", url) == bytes(range(10, 20))
        assert await curl("-r", "-5", url) == bytes(range(95, 100))
        assert await curl("-r", "98-", "--head", url) == await curl("-r", "98-99", "--head", url)
        several = await curl("-r", "0-1,50-51", url)
        assert b"\x00\x01\r\n" in several
        assert b"Content-Range: bytes 50-51/100" in several
        assert await status("-r", "100-", url) == "416"
        assert await status("-r", "0-1", "-H", 'If-Range: "another"', url) == "200"


async def test_an_interrupted_download_goes_on(tmp_path):
    """`curl -C -` fetches what is missing."""
    data = os.urandom(MIB)
    (tmp_path / "a").write_bytes(data)
    half = tmp_path / "half"
    half.write_bytes(data[:300_000])
    async with running(tmp_path) as driver:
        await curl("--fail", "-C", "-", "-o", half, await driver.get_url("a"))
    assert half.read_bytes() == data


async def test_a_file_that_was_fetched_before_is_not_sent(tmp_path):
    """304 for the tag that came with it."""
    (tmp_path / "a").write_bytes(b"data")
    async with running(tmp_path) as driver:
        url = await driver.get_url("a")
        etag = tmp_path / "etag"
        await curl("--etag-save", etag, url)
        assert await status("--etag-compare", etag, url) == "304"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("../secret", "404"),
        ("a/../../secret", "404"),
        ("%2e%2e/secret", "404"),
        ("..%2fsecret", "404"),
        ("/secret", "404"),
        ("%2fetc/passwd", "404"),
        ("out", "404"),
        ("outdir/secret", "404"),
        ("loop", "404"),
        ("a%00b", "404"),
        ("x" * 300, "404"),
        ("", "404"),
        ("dir", "404"),
        ("pipe", "404"),
        ("no-such", "404"),
        ("in", "200"),
        ("dir/a%20b%23%C3%BC", "200"),
    ],
)
async def test_what_is_served(tmp_path, path, wanted):
    """Files below the root; neither `..` nor a link leads out of it, and what is no file is not there."""
    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    (root / "dir" / "a b#ü").write_bytes(b"data")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "outdir").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "in").symlink_to("dir/a b#ü")
    os.mkfifo(root / "pipe")
    async with running(root) as driver:
        assert await status(await driver.get_url() + path) == wanted


async def test_a_path_is_quoted(tmp_path):
    """The URL of a file with any name leads to it."""
    name = "a b/c#d?e%20ü"
    async with running(tmp_path) as driver:
        (tmp_path / "a b").mkdir()
        (tmp_path / name).write_bytes(b"data")
        assert await curl(await driver.get_url(name)) == b"data"


async def test_it_is_for_reading(tmp_path):
    """Nothing is put or deleted by HTTP."""
    (tmp_path / "a").write_bytes(b"data")
    async with running(tmp_path) as driver:
        url = await driver.get_url("a")
        assert [await status("-X", method, url) for method in ("PUT", "POST", "DELETE")] == ["405"] * 3
    assert (tmp_path / "a").read_bytes() == b"data"


async def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    """It is forbidden, and that before a status is sent."""
    (tmp_path / "a").write_bytes(b"data")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    async with running(tmp_path) as driver:
        assert await status(await driver.get_url("a")) == "403"


async def test_a_bootloader(tmp_path, caplog):
    """HTTP/1.0 without a Host header: the whole file, its length, and the end of the connection. The log has it."""
    caplog.set_level("INFO")
    (tmp_path / "a").write_bytes(b"data")
    async with running(tmp_path) as driver, asked(driver, "GET /a HTTP/1.0\r\n\r\n") as reader:
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 4\r\n" in answer
    assert answer.endswith(b"\r\n\r\ndata")
    assert "GET '/a': 200, 4 bytes to 127.0.0.1\n" in caplog.text


async def test_what_is_no_http(tmp_path):
    """It is told so, and the next one is served."""
    (tmp_path / "a").write_bytes(b"data")
    async with running(tmp_path) as driver:
        async with asked(driver, "\x16\x03\x01 hello\r\n\r\n") as reader:
            assert (await reader.read()).startswith(b"HTTP/1.1 400")
        assert await curl(await driver.get_url("a")) == b"data"


async def test_many_at_once(tmp_path):
    """Ten fetch the same image, and each gets all of it."""
    data = os.urandom(8 * MIB)
    (tmp_path / "a").write_bytes(data)
    async with running(tmp_path) as driver:
        url = await driver.get_url("a")
        assert all(each == data for each in await asyncio.gather(*(curl(url) for _ in range(10))))


async def test_a_large_file_is_not_in_memory(tmp_path):
    """Half a GiB is fetched, and a part behind the fourth GiB, in less than 50 MiB."""
    with sparse(tmp_path / "large", 5 << 30), sparse(tmp_path / "half", 512 * MIB):
        async with running(tmp_path) as driver:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            fetched = await curl("-o", "/dev/null", "-w", "%{size_download}", await driver.get_url("half"))
            assert int(fetched) == 512 * MIB
            assert await curl("-r", f"{(5 << 30) - 4}-", await driver.get_url("large")) == bytes(4)
            assert await curl("-r", "-4", await driver.get_url("large")) == bytes(4)
            assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 50


async def test_stop_breaks_off(tmp_path):
    """A transfer that is under way is cut, at once; nothing is left of it, and the port is free."""
    with sparse(tmp_path / "large", 1 << 30):
        async with running(tmp_path) as driver, asked(driver, GET_LARGE) as busy, asked(driver, "") as idle:
            assert await busy.read(100_000)
            port = await driver.get_port()
            async with asyncio.timeout(5):
                await driver.stop_server()
                assert len(await rest(busy)) < 100 * MIB
                assert await rest(idle) == b""
            assert not [task for task in asyncio.all_tasks() if "uvicorn" in repr(task)]
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux tells who takes nothing")
async def test_one_that_takes_nothing_is_let_go(tmp_path, caplog):
    """After `timeout` s, so that a device that hangs holds nothing for ever."""
    caplog.set_level("INFO")
    with sparse(tmp_path / "large", 1 << 30):
        async with running(tmp_path, timeout=1) as driver, asked(driver, GET_LARGE):
            broken_off = r"GET '/large': 200, \d+ bytes to 127.0.0.1, broken off"
            await until_async(lambda: re.search(broken_off, caplog.text), 30)


async def test_one_that_asks_nothing_more_is_let_go(tmp_path):
    """A connection that is kept alive ends after `timeout` s."""
    (tmp_path / "a").write_bytes(b"data")
    async with running(tmp_path, timeout=1) as driver, asked(driver, "GET /a HTTP/1.1\r\nHost: here\r\n\r\n") as reader:
        async with asyncio.timeout(30):
            assert (await reader.read()).endswith(b"data")


async def test_it_starts_and_stops_as_often_as_one_likes(tmp_path):
    """A second start changes nothing, nor does a second stop; both at once end in one of the two."""
    async with running(tmp_path) as driver:
        url = await driver.get_url()
        assert await driver.start_server() == url
        await driver.stop_server()
        await driver.stop_server()
        with pytest.raises(ConnectionError, match="does not run: start it first"):
            await driver.get_url()
        for _ in range(5):
            await asyncio.gather(driver.start_server(), driver.stop_server(), driver.start_server(), driver.close())
        await driver.start_server()
        assert await status(await driver.get_url("no-such")) == "404"


async def test_a_stop_right_behind_a_start(tmp_path):
    """The server has hardly begun: its port is free nevertheless, and the next one works."""
    async with running(tmp_path) as driver:
        for _ in range(3):
            port = await driver.get_port()
            await driver.stop_server()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
            await driver.start_server()
        assert await status("--max-time", "20", await driver.get_url("no-such")) == "404"


async def test_signals_are_the_agents(tmp_path):
    """Ctrl-C ends the agent, as without this driver."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    async with running(tmp_path) as driver:
        assert await status(await driver.get_url("no-such")) == "404"
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


async def test_a_lease_begins_with_a_server_that_rests(tmp_path):
    """What ran outside of leases is stopped when one begins."""
    async with running(tmp_path) as driver:
        await driver.reset()
        with pytest.raises(ConnectionError):
            await driver.get_port()


async def test_the_same_port_again(tmp_path):
    """A restart gets its port, though connections to it have just ended."""
    (tmp_path / "a").write_bytes(b"data")
    async with running(tmp_path) as first:
        port = await first.get_port()
        assert await curl(await first.get_url("a")) == b"data"
    async with running(tmp_path, port=port) as second:
        assert await curl(await second.get_url("a")) == b"data"


async def test_ipv6(tmp_path):
    """An address of IPv6 is in brackets in the URL."""
    (tmp_path / "a").write_bytes(b"data")
    async with running(tmp_path, host="::1") as driver:
        url = await driver.get_url("a")
        assert url.startswith("http://[::1]:")
        assert await curl(url) == b"data"


async def test_an_address_is_found(tmp_path, monkeypatch):
    """Without `host`, and at all addresses, the URL has the one of the default route."""
    monkeypatch.setattr(server, "own_address", lambda: "127.0.0.2")
    for host in (None, "", "0.0.0.0"):
        async with running(tmp_path, host=host) as driver:
            assert (await driver.get_url()).startswith("http://127.0.0.2:")
            assert await status(await driver.get_url("no-such")) == "404"


def test_a_host_without_a_route(monkeypatch):
    """It is told what to say."""

    def unreachable(*args: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    with pytest.raises(OSError, match="no default route: say `host`"):
        server.own_address()


async def test_a_port_that_is_taken(tmp_path):
    """It says whose port, and the next start may succeed."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        driver = HttpServer(root_dir=str(tmp_path), host="127.0.0.1", port=port)
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 is taken"):
            await driver.start_server()
    assert await driver.start_server()
    await driver.close()


async def test_a_host_that_is_another(tmp_path):
    """It is refused when the server is started."""
    driver = HttpServer(root_dir=str(tmp_path), host="192.0.2.1")
    with pytest.raises(OSError, match="192.0.2.1 is no address of this host"):
        await driver.start_server()


async def test_a_port_that_needs_root(tmp_path, monkeypatch):
    """It says what the agent needs."""

    def denied(*args: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", denied)
    with pytest.raises(PermissionError, match="port 80 needs root or CAP_NET_BIND_SERVICE"):
        await HttpServer(root_dir=str(tmp_path), host="127.0.0.1", port=80).start_server()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"host": "localhost"}, "'localhost' is no IP address"),
        ({"host": "127.0.0.1:80"}, "is no IP address"),
        ({"port": -1}, "port"),
        ({"port": 65536}, "port"),
        ({"timeout": 0}, "timeout"),
        ({"root": "/srv"}, "root"),
    ],
)
def test_impossible_parameters_are_refused(tmp_path, wrong, told):
    """When the file is read."""
    with pytest.raises(ValidationError, match=told):
        HttpServer(**({"root_dir": str(tmp_path)} | wrong))


def test_a_root_that_cannot_be(tmp_path):
    """It is refused when the file is read."""
    (tmp_path / "file").touch()
    with pytest.raises(ValidationError, match="root_dir .*/file/root: Not a directory"):
        HttpServer(root_dir=str(tmp_path / "file" / "root"))


def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml gives the driver with the parameters it says."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    made = vars(exporter.root.children["http"])
    assert (made["root_dir"], made["host"], made["port"]) == ("/var/tmp/jsnats-http", "192.168.7.1", 8080)


def test_the_package_offers_the_driver_lazily():
    """`from jsnats_driver_http import HttpServer` works, and a name that is not there is an AttributeError."""
    assert jsnats_driver_http.HttpServer is HttpServer
    with pytest.raises(AttributeError, match="has no attribute 'Ftp'"):
        _ = jsnats_driver_http.Ftp


def test_a_client_does_not_load_the_exporter_side():
    """Importing the package and its client loads neither the driver nor its libraries."""
    code = (
        "import sys, jsnats_driver_http.client as c;"
        "sys.exit(any(n in sys.modules for n in ('jsnats.driver', 'uvicorn', 'opendal', c.__package__ + '.driver')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
