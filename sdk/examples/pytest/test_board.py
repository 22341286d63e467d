"""Tests of a board: run `pytest sdk/examples/pytest`. When one fails, its report has what the console said."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from jsnats.client import ConsoleClient


def test_it_runs_what_was_flashed(shell: ConsoleClient, image: Path) -> None:
    """The shell tells the content id of the running image: it is that of the file."""
    shell.sendline("version")
    assert shell.expect(r"\n([0-9a-f]+)\r").group(1) == hashlib.sha256(image.read_bytes()).hexdigest()[:12]


def test_the_kernel_finds_its_disk(shell: ConsoleClient) -> None:
    """The log since power-on is in the record, from its first byte, whoever was listening."""
    log = shell.read(since="boot").decode()
    assert log.lstrip().startswith("SimBoot")
    assert "EXT4-fs (mmcblk0p2): mounted" in log


def test_autoboot_stops_at_a_key(bench: Any, console: ConsoleClient) -> None:
    """The bootloader gives a prompt to whoever is quick."""
    bench.dut.power.cycle(wait=0.1)
    console.expect("stop autoboot")
    console.send(" ")
    console.expect("=> ")


def test_it_comes_back_from_a_reboot(shell: ConsoleClient) -> None:
    """The board says good-bye, boots, and asks who is there."""
    shell.sendline("reboot")
    shell.expect("Restarting system")
    shell.expect("SimBoot")
    shell.expect("login: ")
