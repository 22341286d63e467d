import os
import threading
import tty
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pexpect
import pytest
from click.testing import CliRunner

from jsnats.client import CompositeClient
from jsnats.common.exceptions import DriverError
from jsnats.common.utils import serve
from jsnats.driver import Composite, Driver, export
from jsnats.sdk import BlockingStream, ConsoleRecord, StreamReset
from jsnats.testing import until
from jsnats_driver_pyserial.client import PySerialClient
from jsnats_driver_pyserial.common import ModemLines
from jsnats_driver_pyserial.driver import PySerial


class Board:
    """A pty; the board is at its other end."""

    def __init__(self) -> None:
        self.end, self.port = os.openpty()
        tty.setraw(self.port)
        self.path = os.ttyname(self.port)

    def say(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.end, data) :]

    def hear(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += os.read(self.end, size - len(data))
        return data


class Switch(Driver):
    """Power, as far as a console is concerned."""

    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DriverClient"

    @export(marker="power-on")
    async def on(self) -> None: ...


@pytest.fixture
def board():
    """A board on a pty."""
    board = Board()
    yield board
    os.close(board.end)
    os.close(board.port)


def test_both_ways_over_a_broker(board):
    """stream() gives what the board says from now on, and what is sent reaches the board."""
    with serve(PySerial(url=board.path)) as client:
        assert isinstance(client, PySerialClient)
        with client.stream() as stream:
            board.say(b"login: ")
            assert stream.receive(timeout_s=10) == b"login: "
            stream.send(b"root\n")
            assert board.hear(5) == b"root\n"


def test_expect_looks_into_the_past(board):
    """What the board said before anybody asked is found, and the dialogue goes on from there."""
    with serve(PySerial(url=board.path)) as client, client:
        client.mark("the test begins")
        board.say(b"U-Boot 2026.04\r\n=> ")
        assert client.expect(r"U-Boot (\S+)", timeout=10, since="the test begins").group(1) == "2026.04"
        client.expect("=> ", timeout=10)
        client.sendline("version")
        assert board.hear(8) == b"version\n"


def test_pexpect(board):
    """A script written for pexpect runs on the console; the block's end lets somebody else in."""
    with serve(PySerial(url=board.path)) as client:
        for _ in range(2):
            with client.pexpect(timeout=10) as spawn:
                board.say(b"login: ")
                spawn.expect("login: ")
                spawn.sendline("root")
                assert board.hear(5) == b"root\n"
                with pytest.raises(pexpect.TIMEOUT):
                    spawn.expect("never", timeout=0.05)


def test_open_lasts_until_close(board):
    """open() gives the same spawn without a block; the second writer is refused until close()."""
    with serve(PySerial(url=board.path)) as client:
        spawn = client.open(timeout=10)
        board.say(b"# ")
        spawn.expect("# ")
        with pytest.raises(DriverError, match="--watch"), client.stream():
            pass
        client.close()
        with client.stream() as stream:
            stream.send(b"x")
            assert board.hear(1) == b"x"


def test_a_client_that_never_reads_does_not_stop_the_recording(board):
    """6 MiB are recorded while it sleeps; when it reads at last, it is told from where to catch up."""
    size = 6 << 20
    with serve(PySerial(url=board.path)) as client:
        begin = client.status()["offset"]
        with client.stream() as stream:
            writer = threading.Thread(target=board.say, args=(bytes(size),))
            writer.start()
            writer.join()
            read = b"".join(record.data for record in _until(client.watch(f"@{begin}"), begin + size))
            assert len(read) == size
            with pytest.raises(StreamReset, match=r"--since @\d+"):
                _read_on(stream)


def _read_on(stream: BlockingStream) -> None:
    while stream.receive(timeout_s=10):
        pass


def _until(records: Iterable[ConsoleRecord], offset: int) -> Iterator[ConsoleRecord]:
    for record in records:
        yield record
        if record.end >= offset:
            return


def test_power_on_is_in_the_record(board):
    """`since="boot"` begins at the marker that switching on left."""
    tree = Composite(children={"power": Switch(), "serial": PySerial(url=board.path)})
    with serve(tree) as client:
        assert isinstance(client, CompositeClient)
        board.say(b"before")
        client.serial.expect("before", timeout=10, since="10s")
        client.power.call("on")
        board.say(b"after")
        client.serial.expect("after", timeout=10)
        assert client.serial.read(since="boot") == b"after"
        client.serial.close()


@contextmanager
def _opened(driver: PySerial) -> Iterator[PySerialClient]:
    """The client of a driver that has opened its port."""
    with serve(driver) as client:
        until(lambda: client.status()["open"])
        yield client


def test_modem_lines():
    """set_dtr and set_rts reach the port."""
    with _opened(PySerial(url="loop://", record=False)) as client:
        for on in (False, True):
            client.set_dtr(on)
            client.set_rts(on)
            assert client.modem_lines() == ModemLines(dtr=on, rts=on, dsr=on, cts=on, ri=False, cd=True)
        client.send_break(0.01)


def test_modem_lines_are_commands():
    """`j serial set-dtr`, `modem-lines` and `send-break` do what the methods do."""
    with _opened(PySerial(url="loop://", record=False)) as client:
        said = [
            CliRunner().invoke(client.cli(), command.split(), catch_exceptions=False).output
            for command in ("set-dtr --on false", "modem-lines", "send-break --duration 0.01")
        ]
    assert "dtr" in said[1]
    assert said[0] + said[2] == ""


def test_a_pty_has_no_modem_lines(board):
    """The client gets an OSError that says what is missing."""
    with _opened(PySerial(url=board.path)) as client, pytest.raises(OSError, match="has no DTR line"):
        client.set_dtr(True)
