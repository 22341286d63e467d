"""The processes of the systems compared: for each an exporter and a client, next to one broker that all share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from image import write_image
from rows import FLOOR, JSNATS, JUMPSTARTER

from jsnats.broker.testing import TestBroker, running_broker

HERE = Path(__file__).parent
STORE = 4_000_000_000
"""Bytes the broker may store: a share of it has room for the trees of 10 000 exporters."""


class Process:
    """One of our scripts. It says `ready` on its first line, and is killed at the end."""

    def __init__(self, python: str, script: str, part: str, *arguments: object, scratch: Path | None = None) -> None:
        command = [python, str(HERE / script), part, *map(str, arguments)]
        # What it leaves behind when it is killed goes with the broker's directory.
        places = {"TMPDIR": str(scratch), "XDG_CACHE_HOME": str(scratch)} if scratch else {}
        pipe = subprocess.PIPE
        self._inner = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ | places)
        self._read(f"{script} {part}", "ready\n")

    def _read(self, what: str, expected: str = "") -> str:
        assert self._inner.stdout
        line = self._inner.stdout.readline()
        if not line or (expected and line != expected):
            raise SystemExit(f"{what} failed, see above: {line.strip() or 'it ended'}")
        return line

    def ask(self, row: str) -> dict[str, float]:
        """Have a client measure `row`; return its figures."""
        assert self._inner.stdin
        self._inner.stdin.write(row + "\n")
        self._inner.stdin.flush()
        figures: dict[str, float] = json.loads(self._read(row))
        return figures

    @property
    def pid(self) -> int:
        """For a profiler."""
        return self._inner.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._inner.kill()
        self._inner.communicate()


@dataclass(frozen=True, slots=True)
class Family:
    """Scripts `<prefix>_<system>.py`, and what else their exporters and clients are told."""

    prefix: str = "side"
    exporter: tuple[object, ...] = ()
    client: tuple[object, ...] = ()


class Sides:
    """All systems, started. `clients` are asked for rows, `exporters` serve them."""

    def __init__(self, broker: TestBroker, stack: ExitStack, jumpstarter: str | None, family: Family) -> None:
        self.broker = broker
        self.family = family
        self.clients: dict[str, Process] = {}
        self.exporters: dict[str, Process] = {}
        self.socket = broker.directory / "jumpstarter-socket"
        self._scratch = broker.directory / "scratch"
        self._scratch.mkdir()
        self._stack = stack
        self.start_jsnats_exporter()
        self._start(FLOOR, "exporter", sys.executable, broker.context_path("floor"))
        if jumpstarter:
            self._start(JUMPSTARTER, "exporter", jumpstarter, self.socket)
            self._start(JUMPSTARTER, "client", jumpstarter, self.socket)
        self._start(JSNATS, "client", sys.executable, broker.context_path("bench-user"))
        self._start(FLOOR, "client", sys.executable, broker.context_path("floor-user"))

    def start_jsnats_exporter(self) -> None:
        """Start it, or start it again after it was killed."""
        self._start(JSNATS, "exporter", sys.executable, self.broker.context_path("bench"))

    def _start(self, system: str, part: str, python: str, argument: Path) -> None:
        more = self.family.client if part == "client" else self.family.exporter
        script = f"{self.family.prefix}_{system}.py"
        process = self._stack.enter_context(Process(python, script, part, argument, *more, scratch=self._scratch))
        (self.clients if part == "client" else self.exporters)[system] = process


@contextmanager
def running_sides(jumpstarter: str | None, family: Family = Family()) -> Iterator[Sides]:
    """Start a broker with roles on, and the systems. `jumpstarter` is the Python that has it."""
    principals = {"exporter": ["bench", "floor"], "user": ["bench-user", "floor-user"]}
    with running_broker(total_bytes=STORE, principals=principals) as broker, ExitStack() as stack:
        yield Sides(broker, stack, jumpstarter, family)


@contextmanager
def running_bytes(jumpstarter: str | None) -> Iterator[tuple[Sides, Path, int]]:
    """Start what moves bytes: the systems, an image of noise, and the service that the forwards lead to."""
    with (
        tempfile.TemporaryDirectory(prefix="jsnats-") as directory,
        Process(sys.executable, "peer.py", "serve") as peer,
    ):
        image, port = Path(directory, "image"), int(peer.ask("port")["port"])
        write_image(image)
        with running_sides(jumpstarter, Family("bytes", (port,), (image,))) as sides:
            yield sides, image, port


def commands(sides: Sides, jumpstarter: str | None) -> dict[str, dict[str, tuple[list[str], dict[str, str]]]]:
    """For each row about commands, the command of each system and its environment."""
    ours = Path(sys.executable).parent
    context = {"JSNATS_CONTEXT": str(sides.broker.context_path("bench-user")), "JSNATS_EXPORTER": "bench"}
    floor = [sys.executable, str(HERE / "side_floor.py")]
    found: dict[str, dict[str, Any]] = {
        "help": {JSNATS: ([str(ours / "jsnats"), "--help"], context), FLOOR: ([*floor, "--help"], {})},
        "command": {
            JSNATS: ([str(ours / "j"), "power", "on"], context),
            FLOOR: ([*floor, "once", str(sides.broker.context_path("floor-user"))], {}),
        },
    }
    if jumpstarter and (jmp := Path(jumpstarter).parent / "jmp").exists():
        socket = {"JUMPSTARTER_HOST": sides.socket.read_text(), "JMP_DRIVERS_ALLOW": "UNSAFE"}
        found["help"][JUMPSTARTER] = [str(jmp), "--help"], {}
        found["command"][JUMPSTARTER] = [str(jmp.with_name("j")), "power", "on"], socket
    return found


def run_command(command: list[str], environment: dict[str, str]) -> None:
    """Run one to its end."""
    subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
