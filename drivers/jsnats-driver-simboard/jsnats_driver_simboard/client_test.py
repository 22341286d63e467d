import hashlib
import json
import os
import signal
import subprocess
import urllib.request
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from jsnats.agent.testing import AgentProcess
from jsnats.client import CompositeClient
from jsnats.common.utils import serve, session_broker
from jsnats.sdk import connect
from jsnats.testing import until
from jsnats_driver_network.adapters import TcpPortforwardAdapter
from jsnats_driver_power.client import SwitchClient
from jsnats_driver_simboard.driver import SimulatedBoard

IMAGE = b"firmware 1.0\n" * 1000
DIGEST = hashlib.sha256(IMAGE).hexdigest()[:12]
WAIT_S = 30


@pytest.fixture
def board():
    """One that boots quickly."""
    return SimulatedBoard(boot_time=0.2)


def running(folder: Path) -> bool:
    """Whether there is a process with that folder in its command line."""
    return not subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, check=False).returncode


def login(dut: Any) -> None:
    """Boot it, and get to its shell."""
    dut.power.on()
    dut.serial.expect("login: ", since="boot", timeout=WAIT_S)
    dut.serial.sendline("root")
    dut.serial.expect("# ", timeout=WAIT_S)


def test_what_is_flashed_is_what_boots(board):
    """Without an image it stays in the bootloader; with one the console tells its digest, and a dump gives it back."""
    with serve(board) as dut:
        assert isinstance(dut, CompositeClient)
        dut.power.on()
        dut.serial.expect("no image", since="boot", timeout=WAIT_S)
        dut.storage.flash(IMAGE)
        dut.power.cycle(0.0)
        assert DIGEST in dut.serial.expect("sha256 ([0-9a-f]+)", since="boot", timeout=WAIT_S).group()


def test_a_dump_is_what_was_flashed(board, tmp_path):
    """Byte for byte; an empty flash and a target are errors in a line."""
    with serve(board) as dut:
        with pytest.raises(ValueError, match="nothing was flashed"):
            dut.storage.dump(tmp_path / "dump")
        with pytest.raises(ValueError, match="leave the target out"):
            dut.storage.flash(IMAGE, target="boot")
        dut.storage.flash(IMAGE)
        dut.storage.dump(tmp_path / "dump")
        assert (tmp_path / "dump").read_bytes() == IMAGE


def test_readings_follow_what_it_does(board):
    """The inrush first, some 1.5 W at the shell, 6 W under load, no current when it is off; within a fifth."""
    with serve(board) as dut:
        assert isinstance(dut.power, SwitchClient)
        dut.storage.flash(IMAGE)
        login(dut)
        dut.serial.sendline("stress 60")
        dut.serial.expect("stress 60", timeout=WAIT_S)
        with closing(dut.power.read()) as readings:
            busy = next(reading for reading in readings if reading.apparent_power > 4.5)
        assert busy.apparent_power < 7.5
        dut.serial.send("\x03")
        with closing(dut.power.read()) as readings:
            idle = next(reading for reading in readings if reading.apparent_power < 2.2)  # the capacitor has settled
        assert idle.apparent_power > 0.9
        dut.power.off()
        assert next(dut.power.read()).current == 0.0


def test_the_inrush_is_that_of_its_voltage():
    """12 V through 0.5 ohm: a reader that was there before sees the current of a short."""
    with serve(SimulatedBoard(voltage=12.0)) as dut, closing(dut.power.read()) as readings:
        assert next(readings).current == 0.0
        dut.power.on()
        peak = max(reading.current for reading in islice(readings, 10))
        assert 1.0 < peak <= 24.1


def test_is_on_says_what_the_switch_is(board):
    """Also of a board that was halted; it is off after a lease, and at the start."""
    with serve(board) as dut:
        assert dut.power.is_on() is False
        dut.storage.flash(IMAGE)
        login(dut)
        dut.serial.sendline("poweroff")
        dut.serial.expect("Power down", timeout=WAIT_S)
        assert dut.power.is_on() is True
        dut.power.off()
        assert dut.power.is_on() is False
    assert not board._machine.is_on


def test_its_web_server_through_a_forward(board):
    """It tells name and image while the board is up; without power the connection is reset."""
    with serve(board) as dut, TcpPortforwardAdapter(client=dut.web) as (host, port):
        dut.storage.flash(IMAGE)
        login(dut)
        with urllib.request.urlopen(f"http://{host}:{port}/", timeout=WAIT_S) as answer:
            status = json.load(answer)
        assert (status["board"], status["image"]) == ("sim-board", DIGEST)
        dut.power.off()
        with pytest.raises(OSError, match=r"reset|closed|aborted"):
            urllib.request.urlopen(f"http://{host}:{port}/", timeout=WAIT_S)


def test_a_board_that_hangs_is_seen_by_its_user():
    """The login does not come, and the record has the last line."""
    with serve(SimulatedBoard(boot_time=0.2, boot="hang")) as dut:
        dut.storage.flash(IMAGE)
        dut.power.on()
        dut.serial.expect("mmc0: new", since="boot", timeout=WAIT_S)
        with pytest.raises(TimeoutError):
            dut.serial.expect("login: ", since="boot", timeout=0.5)


def test_a_board_whose_process_is_killed(board):
    """It is off, its console is lost; the next `on` starts it again with what was flashed."""
    with serve(board) as dut:
        dut.storage.flash(IMAGE)
        dut.power.on()
        os.kill(board._machine._process.pid, signal.SIGKILL)
        until(lambda: not dut.power.is_on(), WAIT_S)
        dut.power.off()
        dut.power.on()
        assert DIGEST in dut.serial.expect("sha256 ([0-9a-f]+)", since="boot", timeout=WAIT_S).group()
    assert not board._machine.folder.exists()


def test_two_boards_beside_each_other():
    """Each has a line, a flash and a web server of its own."""
    with serve(SimulatedBoard(hostname="one")) as one, serve(SimulatedBoard(hostname="two")) as two:
        one.storage.flash(b"one")
        two.storage.flash(b"two")
        for dut, name in ((one, b"one"), (two, b"two")):
            dut.power.on()
            dut.serial.expect(hashlib.sha256(name).hexdigest()[:12], since="boot", timeout=WAIT_S)


def test_it_does_not_outlive_an_agent_that_is_killed(tmp_path, monkeypatch):
    """SIGKILL of the agent ends the board, and nothing is left in the temporary folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    broker = session_broker()
    broker.add("exporter", "simboard")
    with (
        AgentProcess(
            "simboard", broker.context_path("simboard"), "jsnats_driver_simboard.driver:SimulatedBoard"
        ) as agent,
        connect(context=broker.context("tester")) as lab,
    ):
        lab.exporter("simboard").power.on()
        (folder,) = tmp_path.glob("simboard-*")
        assert (folder / "console").is_symlink()
        (folder / "flash.new").write_bytes(b"half an image")
        assert running(folder)
        agent.kill()
        until(lambda: not running(folder), WAIT_S)
    assert not folder.exists()
