"""A serial port of this host in a container: the profile `devices` of compose.yaml."""

from __future__ import annotations

import os
import threading
import tty
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jsnats.sdk import connect

if "JSNATS_STACK" not in os.environ:
    pytest.skip("`make test-stack` runs it", allow_module_level=True)

pytestmark = pytest.mark.timeout(120)

DIALOUT = 20


class Board:
    """A board that answers each line, at the other end of a pty, which belongs to a group as a serial port does."""

    def __init__(self) -> None:
        self._end, self._port = os.openpty()
        tty.setraw(self._port)
        if os.geteuid() == 0:
            os.fchown(self._port, -1, DIALOUT)
        os.fchmod(self._port, 0o660)
        self.path = os.ttyname(self._port)
        self.group = os.fstat(self._port).st_gid
        self._talking = threading.Thread(target=self._talk, daemon=True)
        self._talking.start()

    def _talk(self) -> None:
        line = b""
        with suppress(OSError):
            while byte := os.read(self._end, 1):
                if byte in (b"\r", b"\n"):
                    os.write(self._end, b"you said " + line + b"\r\n> ")
                    line = b""
                else:
                    line += byte

    def unplug(self) -> None:
        """Nobody else may have the port open."""
        os.close(self._port)
        self._talking.join()
        os.close(self._end)


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    """A talking board."""
    board = Board()
    yield board
    board.unplug()


@pytest.fixture(scope="module")
def devices(profile: Any, board: Board, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The stack with an agent that has the board, by a name as udev gives it: a link."""
    link = tmp_path_factory.mktemp("by-id") / "usb-board-if00"
    link.symlink_to(board.path)
    settings = {"JSNATS_SERIAL": str(link), "JSNATS_SERIAL_GROUP": str(board.group)}
    with profile("devices", "scheduler", "agent-serial", **settings) as stack:
        yield stack


def test_a_client_on_the_host_talks_to_the_board(devices: Any) -> None:
    """Lease, type, read the answer; also after the agent was killed, and what was said before is in the record."""
    with connect(context=devices.add("user", "dora")) as lab:
        for word in ("hello", "again"):
            with lab.lease("board=serial", wait="30s") as bench:
                bench.serial.sendline(word)
                bench.serial.expect(f"you said {word}\r\n> ", timeout=30)
                assert b"you said hello" in bench.serial.read(since="start")
            devices.crash("agent-serial")


def test_the_agent_is_nobodys_root_and_has_one_device(devices: Any, board: Board) -> None:
    """It may open the port as a member of its group, and no other device of this host."""
    assert devices.exec("agent-serial", "id", "-u").strip() == "1000"
    assert str(board.group) in devices.exec("agent-serial", "id", "-G").split()
    assert devices.exec("agent-serial", "find", "/dev", "-type", "b") == ""
    host = devices.inspect("agent-serial")["HostConfig"]
    assert [each["PathInContainer"] for each in host["Devices"]] == ["/dev/board"]
    assert (host["Privileged"], host["CapDrop"], host["DeviceCgroupRules"]) == (False, ["ALL"], None)


def test_a_port_that_is_not_there_is_told(devices: Any, tmp_path: Path) -> None:
    """Nothing is made in its place, neither on the host nor in a container."""
    missing = tmp_path / "ttyUSB0"
    with pytest.raises(AssertionError, match=str(missing)):
        devices.up("agent-serial", JSNATS_SERIAL=str(missing))
    assert not missing.exists()


def test_nothing_is_left_of_devices(devices: Any) -> None:
    """`down -v` takes the volume of the profile away, too."""
    devices.compose("down", "--volumes")
    assert devices.left() == ""
