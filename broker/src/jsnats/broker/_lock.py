"""Locks on files: one broker per lab directory, one editor at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jsnats.schemas import ConfigurationError

ORPHAN_WAIT_S = 10.0


@contextmanager
def editing(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for whoever has it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def running(path: Path) -> Iterator[int]:
    """Hold `path` as the one broker of a lab; yields the descriptor that the server must inherit.

    The server inherits the lock too: after the death of its supervisor the lab stays locked until the server is
    gone as well. Raises ConfigurationError if another broker has the lab.
    """
    with path.open("a+") as file:
        _take(file.fileno(), path)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


def is_running(path: Path) -> bool:
    """Say whether a broker holds the lock file `path`."""
    if not path.exists():
        return False
    with path.open("a") as file:
        return not _try(file.fileno())


@contextmanager
def abandoned(lab: Path) -> Iterator[bool]:
    """Say whether a broker ran in that directory and is gone; its lock is held for the length of the block.

    A lock file without a pid is no proof: a broker that starts has made it and takes it next.
    """
    path = lab / "lab.lock"
    if not path.exists():
        yield False
        return
    with path.open("r+") as file:
        yield _try(file.fileno()) and bool(file.read())


def _take(descriptor: int, path: Path) -> None:
    end = time.monotonic() + ORPHAN_WAIT_S
    while not _try(descriptor):
        holder = path.read_text()
        if _alive(holder) or time.monotonic() > end:
            who = f"the lab in {path.parent} is already running (pid {holder or 'unknown'})"
            raise ConfigurationError(f"{who}: stop it, or choose another --dir")
        time.sleep(0.05)  # its supervisor died and the server is stopping


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
