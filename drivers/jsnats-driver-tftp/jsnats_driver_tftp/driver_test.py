import asyncio
import errno
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import jsnats_driver_tftp
from jsnats.agent import load
from jsnats.testing import until_async
from jsnats_driver_opendal.testing import output_of
from jsnats_driver_tftp import server, transfer
from jsnats_driver_tftp.driver import Tftp
from jsnats_driver_tftp.testing import Client, ack, relay, uboot
from jsnats_driver_uboot.testing import missing

needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
needs_tftp = pytest.mark.skipif(not shutil.which("tftp"), reason="tftp-hpa is not installed")
needs_board = pytest.mark.skipif(bool(missing("arm64")), reason=missing("arm64"))

GET_A = b"\0\1a\0octet\0"


@asynccontextmanager
async def running(root: Path, **more: Any) -> AsyncGenerator[Tftp, None]:
    """A server at a free port of loopback."""
    config: dict[str, Any] = {"root_dir": str(root), "host": "127.0.0.1", "port": 0} | more
    driver = Tftp(**config)
    await driver.start_server()
    try:
        yield driver
    finally:
        await driver.close()


@asynccontextmanager
async def client(driver: Tftp, request: bytes) -> AsyncGenerator[Client, None]:
    """One that has sent a request."""
    made = Client(await driver.get_host(), await driver.get_port())
    with made.socket:
        await made.send(request)
        yield made


# ------------------------------------------------------------------ real clients


