import asyncio
import os
import shutil
import socket
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import serial
import serial.rfc2217
from pydantic import ValidationError

import jsnats_driver_pyserial
from jsnats.agent import load
from jsnats.driver import Tap, _console
from jsnats.testing import until_async
from jsnats_driver_pyserial import port as port_module
from jsnats_driver_pyserial.driver import PySerial

pytestmark = pytest.mark.filterwarnings(r"ignore:set\w+\(\) is deprecated:DeprecationWarning")  # in pyserial 3.5


class Kept(Tap):
    """Keeps what the console says."""

    def __init__(self) -> None:
        super().__init__()
        self.said = b""
        self.reads = 0
        self.marks: list[str] = []
        self.changed = asyncio.Event()

    def data(self, data: bytes) -> None:
        super().data(data)
        self.said += data
        self.reads += 1
        self.changed.set()

    def mark(self, kind: str, text: str, **more: object) -> None:
        self.marks.append(kind)
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def reading(driver: PySerial) -> AsyncIterator[Kept]:
    """Read a console as the agent does; yields what it says."""
    kept = Kept()
    driver.record_to(kept)
    await driver.start()
    try:
        yield kept
    finally:
        await driver.stop()


async def opened(driver: PySerial) -> None:
    """Wait until the device is there: the first opening leaves no trace."""

    async def is_open() -> object:
        return (await driver.status())["open"]

    await until_async(is_open)


class Board:
    """A pty; the board is at its other end. `path` stays the same when it is replugged."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tty"
        self.plug()

    def plug(self) -> None:
        self.end, self._port = os.openpty()
        tty.setraw(self._port)
        self.path.symlink_to(os.ttyname(self._port))

    def unplug(self) -> None:
        self.path.unlink()
        os.close(self._port)
        os.close(self.end)

    def say(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.end, data) :]

    async def hears(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += await asyncio.to_thread(os.read, self.end, size - len(data))
        return data


@pytest.fixture
def board(tmp_path):
    """A board on a pty."""
    board = Board(tmp_path)
    yield board
    board.unplug()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(_console, "FIRST_WAIT_S", 0.02)


async def test_what_was_said_before_is_read_too(board):
    """Output that waits in the port when it is opened is output, not rubbish."""
    board.say(b"early ")
    async with reading(PySerial(url=str(board.path))) as kept:
        board.say(b"and late")
        await kept.until(lambda: kept.said == b"early and late")


async def test_both_ways(board):
    """Bytes of every value pass unchanged, and the line is raw: no echo, no newline that becomes two."""
    driver = PySerial(url=str(board.path))
    every = bytes(range(256))
    async with reading(driver) as kept:
        board.say(b"x")
        await kept.until(lambda: kept.said)
        async with driver.connect() as (stream, metadata):
            assert metadata["offset"] == 1
            await stream.send(every)
            assert await board.hears(256) == every
            board.say(every)
            await kept.until(lambda: len(kept.said) == 257)
            assert await stream.receive() == kept.said[1:] == every


async def test_an_adapter_that_is_unplugged_and_plugged_in_again(board):
    """It is read again under the same path, between markers; nobody has to restart anything."""
    async with reading(PySerial(url=str(board.path))) as kept:
        board.say(b"one")
        await kept.until(lambda: kept.said == b"one")
        board.unplug()
        await kept.until(lambda: "closed" in kept.marks)
        board.plug()
        board.say(b"two")
        await kept.until(lambda: kept.said == b"onetwo")
    assert kept.marks == ["start", "closed", "open", "closed"]


async def test_the_agent_does_not_start_without_the_port(tmp_path):
    """check_present names what is missing and the way around."""
    driver = PySerial(url=str(tmp_path / "tty"))
    with pytest.raises(FileNotFoundError, match="check_present: false"):
        await driver.start()


async def test_a_port_that_need_not_be_there_is_waited_for(tmp_path):
    """check_present: false starts at once, and reads the port when it comes."""
    async with reading(PySerial(url=str(tmp_path / "tty"), check_present=False)) as kept:
        await kept.until(lambda: "closed" in kept.marks)
        board = Board(tmp_path)
        board.say(b"here")
        await kept.until(lambda: kept.said == b"here")
    board.unplug()


async def test_two_do_not_read_one_port(board):
    """Each would get half of the bytes: the second waits until the first is gone, and says why."""
    second = PySerial(url=str(board.path))
    async with reading(PySerial(url=str(board.path))) as kept:
        board.say(b"x")
        await kept.until(lambda: kept.said)
        async with reading(second) as other:
            await other.until(lambda: "closed" in other.marks)
            assert "lock" in (await second.status())["reason"]


@pytest.mark.parametrize("disable", [False, True])
async def test_hupcl(board, disable):
    """With disable_hupcl closing the port leaves DTR alone, without it the terminal's setting stays."""
    attributes = termios.tcgetattr(board.end)
    attributes[2] |= termios.HUPCL
    termios.tcsetattr(board.end, termios.TCSANOW, attributes)
    async with reading(PySerial(url=str(board.path), disable_hupcl=disable)) as kept:
        board.say(b"x")
        await kept.until(lambda: kept.said)
        flags = termios.tcgetattr(board.end)[2]
        speed = termios.tcgetattr(board.end)[4]
    assert bool(flags & termios.HUPCL) is not disable
    assert speed == termios.B115200


