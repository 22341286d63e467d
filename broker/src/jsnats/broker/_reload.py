"""What nats-server says in its log, and the reload of its configuration, which it confirms nowhere else."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

from jsnats.schemas import BrokerUnfit

RELOAD_TIMEOUT_S = 10.0

_STAMP = re.compile(r"^\[\d+\] \S+ \S+ \[(?P<level>\w+)\] ")


def complaints(path: Path, begin: int) -> list[str]:
    """What the log says after byte `begin` that is not routine."""
    lines = _since(path, begin).splitlines()
    levels = [(match["level"] if (match := _STAMP.match(line)) else "", line) for line in lines]
    return [_STAMP.sub("", line).strip() for level, line in levels if level in ("", "ERR", "FTL") and line.strip()]


def logged(path: Path, begin: int, word: str) -> bool:
    """Whether the log has that word after byte `begin`; taken to be so if the server has begun a new file since."""
    try:
        return path.stat().st_size < begin or word in _since(path, begin)
    except FileNotFoundError:  # not begun yet
        return False


def reload_server(directory: Path) -> None:
    """Make the server of a lab read its configuration again, and return when it has (blocks).

    A server that is just starting reads the new file anyway. Raises BrokerUnfit if it refuses the file.
    """
    path = directory / "nats.log"
    begin = path.stat().st_size
    try:
        os.kill(int((directory / "nats.pid").read_text()), signal.SIGHUP)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return
    end = time.monotonic() + RELOAD_TIMEOUT_S
    while time.monotonic() < end:
        text = _since(path, begin)
        if "Reloaded server configuration" in text:
            return
        if "Failed to reload" in text:
            raise BrokerUnfit(f"nats-server refused its new configuration: {complaints(path, begin)[-1]}")
        time.sleep(0.005)
    raise BrokerUnfit(f"nats-server did not reload within {RELOAD_TIMEOUT_S:.0f} s: see {path}")


def _since(path: Path, begin: int) -> str:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(begin if size >= begin else 0)  # smaller: the server has begun a new file
        return file.read().decode(errors="replace")
