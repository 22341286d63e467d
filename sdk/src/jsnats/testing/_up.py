"""A whole lab for the length of a test session: `jsnats up` in a process of its own.

The command that it runs around waits for the end of its standard input. So the lab ends with this process, in whatever
way that ends: the broker stops, the drivers are closed, the boards are off.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from jsnats.schemas import ConfigurationError

WAIT = """
import json, os, sys
print(json.dumps([os.environ["JSNATS_CONTEXT"], os.environ["JSNATS_EXPORTER"]]), flush=True)
sys.stdin.read()
"""
END_S = 45.0
"""More than drivers may take to close (20 s), and the broker to stop (10 s)."""


@contextmanager
def running_lab(exporters: Sequence[Path], python_path: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Run a lab and yield a user's context file and the name of the first exporter.

    `python_path` is where drivers are found beside what is installed. Raises ConfigurationError with what `jsnats up`
    says when it does not start.
    """
    with tempfile.TemporaryFile("w+") as log:
        process = _start(exporters, python_path, log)
        ready = ""
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            if not ready:
                process.wait()
                raise ConfigurationError(f"jsnats up: {_said(log)}")
            context, first = json.loads(ready)
            yield Path(context), first
        finally:
            _end(process, bool(ready))


def _start(exporters: Sequence[Path], python_path: Sequence[Path], log: IO[str]) -> subprocess.Popen[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("JSNATS_URL", "JSNATS_CONTEXT", "JSNATS_EXPORTER")  # or it would join that lab
    }
    path = [*map(str, python_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "jsnats.sdk.cli", "up", *map(str, exporters), "--", sys.executable, "-c", WAIT]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=environment | {"PYTHONPATH": os.pathsep.join(path)},
        start_new_session=True,  # Ctrl-C is for pytest: its fixtures still need the lab while they end
    )


def _said(log: IO[str]) -> str:
    log.seek(0)
    return log.read().strip().removeprefix("error: ") or "it ended without a word"


def _end(process: subprocess.Popen[str], ready: bool) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    if not ready:
        process.terminate()  # the command that waits for its input may not run yet
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process.stdout.close()