async def test_characters_are_paced(board):
    """With cps: 200, 41 characters in two pieces take 0.2 s, one by one."""
    driver = PySerial(url=str(board.path), cps=200)
    async with reading(driver) as kept:
        board.say(b"x")
        await kept.until(lambda: kept.said)
        async with driver.connect() as (stream, _):
            begin = time.monotonic()
            await stream.send(b"a" * 20)
            await stream.send(b"b" * 21)
            assert 0.2 <= time.monotonic() - begin < 2
            assert await board.hears(41) == b"a" * 20 + b"b" * 21


async def test_a_port_that_never_pauses_leaves_time_for_others():
    """While one is always readable, other tasks run."""
    with open("/dev/zero", "rb", buffering=0) as zero:  # noqa: ASYNC230 - no disk
        stream = port_module.TerminalStream(SimpleNamespace(fd=zero.fileno()))

        async def read_on() -> None:
            while await stream.receive():
                pass

        reader = asyncio.ensure_future(read_on())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not reader.done()
        reader.cancel()
        await asyncio.wait({reader})


async def test_what_comes_in_a_trickle_is_gathered(board, monkeypatch):
    """Reads have their price: bytes that come faster than GATHER_S, a few at a time, are fewer reads than bytes."""
    monkeypatch.setattr(port_module, "GATHER_S", 0.2)
    driver = PySerial(url=str(board.path))
    async with reading(driver) as kept:
        for _ in range(50):
            board.say(b"x")
            await asyncio.sleep(0)
        await kept.until(lambda: len(kept.said) == 50)
    assert kept.reads < 10


async def test_a_board_that_takes_nothing_does_not_hold_up_the_end(board):
    """A write into a full port waits, the reading goes on, and stopping is quick."""
    driver = PySerial(url=str(board.path))
    async with reading(driver) as kept:
        board.say(b"x")
        await kept.until(lambda: kept.said)
        async with driver.connect() as (stream, _):
            writing = asyncio.ensure_future(stream.send(bytes(1 << 20)))
            board.say(b"still here")
            await kept.until(lambda: kept.said == b"xstill here")
            assert not writing.done()
            begin = time.monotonic()
            await driver.stop()
            with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the closed port says
                await writing
    assert time.monotonic() - begin < 5


async def test_a_pty_has_no_modem_lines(board):
    """set_dtr and set_rts say so in one line."""
    driver = PySerial(url=str(board.path))
    async with reading(driver) as kept:
        board.say(b"x")
        await kept.until(lambda: kept.said)
        with pytest.raises(OSError, match="has no DTR line"):
            await driver.set_dtr(True)
        with pytest.raises(OSError, match="has no RTS line"):
            await driver.set_rts(False)
        with pytest.raises(OSError, match="has no modem lines"):
            await driver.modem_lines()
    with pytest.raises(ConnectionError, match="not open"):
        await driver.set_dtr(True)


async def test_loop():
    """loop:// says what it is told, and has modem lines."""
    driver = PySerial(url="loop://")
    async with reading(driver) as kept:
        await kept.until(lambda: kept.marks)
        await opened(driver)
        async with driver.connect() as (stream, _):
            await stream.send(b"to and fro" * 1000)
            await kept.until(lambda: kept.said == b"to and fro" * 1000)
        for on in (False, True):
            await driver.set_dtr(on)
            await driver.set_rts(on)
            assert (driver._port.dsr, driver._port.cts) == (on, on)


