"""What these tests share: an image, and a board that runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jsnats.client import ConsoleClient


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The firmware under test."""
    path = tmp_path / "firmware.img"
    path.write_bytes(b"firmware 1.0\n" * 100_000)
    return path


@pytest.fixture
def shell(bench: Any, console: ConsoleClient, image: Path) -> Iterator[ConsoleClient]:
    """The board's console, at the shell of a fresh boot."""
    bench.dut.storage.flash(image)
    bench.dut.power.cycle(wait=0.1)
    console.expect("login: ")
    console.sendline("root")
    console.expect("# ")
    yield console
    bench.dut.power.off()
