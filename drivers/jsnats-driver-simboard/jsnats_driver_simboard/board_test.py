"""The process behaves like a board, seen through its serial line and its power cable."""

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

WAIT_S = 20.0


class Board:
    """The process, and a terminal on its serial line."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.flash = folder / "flash.img"
        self.link = folder / "console"
        folder.mkdir()
        command = [sys.executable, "-m", "jsnats_driver_simboard", str(folder), *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.draws: list[float] = []
        self.answer("ready")
        self.line = os.open(self.link, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.line)
        self.heard = ""

    def answer(self, word: str) -> None:
        """Wait for a line on standard output; keep what it says it draws."""
        assert self.process.stdout
        while (said := self.process.stdout.readline().split())[0] == "draw":
            self.draws.append(float(said[1]))
        assert said == [word]

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


@contextmanager
def plugged(folder: Path, *options: str) -> Iterator[Board]:
    """A board without power, with an image."""
    board = Board(folder, *options)
    board.flash.write_bytes(b"image")
    try:
        yield board
    finally:
        board.process.kill()
        with board.process:
            os.close(board.line)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """One that is quick."""
    with plugged(tmp_path / "board", "--boot-time", "0.2") as board:
        yield board


def ask(board: Board) -> str:
    """What its web server answers. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as web:
        web.settimeout(WAIT_S)
        web.connect(str(board.folder / "web"))
        web.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: web.recv(4096), b"")).decode()


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


def test_a_key_stops_autoboot(tmp_path: Path) -> None:
    """The prompt of the bootloader, and from there the same boot."""
    with plugged(tmp_path / "board", "--boot-time", "60") as board:
        board.switch("on")
        board.expect("autoboot")
        board.type("x")
        board.expect("=> ")
        board.type("nonsense\r")
        board.expect("Unknown command")
        board.type("boot\r")
        board.expect("Linux version")


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
    board.switch("on")
    login(board)
    assert hashlib.sha256(b"image").hexdigest()[:12] in ask(board)
    board.switch("off")
    with pytest.raises(FileNotFoundError):
        ask(board)


def test_nobody_has_to_listen(board: Board) -> None:
    """Output that nobody reads is lost, as on a wire, and the board goes on."""
    board.switch("on")
    login(board)
    board.type("seq 20000\rpoweroff\r")
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            ask(board)
        except OSError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("it waits for a reader")


@pytest.mark.parametrize("power", ["off", "on"])
def test_it_goes_when_it_is_unplugged(board: Board, power: str) -> None:
    """The end of its standard input ends it, and its folder with the link is gone: so it never outlives an agent."""
    board.switch(power)
    assert board.unplug() == 0
    assert not board.folder.exists()


def test_it_says_what_it_draws(board: Board) -> None:
    """Bootloader, kernel, idle, busy, idle, halted: in this order, and nothing else."""
    board.switch("on")
    login(board)
    board.type("stress 60\r")
    board.expect("stress 60\r\n")
    board.type("\x03")
    board.expect("^C\r\n# ")
    assert board.run("stress x") == "stress: invalid argument 'x'\n"
    assert board.run("stress 0") == ""
    board.type("poweroff\r")
    board.expect("Power down")
    board.switch("off")
    assert board.draws == [2.0, 4.5, 1.5, 6.0, 1.5, 6.0, 1.5, 0.1]


def test_a_kernel_that_hangs(tmp_path: Path) -> None:
    """It is silent in the middle of its boot, and the power switch brings no more."""
    with plugged(tmp_path / "board", "--boot-time", "0.2", "--boot", "hang") as board:
        for _ in range(2):
            board.switch("on")
            board.expect("mmc0")
            board.expect("\r\n")
            assert board.is_quiet(0.3)
            board.switch("off")


def test_a_kernel_that_panics(tmp_path: Path) -> None:
    """It restarts, again and again."""
    with plugged(tmp_path / "board", "--boot-time", "0.2", "--boot", "reset") as board:
        board.switch("on")
        for _ in range(3):
            board.expect("SimBoot")
            assert "login" not in board.expect("Kernel panic")


def test_a_name_of_its_own(tmp_path: Path) -> None:
    """The login and uname have it."""
    with plugged(tmp_path / "board", "--boot-time", "0", "--hostname", "camera") as board:
        board.switch("on")
        board.expect("camera login: ")
        board.type("root\r")
        board.expect("# ")
        assert board.run("uname -a").startswith("Linux camera 6.12")


def test_a_ctrl_c_unplugs_it(board: Board) -> None:
    """By hand, in a terminal, it ends in order."""
    board.process.send_signal(signal.SIGINT)
    assert board.process.wait(WAIT_S) == 0
    assert not board.folder.exists()