class Rfc2217Server:
    """pyserial's own server, on a port of its own, in front of a `loop://`."""

    def __init__(self, number: int = 0) -> None:
        self.serial = serial.serial_for_url("loop://", timeout=0.05)
        self._listener = socket.create_server(("127.0.0.1", number))
        self.number = self._listener.getsockname()[1]
        self._client: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def write(self, data: bytes) -> None:
        assert self._client
        self._client.sendall(data)

    def _serve(self) -> None:
        self._client, _ = self._listener.accept()
        manager = serial.rfc2217.PortManager(self.serial, self)
        sender = threading.Thread(target=self._send, args=(manager,))
        sender.start()
        try:
            while data := self._client.recv(1024):
                self.serial.write(b"".join(manager.filter(data)))
        except OSError:
            pass
        self.serial.close()
        sender.join()

    def _send(self, manager: serial.rfc2217.PortManager) -> None:
        try:
            while self.serial.is_open:
                if data := self.serial.read(self.serial.in_waiting or 1):
                    self.write(b"".join(manager.escape(data)))
        except (OSError, TypeError, AttributeError):
            return

    def close(self) -> None:
        if self._client:
            self._client.shutdown(socket.SHUT_RDWR)
            self._client.close()
        self._listener.close()
        self._thread.join()


async def test_rfc2217():
    """Bytes with the escape in them, the speed and the modem lines reach a device server."""
    server = Rfc2217Server()
    driver = PySerial(url=f"rfc2217://127.0.0.1:{server.number}", baudrate=9600)
    try:
        async with reading(driver) as kept:
            await opened(driver)
            async with driver.connect() as (stream, _):
                await stream.send(b"\xff\xff escaped \xff")
                await kept.until(lambda: kept.said == b"\xff\xff escaped \xff")
            assert server.serial.baudrate == 9600
            for on in (False, True):
                await driver.set_dtr(on)
                await driver.set_rts(not on)
                assert (server.serial.dtr, server.serial.rts) == (on, not on)
    finally:
        server.close()


async def test_modem_lines_over_rfc2217():
    """What the server tells of CTS and DSR (here the loop back of RTS and DTR) is what the driver reports."""
    server = Rfc2217Server()
    driver = PySerial(url=f"rfc2217://127.0.0.1:{server.number}?poll_modem")
    try:
        async with reading(driver):
            await opened(driver)
            for dtr, rts in ((True, False), (False, True)):
                await driver.set_dtr(dtr)
                await driver.set_rts(rts)
                async with asyncio.timeout(20):  # what the server told 0.3 s ago is not asked again
                    while (lines := await driver.modem_lines()).cts != rts or lines.dsr != dtr:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                assert (lines.dtr, lines.rts) == (dtr, rts)
    finally:
        server.close()


async def test_a_break_over_rfc2217_ends_also_when_its_caller_has_left():
    """The server's line is in the break condition during the call, and out of it after the call was cancelled."""
    server = Rfc2217Server()
    driver = PySerial(url=f"rfc2217://127.0.0.1:{server.number}")
    try:
        async with reading(driver):
            await opened(driver)
            await driver.send_break(0.01)
            assert server.serial.break_condition is False
            call = asyncio.ensure_future(driver.send_break(60))
            await until_async(lambda: server.serial.break_condition)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert server.serial.break_condition is False
    finally:
        server.close()


async def test_a_device_server_that_is_restarted(monkeypatch):
    """Its end is the loss of the device, and it is connected to again."""
    server = Rfc2217Server()
    driver = PySerial(url=f"rfc2217://127.0.0.1:{server.number}")
    async with reading(driver) as kept:
        await opened(driver)
        server.close()
        await kept.until(lambda: "closed" in kept.marks)
        server = Rfc2217Server(server.number)
        await kept.until(lambda: "open" in kept.marks)
        server.write(b"again")
        await kept.until(lambda: kept.said == b"again")
    server.close()


