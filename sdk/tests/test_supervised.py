"""What a service tells systemd."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from jsnats.sdk import supervised


@pytest.mark.parametrize("abstract", [False, True])
async def test_ready_alive_and_stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    """systemd hears READY, the watchdog for as long as the event loop turns, and STOPPING."""
    name = f"@{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name[1:] if abstract else name)
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        monkeypatch.setenv("WATCHDOG_USEC", "30000")
        heard = []
        async with supervised():
            for _ in range(4):
                heard.append(await asyncio.to_thread(systemd.recv, 100))
        while heard[-1] != b"STOPPING=1":
            heard.append(systemd.recv(100))
    assert heard[0] == b"READY=1"
    assert set(heard[1:-1]) == {b"WATCHDOG=1"}


async def test_without_systemd_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by hand, or with a socket that is gone, a service runs as ever."""
    for name in ("", str(tmp_path / "notify")):
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        monkeypatch.setenv("WATCHDOG_USEC", "1000")
        async with supervised():
            await asyncio.sleep(0)
