"""A whole lab for the length of a test session: `jsnats up` in a process of its own.

The command that it runs around has a socket of ours as its standard input. It says there that the lab runs, and waits
for the end of it: so the lab ends with this process, in whatever way that ends: the broker stops, the drivers are
closed, the boards are off. Standard output is left to drivers, which may print: it goes where their errors go.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from jsnats.schemas import ConfigurationError

WAIT = """
import json, os, sys
os.write(0, json.dumps([os.environ["JSNATS_CONTEXT"], os.environ["JSNATS_EXPORTER"]]).encode())
sys.stdin.read()
"""
SAID = 2000
"""Characters of what a lab said before it ended."""
READY_BYTES = 64 * 1024
"""More than a path and a name, which come in one piece."""
END_S = 45.0
"""More than drivers may take to close (20 s), and the broker to stop (10 s)."""


@dataclass(frozen=True, slots=True)
class OwnLab:
    """A lab that runs: a user's context file, and the name of the first exporter."""

    context: Path
    exporter: str
    _process: subprocess.Popen[bytes]
    _log: IO[str]

    def ended(self) -> str:
        """What `jsnats up` said last, if it has ended; "" while it runs."""
        return _said(self._log)[-SAID:] if self._process.poll() is not None else ""


@contextmanager
def running_lab(exporters: Sequence[Path], python_path: Sequence[Path]) -> Iterator[OwnLab]:
    """Run a lab. `python_path` is where drivers are found beside what is installed.

    Raises ConfigurationError with what `jsnats up` says when it does not start.
    """
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile("w+") as log:
        with theirs:
            process = _start(exporters, python_path, theirs, log)
        ready = b""
        try:
            ready = ours.recv(READY_BYTES)
            if not ready:
                process.wait()
                raise ConfigurationError(f"jsnats up: {_said(log)}")
            context, first = json.loads(ready)
            yield OwnLab(Path(context), first, process, log)
        finally:
            _end(process, ours, bool(ready))


def _start(
    exporters: Sequence[Path], python_path: Sequence[Path], control: socket.socket, log: IO[str]
) -> subprocess.Popen[bytes]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("JSNATS_URL", "JSNATS_CONTEXT", "JSNATS_EXPORTER")  # or it would join that lab
    }
    path = [*map(str, python_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "jsnats.sdk.cli", "up", *map(str, exporters), "--", sys.executable, "-c", WAIT]
    return subprocess.Popen(
        command,
        stdin=control.fileno(),
        stdout=log,
        stderr=log,
        env=environment | {"PYTHONPATH": os.pathsep.join(path)},
        start_new_session=True,  # Ctrl-C is for pytest: its fixtures still need the lab while they end
    )


def _said(log: IO[str]) -> str:
    log.seek(0)
    return log.read().strip().removeprefix("error: ") or "it ended without a word"


def _end(process: subprocess.Popen[bytes], control: socket.socket, ready: bool) -> None:
    if not ready:
        process.terminate()  # the command that waits for the end of its input may not run yet
    control.close()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