def free_port() -> int:
    """A TCP port that nobody has."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def ser2net(folder: Path, accepter: str, board: Board) -> Iterator[int]:
    """ser2net in front of a board; yields its TCP port."""
    number = free_port()
    config = folder / "ser2net.yaml"
    config.write_text(
        f"connection: &one\n  accepter: {accepter},127.0.0.1,{number}\n"
        f"  connector: serialdev,{board.path.readlink()},115200n81,local\n"
    )
    with subprocess.Popen(["ser2net", "-n", "-d", "-c", config], stderr=subprocess.DEVNULL) as process:
        try:
            yield number
        finally:
            process.kill()


@pytest.mark.skipif(not shutil.which("ser2net"), reason="ser2net is not installed")
@pytest.mark.parametrize(
    ("accepter", "url"),
    [("tcp", "socket://127.0.0.1:{}"), ("telnet(rfc2217),tcp", "rfc2217://127.0.0.1:{}?ign_set_control")],
)
async def test_ser2net(board, tmp_path, accepter, url):
    """A console behind ser2net, raw or with RFC 2217, is read and written as one that is here."""
    with ser2net(tmp_path, accepter, board) as number:
        driver = PySerial(url=url.format(number))
        async with reading(driver) as kept:
            await opened(driver)
            async with driver.connect() as (stream, _):
                await stream.send(b"version\r")
                assert await board.hears(8) == b"version\r"
                board.say(b"U-Boot 2023.01\r\n")
                await kept.until(lambda: b"2023.01\r\n" in kept.said)
            if accepter == "tcp":
                with pytest.raises(OSError, match="rfc2217://"):
                    await driver.set_rts(True)


@pytest.mark.skipif(not shutil.which("socat"), reason="socat is not installed")
async def test_socat_pair(tmp_path):
    """A pair of ptys by socat, gone and made again."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    command = ["socat", f"pty,raw,echo=0,link={ours}", f"pty,raw,echo=0,link={theirs}"]
    driver = PySerial(url=str(ours), check_present=False)
    async with reading(driver) as kept:
        for text in (b"first", b"second"):
            with subprocess.Popen(command) as pair:  # noqa: ASYNC220 - returns at once
                await opened(driver)
                theirs.write_bytes(text)
                await kept.until(partial(_ends, kept, text))
                pair.terminate()
            await kept.until(lambda: not driver._device)
    assert kept.said == b"firstsecond"


def _ends(kept: Kept, text: bytes) -> bool:
    return kept.said.endswith(text)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"url": "telnet://host:23"}, "is no serial port"),
        ({"url": "rfc2217://host"}, "lacks a host or a port"),
        ({"url": "loop://", "baudrate": 0}, "greater than 0"),
        ({"url": "loop://", "cps": 0}, "greater than 0"),
        ({"url": "loop://", "speed": 9600}, "speed"),
        ({}, "url"),
    ],
)
def test_impossible_parameters_are_refused(wrong, told):
    """Before anything is opened."""
    with pytest.raises(ValidationError, match=told):
        PySerial(**wrong)


async def test_a_speed_that_cannot_be_is_said_in_the_status(board, monkeypatch):
    """The agent goes on, and status() tells why the console is not open."""
    monkeypatch.setattr(port_module._Terminal, "_set_special_baudrate", _refuse)
    driver = PySerial(url=str(board.path), baudrate=123457)
    async with reading(driver) as kept:
        await kept.until(lambda: "closed" in kept.marks)
        assert "123457" in (await driver.status())["reason"]


def _refuse(port: object, baudrate: int) -> None:
    raise ValueError(f"Failed to set custom baud rate ({baudrate})")


def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml gives the drivers with the parameters it says."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    made = {name: vars(child) for name, child in exporter.root.children.items()}
    assert (made["serial"]["baudrate"], made["serial"]["check_present"]) == (115200, False)
    assert made["loader"]["cps"] == 100
    assert (made["loop"]["url"], made["loop"]["record"]) == ("loop://", False)


def test_the_package_offers_the_driver_lazily():
    """`from jsnats_driver_pyserial import PySerial` works, and a name that is not there is an AttributeError."""
    assert jsnats_driver_pyserial.PySerial is PySerial
    with pytest.raises(AttributeError, match="has no attribute 'Parallel'"):
        _ = jsnats_driver_pyserial.Parallel


def test_a_client_does_not_load_the_exporter_side():
    """Importing the package and its client loads neither the driver nor pyserial nor pexpect."""
    code = (
        "import sys, jsnats_driver_pyserial.client as c;"
        "sys.exit(any(name in sys.modules for name in"
        " ('jsnats.driver', 'serial', 'pexpect', c.__package__ + '.driver')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
