"""The simulated board of the demo and of the pytest example behaves like one, seen through its serial line."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import socket
import subprocess
import sys
import termios
import time
import tty
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAM = EXAMPLES / "demo" / "simboard.py"
WAIT_S = 20.0


class Board:
    """The process, and a terminal on its serial line."""

    def __init__(self, folder: Path) -> None:
        self.flash = folder / "flash.img"
        self.link = folder / "console"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        options = ["--console", self.link, "--flash", self.flash, "--port", self.port]
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, *map(str, options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.answer("ready")
        self.line = os.open(self.link, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.line)
        self.heard = ""

    def answer(self, word: str) -> None:
        """Wait for a line on standard output."""
        assert self.process.stdout
        assert self.process.stdout.readline() == f"{word}\n"

    def switch(self, word: str) -> None:
        """Switch the power `on` or `off`."""
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        self.answer(word)

    def type(self, text: str) -> None:
        """Type on the terminal."""
        os.write(self.line, text.encode())

    def is_quiet(self, seconds: float) -> bool:
        """Whether it says nothing for so long."""
        return not self.heard and not select.select([self.line], [], [], seconds)[0]

    def forget(self) -> None:
        """Leave out what it has said."""
        self.heard = ""
        termios.tcflush(self.line, termios.TCIFLUSH)

    def expect(self, text: str) -> str:
        """Read until `text`; return what was read, with it."""
        end = time.monotonic() + WAIT_S
        while text not in self.heard:
            assert select.select([self.line], [], [], max(0, end - time.monotonic()))[0], self.heard
            self.heard += os.read(self.line, 4096).decode()
        before, _, self.heard = self.heard.partition(text)
        return before + text

    def run(self, command: str) -> str:
        """Run a command of the shell; return what it printed, without the echo."""
        self.type(f"{command}\r")
        assert self.expect("\r\n") == f"{command}\r\n"
        return self.expect("# ").removesuffix("# ").replace("\r\n", "\n")

    def unplug(self) -> int:
        """End its standard input; return the exit code."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(WAIT_S)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """A board without power, with an image."""
    board = Board(tmp_path)
    board.flash.write_bytes(b"image")
    yield board
    board.process.kill()
    with board.process:
        os.close(board.line)


def login(board: Board) -> None:
    """From login prompt to shell."""
    board.expect("login: ")
    board.type("root\r")
    board.expect("root\r\n# ")


def test_it_boots_to_a_shell(board: Board) -> None:
    """Silent without power; then bootloader, kernel log with time stamps, login, and a shell that echoes."""
    assert board.is_quiet(0.2)
    board.switch("on")
    digest = hashlib.sha256(b"image").hexdigest()[:12]
    assert f"Flash: 5 bytes, sha256 {digest}" in board.expect("autoboot")
    assert "[    0.0" in board.expect("login: ")
    board.type("alice\r")
    board.expect("Login incorrect")
    login(board)
    assert board.run("version") == f"{digest}\n"
    assert board.run("uname -a").startswith("Linux sim-board")
    assert "httpd: listening" in board.run("dmesg")
    assert board.run("echo  a b ") == "a b\n"
    assert board.run("no such") == "sh: no: not found\n"
    assert board.run("seq x") == "seq: invalid argument 'x'\n"
    assert board.run("seq 500").splitlines() == [str(number) for number in range(1, 501)]
    board.type("ecXX\x7f\x7fho y\r")
    board.expect("\r\ny\r\n# ")
    board.type("sleep\x03")
    board.expect("^C\r\n# ")
    board.type("exit\r")
    board.expect("login: ")


def test_a_key_stops_autoboot(board: Board) -> None:
    """The prompt of the bootloader, and from there the same boot."""
    board.switch("on")
    board.expect("autoboot")
    board.type("x")
    board.expect("=> ")
    board.type("nonsense\r")
    board.expect("Unknown command")
    board.type("boot\r")
    login(board)


def test_without_an_image_it_stays_in_the_bootloader(board: Board) -> None:
    """It says so; what is flashed meanwhile counts from the next boot on."""
    board.flash.unlink()
    board.switch("on")
    board.expect("no image")
    board.expect("=> ")
    board.flash.write_bytes(b"other")
    board.type("boot\r")
    board.expect("no image")
    board.type("reset\r")
    login(board)
    assert board.run("version") == hashlib.sha256(b"other").hexdigest()[:12] + "\n"


def test_the_power_switch(board: Board) -> None:
    """Off ends everything at once and leaves the line; what is typed without power is nowhere; on twice is once."""
    board.switch("on")
    board.expect("autoboot")
    board.switch("off")
    board.forget()
    assert board.is_quiet(0.5)
    board.type("xxxx\r")
    assert board.is_quiet(0.3)
    board.switch("on")
    board.switch("on")
    login(board)
    board.type("reboot\r")
    board.expect("Restarting system")
    login(board)
    board.type("poweroff\r")
    board.expect("Power down\r\n")
    assert board.is_quiet(0.2)
    board.switch("off")
    board.switch("on")
    login(board)


def test_its_web_server_lives_with_it(board: Board) -> None:
    """It answers while the board is up, and with the power it is gone."""
    url = f"http://127.0.0.1:{board.port}/"
    board.switch("on")
    login(board)
    with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
        assert hashlib.sha256(b"image").hexdigest()[:12] in answer.read().decode()
    board.switch("off")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=WAIT_S)


def test_nobody_has_to_listen(board: Board) -> None:
    """Output that nobody reads is lost, as on a wire, and the board goes on."""
    board.switch("on")
    login(board)
    board.type("seq 20000\rpoweroff\r")
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{board.port}/", timeout=WAIT_S).close()
        except OSError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("it waits for a reader")


@pytest.mark.parametrize("power", ["off", "on"])
def test_it_goes_when_it_is_unplugged(board: Board, power: str) -> None:
    """The end of its standard input ends it and takes the link away: so it never outlives an agent."""
    board.switch(power)
    assert board.unplug() == 0
    assert not board.link.is_symlink()


def test_the_pytest_example(tmp_path: Path) -> None:
    """The tests of the example pass, in a lab that they start themselves, and nothing is left of it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JSNATS_")}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "XDG_CONFIG_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-p", "jsnats.testing.plugin", "-p", "no:cacheprovider", "-q", "pytest"]
    process = subprocess.Popen(command, cwd=EXAMPLES, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        output, _ = process.communicate(timeout=50)
    finally:
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0, output
    assert "4 passed" in output
    assert not list(tmp_path.glob("jsnats-*"))