@needs_tftp
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 300_000])
async def test_tftp_hpa_gets_a_file(tmp_path, size):
    """Whatever its size is beside that of a block."""
    (tmp_path / "a").write_bytes(data := os.urandom(size))
    async with running(tmp_path) as driver:
        port = await driver.get_port()
        await output_of("tftp", "-m", "binary", "127.0.0.1", port, "-c", "get", "a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data


@needs_tftp
async def test_more_blocks_than_numbers(tmp_path):
    """A file of 32 MiB and a bit has more than 65536 blocks of 512 bytes; tftp-hpa gets all of it."""
    (tmp_path / "a").write_bytes(data := os.urandom((32 << 20) + 1000))
    async with running(tmp_path) as driver:
        port = await driver.get_port()
        await output_of("tftp", "-m", "binary", "127.0.0.1", port, "-c", "get", "a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data


@needs_tftp
async def test_text(tmp_path):
    """tftp-hpa asks for netascii if nobody says otherwise, and gets the lines that it had."""
    text = b"".join(b"line %d\n" % number for number in range(1000)) + b"a CR \r in a line"
    (tmp_path / "a").write_bytes(text)
    async with running(tmp_path) as driver:
        await output_of("tftp", "127.0.0.1", await driver.get_port(), "-c", "get", "a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == text


@needs_curl
@pytest.mark.parametrize(
    "options", [["--tftp-no-options"], ["--tftp-blksize", "8"], ["--tftp-blksize", "1468"], ["--tftp-blksize", "65464"]]
)
async def test_curl_gets_a_file(tmp_path, options):
    """With and without options, with small and large blocks, at a path with spaces in it."""
    (tmp_path / "boot dir").mkdir()
    (tmp_path / "boot dir" / "a.img").write_bytes(data := os.urandom(20_000))
    async with running(tmp_path) as driver:
        url = await driver.get_url("boot dir/a.img")
        assert await output_of("curl", "--silent", *options, url) == data


@needs_curl
async def test_many_at_once(tmp_path):
    """Twenty clients get twenty files."""
    files = {f"{name}.img": os.urandom(100_000) for name in range(20)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    async with running(tmp_path) as driver:
        urls = [await driver.get_url(name) for name in files]
        assert await asyncio.gather(*(output_of("curl", "--silent", url) for url in urls)) == list(files.values())


@needs_curl
async def test_ipv6(tmp_path):
    """At an address of IPv6."""
    (tmp_path / "a").write_bytes(b"data")
    async with running(tmp_path, host="::1") as driver:
        assert await output_of("curl", "--silent", await driver.get_url("a")) == b"data"


@needs_board
async def test_uboot_boots_from_it(tmp_path):
    """U-Boot loads 4 MB in large blocks and windows, and is told what is not there."""
    (tmp_path / "a.img").write_bytes(data := os.urandom(4_000_000))
    host = f"127.{secrets.randbelow(250) + 1}.{secrets.randbelow(250) + 1}.9"
    try:
        async with running(tmp_path, host=host, port=69) as driver, uboot(tmp_path) as board:
            for command in ("setenv autoload no", "dhcp", f"setenv serverip {await driver.get_host()}"):
                await board.run(command)
            for window in (1, 64):
                await board.run(f"setenv tftpblocksize 1468; setenv tftpwindowsize {window}")
                assert "Bytes transferred = 4000000" in await board.run("tftpboot ${loadaddr} a.img")
                assert f"{zlib.crc32(data):08x}" in await board.run("crc32 ${loadaddr} ${filesize}")
            assert "there is no such file" in await board.run("tftpboot ${loadaddr} b.img")
    except PermissionError as error:
        pytest.skip(f"U-Boot asks at port 69: {error}")


# ------------------------------------------------------------------ bad networks


@needs_curl
async def test_datagrams_are_lost_and_doubled(tmp_path, monkeypatch):
    """Every tenth is lost, and every tenth comes twice: curl gets the file."""
    monkeypatch.setattr(transfer, "TIMEOUT_S", 0.05)
    chance = random.Random(1)
    (tmp_path / "a").write_bytes(data := os.urandom(100_000))
    async with (
        running(tmp_path) as driver,
        relay(await driver.get_port(), lambda _: chance.choice((0, 2, *(8 * [1])))) as port,
    ):
        assert await output_of("curl", "--silent", "--tftp-no-options", f"tftp://127.0.0.1:{port}/a") == data


@pytest.mark.parametrize("window", [1, 2, 16])
async def test_windows_with_losses(tmp_path, monkeypatch, window):
    """A client of RFC 7440 gets a file whatever is lost or doubled."""
    monkeypatch.setattr(transfer, "TIMEOUT_S", 0.05)
    chance = random.Random(window)
    (tmp_path / "a").write_bytes(data := os.urandom(100_000))
    async with (
        running(tmp_path) as driver,
        relay(await driver.get_port(), lambda _: chance.choice((0, 2, *(18 * [1])))) as port,
    ):
        with (made := Client("127.0.0.1", port)).socket:
            assert await made.fetch("a", window=window) == data


async def test_a_gap_in_a_window_is_filled_at_once(tmp_path, monkeypatch):
    """Long before the time is over after which all is sent again."""
    monkeypatch.setattr(transfer, "TIMEOUT_S", 100.0)
    losses = iter([1, 9, 20, 21])  # the first of a window, and others
    lost = [next(losses)]

    def copies(datagram: bytes) -> int:
        if datagram[:4] != b"\0\3" + lost[0].to_bytes(2, "big"):
            return 1
        lost[0] = next(losses, 0)
        return 0

    (tmp_path / "a").write_bytes(data := os.urandom(40_000))
    async with running(tmp_path) as driver, relay(await driver.get_port(), copies) as port:
        with (made := Client("127.0.0.1", port)).socket:
            assert await made.fetch("a", window=8) == data
    assert lost == [0]


async def test_a_doubled_answer_does_not_double_the_rest(tmp_path, monkeypatch):
    """An acknowledgement that comes twice sends the next block once: no sorcerer's apprentice."""
    monkeypatch.setattr(transfer, "TIMEOUT_S", 100.0)
    (tmp_path / "a").write_bytes(bytes(1500))
    async with running(tmp_path) as driver, client(driver, GET_A) as made:
        for number in (1, 2):
            assert (await made.receive())[:4] == b"\0\3\0" + bytes([number])
            await made.send(ack(number))
            await made.send(ack(number))
        assert (await made.receive())[:4] == b"\0\3\0\3"
        with pytest.raises(TimeoutError):
            await made.receive(0.2)


async def test_a_repeated_request_is_one_transfer(tmp_path, monkeypatch):
    """A client that asks again as the answer was late is served from one port."""
    monkeypatch.setattr(transfer, "TIMEOUT_S", 0.2)
    (tmp_path / "a").write_bytes(bytes(600))
    async with running(tmp_path) as driver, client(driver, GET_A) as made:
        await made.send(GET_A)
        first = await made.receive()
        peer = made.peer
        assert await made.receive() == first  # after 0.2 s, as there was no answer
        assert made.peer == peer
        await made.send(ack(1))
        assert (await made.receive())[:4] == b"\0\3\0\2"
        assert made.peer == peer


async def test_a_board_that_was_reset_asks_again(tmp_path):
    """From the same port, in the middle of a transfer: it gets the file from its beginning."""
    (tmp_path / "a").write_bytes(bytes(2000))
    async with running(tmp_path) as driver, client(driver, GET_A) as made:
        request_to = made.peer
        await made.receive()
        await made.send(ack(1))
        assert (await made.receive())[:4] == b"\0\3\0\2"
        before, made.peer = made.peer, request_to
        await made.send(GET_A)
        while made.peer in (before, request_to):
            first = await made.receive()
        assert first[:4] == b"\0\3\0\1"


# ------------------------------------------------------------------ clients that go away


async def test_a_client_that_is_silent(tmp_path, monkeypatch, caplog):
    """It is sent the block again a few times, and then it is given up; nothing is left of it."""
    caplog.set_level("INFO")
    monkeypatch.setattr(transfer, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(transfer, "PATIENCE_S", 0.3)
    (tmp_path / "a").write_bytes(bytes(600))
    before = asyncio.all_tasks()
    async with running(tmp_path) as driver, client(driver, GET_A) as made:
        assert await made.receive() == await made.receive() == await made.receive()
        await until_async(lambda: "0 bytes to 127.0.0.1" in caplog.text)
        assert "the client is silent" in caplog.text
        assert len(asyncio.all_tasks() - before) == 1  # the server's own


async def test_a_client_that_gives_up(tmp_path, caplog, monkeypatch):
    """By an error, or by closing its port: its transfer ends, before it is silent."""
    caplog.set_level("INFO")
    monkeypatch.setattr(transfer, "TIMEOUT_S", 0.2)
    (tmp_path / "a").write_bytes(bytes(2000))
    async with running(tmp_path) as driver:
        async with client(driver, GET_A) as made:
            await made.receive()
            await made.send(b"\0\5\0\3disk full\0")
            await until_async(lambda: "the client says error 3: disk full" in caplog.text)
        async with client(driver, GET_A) as made:
            await made.receive()
        await until_async(lambda: "the client is gone" in caplog.text)


async def test_a_stranger_is_not_heard(tmp_path):
    """What another sends to the port of a transfer does not move it."""
    (tmp_path / "a").write_bytes(bytes(2000))
    async with running(tmp_path) as driver, client(driver, GET_A) as made:
        await made.receive()
        with socket.socket(type=socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"\0\5\0\0go away\0", made.peer)
            stranger.sendto(ack(1), made.peer)
        await made.send(ack(1))
        assert (await made.receive())[:4] == b"\0\3\0\2"


async def test_stop_breaks_off(tmp_path):
    """The client is told at once; no transfer is left, and the port is free."""
    (tmp_path / "a").write_bytes(bytes(2000))
    before = asyncio.all_tasks()
    async with running(tmp_path) as driver, client(driver, GET_A) as made:
        await made.receive()
        port = await driver.get_port()
        await driver.stop_server()
        assert await made.receive() == b"\0\5\0\0the server was stopped\0"
        assert not asyncio.all_tasks() - before
        async with running(tmp_path, port=port) as again, client(again, GET_A) as other:
            assert (await other.receive())[:4] == b"\0\3\0\1"


async def test_it_starts_and_stops_as_often_as_one_likes(tmp_path):
    """Twice is as once."""
    (tmp_path / "a").write_bytes(b"data")
    async with running(tmp_path) as driver:
        url = await driver.get_url()
        assert await driver.start_server() == url == f"tftp://127.0.0.1:{await driver.get_port()}/"
        for _ in range(5):
            await asyncio.gather(driver.start_server(), driver.stop_server(), driver.start_server(), driver.close())
        await driver.stop_server()
        await driver.start_server()
        async with client(driver, GET_A) as made:
            assert await made.receive() == b"\0\3\0\1data"


# ------------------------------------------------------------------ requests


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"\0\1no-such\0octet\0", b"\0\5\0\1there is no such file\0"),
        (b"\0\1dir\0octet\0", b"\0\5\0\1it is no file\0"),
        (b"\0\1pipe\0octet\0", b"\0\5\0\1it is no file\0"),
        (b"\0\1/\0octet\0", b"\0\5\0\1it is no file\0"),
        (b"\0\1in/a\0octet\0", b"\0\5\0\1there is no such file\0"),
        (b"\0\1../secret\0octet\0", b"\0\5\0\2'../secret' is not a path below the root\0"),
        (b"\0\1/dir/../../secret\0octet\0", b"\0\5\0\2'/dir/../../secret' is not a path below the root\0"),
        (b"\0\1out\0octet\0", b"\0\5\0\2'out' leads out of the root by a symbolic link\0"),
        (b"\0\1loop\0octet\0", b"\0\5\0\2'loop' leads out of the root by a symbolic link\0"),
        (b"\0\1" + b"x" * 300 + b"\0octet\0", b"\0\5\0\0File name too long\0"),
        (b"\0\2in\0octet\0", b"\0\5\0\2files are for reading here\0"),
        (b"\0\1in\0mail\0", b"\0\5\0\4mode mail is neither octet nor netascii\0"),
        (b"\0\1in\0", b"\0\5\0\4a request is a file, a mode and pairs of options, each with a zero byte behind it\0"),
        (b"\0\1in\0octet\0", b"\0\3\0\1data"),
        (b"\0\1/in\0OCTET\0", b"\0\3\0\1data"),
        (b"\0\1text\0netascii\0tsize\x000\0", b"\0\3\0\1a\r\nb"),
        (b"\0\1in\0octet\0tsize\x000\0blksize\x001468\0", b"\0\6tsize\x004\0blksize\x001468\0"),
        (b"\0\1in\0octet\0multicast\0\0", b"\0\3\0\1data"),
    ],
)
async def test_requests(tmp_path, request_, answer):
    """Files below the root, and a reason for everything else; neither `..` nor a link leads out of the root."""
    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "in").write_bytes(b"data")
    (root / "text").write_bytes(b"a\nb")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "pipe")
    async with running(root) as driver, client(driver, request_) as made:
        assert await made.receive() == answer


