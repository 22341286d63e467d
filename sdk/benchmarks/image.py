"""The image that is flashed, the memory that takes, and what the broker holds of it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from jsnats.schemas import BLOBS
from jsnats.sdk import Context, open_connection

MIB = 1 << 20
SIZE = 256 * MIB


def write_image(path: Path) -> None:
    """Write noise: what somebody compresses on the way gets no smaller."""
    with path.open("wb") as file:
        for _ in range(SIZE // MIB):
            file.write(os.urandom(MIB))


def renew_image(path: Path) -> None:
    """Change a few bytes, so that it is an image nobody has seen."""
    with path.open("r+b") as file:
        file.write(os.urandom(16))


def reset_peak(pid: int) -> None:
    """Begin anew with the peak memory of a process."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mib(pid: int) -> float:
    """Most memory that a process had since `reset_peak`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


async def _ask(admin: Context, verb: str, **more: str) -> dict[str, Any]:
    async with await open_connection(admin, name="benchmark") as connection:
        return await connection.api(f"STREAM.{verb}.{BLOBS.name}", more)


def stored_mb(admin: Context) -> float:
    """MB of files that the broker holds."""
    return float(asyncio.run(_ask(admin, "INFO"))["state"]["bytes"]) / 1e6


def drop_chunks(admin: Context, subjects: str) -> None:
    """Drop files of which the lab's store knows nothing."""
    asyncio.run(_ask(admin, "PURGE", filter=subjects))
