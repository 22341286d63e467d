import asyncio
import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

import jsnats_driver_simboard
from jsnats.agent import load
from jsnats_driver_simboard import machine as machine_module
from jsnats_driver_simboard.driver import SimulatedBoard


@pytest.fixture
async def board():
    """A board that is plugged in."""
    board = SimulatedBoard()
    await board.start()
    yield board
    await board.stop()
    assert not board._machine.folder.exists()


def power(board: SimulatedBoard):
    """Its switch."""
    return board.children["power"]


async def test_a_caller_who_gives_up_leaves_no_wrong_answer(board):
    """The answer to a call that was cancelled is not taken for that of the next one."""
    for _ in range(10):
        call = asyncio.ensure_future(power(board).on())
        await asyncio.sleep(0)
        call.cancel()
        await power(board).off()
        assert not await power(board).is_on()
    await power(board).on()
    assert await power(board).is_on()


async def test_a_board_that_does_not_answer(board, monkeypatch):
    """A stopped process is a TimeoutError, and unplugging it kills it."""
    monkeypatch.setattr(machine_module, "ANSWER_S", 0.3)
    process = board._machine._process
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError, match=r"did not answer within 0.3 s"):
        await power(board).on()
    await board.stop()
    assert process.returncode == -signal.SIGKILL


async def test_a_board_that_ends_while_it_is_asked(board):
    """ConnectionError, at once."""
    board._machine._process.send_signal(signal.SIGSTOP)
    call = asyncio.ensure_future(power(board).on())
    await asyncio.sleep(0)
    board._machine._process.kill()
    with pytest.raises(ConnectionError, match="has ended, code -9"):
        await call
    assert not await power(board).is_on()


async def test_an_image_that_breaks_off_is_not_booted(board, tmp_path):
    """The flash holds what it held until the new image is whole."""
    flash = board.children["storage"]
    (tmp_path / "image").write_bytes(b"good")
    (tmp_path / "bad").write_bytes(gzip.compress(os.urandom(4_000_000))[:-100])
    await flash.flash(str(tmp_path / "image"))
    with pytest.raises(ValueError, match="gzip"):
        await flash.flash(str(tmp_path / "bad"))
    assert board._machine.image.read_bytes() == b"good"


async def test_its_folder_is_its_users(board):
    """Nobody else on the host gets at line, image or web server."""
    assert board._machine.folder.stat().st_mode & 0o777 == 0o700


async def test_it_can_be_started_and_stopped_again():
    """As an agent does that reads its file again; a second start changes nothing."""
    board = SimulatedBoard()
    for _ in range(2):
        await board.start()
        process = board._machine._process
        await board.start()
        assert process
        assert board._machine._process is process
        await power(board).on()
        await board.stop()
        await board.stop()
        assert process.returncode == 0
        assert not await power(board).is_on()


async def test_what_is_made_and_never_started_has_no_process():
    """A file that is only read starts nothing and makes nothing."""
    board = SimulatedBoard()
    assert not board._machine.folder.exists()
    await power(board).off()
    assert board._machine._process is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"hostname": "Not A Name"}, "hostname"),
        ({"voltage": 1}, "voltage"),
        ({"boot_time": -1}, "boot_time"),
        ({"boot": "explode"}, "'normal', 'hang' or 'reset'"),
        ({"port": 80}, "port"),
    ],
)
def test_impossible_parameters_are_refused(wrong, told):
    """The message says which one, and what there is."""
    with pytest.raises(ValidationError, match=told):
        SimulatedBoard(**wrong)


def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml gives the boards with the parameters it says."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    made = {name: vars(child) for name, child in exporter.root.children.items()}
    assert (made["dut"]["hostname"], made["dut"]["boot"]) == ("sim-board", "normal")
    assert (made["camera"]["voltage"], made["camera"]["boot_time"]) == (12.0, 10.0)
    assert made["broken"]["boot"] == "hang"


def test_the_package_offers_the_driver_lazily():
    """`from jsnats_driver_simboard import SimulatedBoard` works, and a name that is not there is an AttributeError."""
    assert jsnats_driver_simboard.SimulatedBoard is SimulatedBoard
    assert jsnats_driver_simboard.CompositeClient.__name__ == "CompositeClient"
    with pytest.raises(AttributeError, match="has no attribute 'Toaster'"):
        _ = jsnats_driver_simboard.Toaster


def test_the_process_loads_the_standard_library_only():
    """It is there at once: neither the core nor pydantic is imported."""
    code = (
        "import sys, jsnats_driver_simboard.__main__; sys.exit(any(n in sys.modules for n in ('jsnats', 'pydantic')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_client_does_not_load_the_exporter_side():
    """Importing the package and its client loads neither the driver nor pyserial."""
    code = (
        "import sys, jsnats_driver_simboard.client as c;"
        "sys.exit(any(name in sys.modules for name in ('jsnats.driver', 'serial', c.__package__ + '.driver')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