async def test_what_is_no_request_has_no_answer(tmp_path):
    """Two servers would answer each other for ever; the next request is served."""
    (tmp_path / "a").write_bytes(b"data")
    async with running(tmp_path) as driver, client(driver, b"\0\5\0\4what\0") as made:
        for datagram in (b"", b"\0", ack(1), b"\0\3\0\1data", b"\0\6tsize\x001\0", b"\xff" * 100, GET_A):
            await made.send(datagram)
        assert await made.receive() == b"\0\3\0\1data"


async def test_the_size_of_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    """A file without permission is an access violation."""
    (tmp_path / "a").write_bytes(b"data")

    def denied(*args: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    async with running(tmp_path) as driver:
        monkeypatch.setattr(os, "open", denied)  # root may read everything
        async with client(driver, GET_A) as made:
            assert await made.receive() == b"\0\5\0\2it may not be read\0"


async def test_too_many_at_once(tmp_path, monkeypatch):
    """Who asks for one more is told so, and served when one has ended."""
    monkeypatch.setattr(server, "MAX_TRANSFERS", 1)
    (tmp_path / "a").write_bytes(b"data")
    async with running(tmp_path) as driver, client(driver, GET_A) as first:
        await first.receive()
        async with client(driver, GET_A) as second:
            assert await second.receive() == b"\0\5\0\0" + b"1 transfers are under way: try again\0"
        await first.send(ack(1))
        async with asyncio.timeout(20):
            while True:
                async with client(driver, GET_A) as third:
                    if await third.receive() == b"\0\3\0\1data":
                        break


async def test_the_timeout_that_a_client_asks_for(tmp_path, monkeypatch):
    """It is told, and what has no answer is sent again after it."""
    monkeypatch.setattr(transfer, "TIMEOUT_S", 100.0)
    (tmp_path / "a").write_bytes(b"data")
    async with running(tmp_path) as driver, client(driver, GET_A + b"timeout\x001\0") as made:
        assert [await made.receive() for _ in range(2)] == [b"\0\6timeout\x001\0"] * 2


# ------------------------------------------------------------------ configuration


async def test_a_port_that_is_taken(tmp_path):
    """It says whose, and of what use another is."""
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 is taken"):
            await Tftp(root_dir=str(tmp_path), host="127.0.0.1", port=port).start_server()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"host": "eth0"}, "'eth0' is no IP address"), ({"port": 70000}, "port"), ({"timeout": 1}, "timeout")],
)
def test_impossible_parameters_are_refused(tmp_path, wrong, told):
    """When the file is read."""
    with pytest.raises(ValidationError, match=told):
        Tftp(**({"root_dir": str(tmp_path)} | wrong))


def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml gives the driver with the parameters it says, at TFTP's own port."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    made = vars(exporter.root.children["tftp"])
    assert (made["root_dir"], made["host"], made["port"]) == ("/var/tmp/jsnats-tftp", "192.168.7.1", 69)


def test_the_package_offers_the_driver_lazily():
    """`from jsnats_driver_tftp import Tftp` works, and a name that is not there is an AttributeError."""
    assert jsnats_driver_tftp.Tftp is Tftp
    with pytest.raises(AttributeError, match="has no attribute 'Ftp'"):
        _ = jsnats_driver_tftp.Ftp


def test_a_client_does_not_load_the_exporter_side():
    """Importing the package and its client loads neither the driver nor OpenDAL."""
    code = (
        "import sys, jsnats_driver_tftp.client as c;"
        "sys.exit(any(n in sys.modules for n in ('jsnats.driver', 'opendal', c.__package__ + '.driver')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
