"""What a user does while the broker is in trouble: each in a thread, with a connection of its own, numbered throughout.

Every kind of traffic notes its progress, so that the longest time without any is known, and what it saw that cannot
be: an error, something lost, something twice.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jsnats.sdk import Context, Lab, connect
from jsnats_driver_network.adapters import TcpPortforwardAdapter

IMAGE = 16 << 20
BEGIN_S, END_S = 60.0, 90.0
QUIET_S = 2.0
"""Without a fault each kind makes progress within that time."""


@dataclass(slots=True)
class Cell:
    """One kind of traffic through one fault. `stall` is the longest time in s without progress; `stuck` is what never
    went on, or could not be ended."""

    stall: float = 0.0
    count: int = 0
    errors: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)
    stuck: bool = False

    @property
    def text(self) -> str:
        """For the table: `4.3`, or `4.3, 2x ExporterOffline`, with what else went wrong behind it."""
        kinds = Counter(each.partition(":")[0] for each in self.errors)
        told = [f"{count}x {kind[:60]}" for kind, count in kinds.items()] + [each[:60] for each in self.wrong[:1]]
        return ", ".join([f"{self.stall:.1f}", *told])

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


class Traffic:
    """One kind; `context` is that of who makes it."""

    name = ""

    def __init__(self, context: Context, folder: Path) -> None:
        self.cell = Cell()
        self.folder = folder
        self.over = threading.Event()
        self._context = context
        self._last = 0.0
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Begin, and return when it flows."""
        self._thread.start()
        self.wait_for_progress(BEGIN_S)

    def progress(self) -> None:
        """Something came through."""
        now = time.monotonic()
        if self._last:
            self.cell.stall = max(self.cell.stall, now - self._last)
        self._last = now
        self.cell.count += 1

    def wait_for_progress(self, timeout_s: float) -> None:
        """Return when it flows, or has ended; what never comes back is an error."""
        before, end = self.cell.count, time.monotonic() + timeout_s
        while self.cell.count < before + 2 and self._thread.is_alive():
            if time.monotonic() > end:
                self.cell.stuck = True
                self.cell.errors.append(f"stuck for {timeout_s:g} s")
                return
            time.sleep(0.05)

    def stop(self) -> Cell:
        """End it, and check what it saw."""
        self.over.set()
        self._thread.join(END_S)
        if self._thread.is_alive():
            self.cell.stuck = True
            self.cell.errors.append("did not end")
        return self.cell

    def expect(self, seen: int, wanted: int) -> int:
        """Compare a number with the one that should come; return the next."""
        if seen != wanted:
            what = f"{seen - wanted} lost" if seen > wanted else f"{seen} again for {wanted}"
            self.cell.wrong.append(what)
        return seen + 1

    def _run(self) -> None:
        while not self.over.is_set():
            try:
                with connect(context=self._context) as lab:
                    self.work(lab)
            except Exception as error:  # noqa: BLE001 - whatever it is, it stands in the table
                self.cell.errors.append(f"{type(error).__name__}: {error}, at {_place(error)}")
                self.failed()
                time.sleep(0.5)

    def failed(self) -> None:
        """It was given up with an error, and begins again."""

    def work(self, lab: Lab) -> None:
        """Do it until `over`."""
        raise NotImplementedError


class Calls(Traffic):
    """One after the other; the exporter counts them, so one that is run twice or not at all is seen. One that has ended
    with an error was run once or not at all."""

    name = "call"
    wanted = 1
    unsure = 0

    def work(self, lab: Lab) -> None:
        """See above."""
        bench: Any = lab.exporter("bench")
        while not self.over.is_set():
            seen = bench.call("run_count")
            self.wanted = self.expect(seen, min(max(seen, self.wanted), self.wanted + self.unsure))
            self.unsure = 0
            self.progress()
            time.sleep(0.01)

    def failed(self) -> None:
        """See above."""
        self.unsure += 1


class Stream(Traffic):
    """One generator, an item every few milliseconds."""

    name = "stream"

    def work(self, lab: Lab) -> None:
        """See above."""
        bench: Any = lab.exporter("bench")
        wanted = 0
        for item in bench.streamingcall("count", 1_000_000, 0.005):
            wanted = self.expect(item, wanted)
            self.progress()
            if self.over.is_set():
                return


class Forward(Traffic):
    """One TCP connection through a port forward to a service that echoes; blocks are random."""

    name = "forward"

    def work(self, lab: Lab) -> None:
        """See above."""
        bench: Any = lab.exporter("bench")
        with TcpPortforwardAdapter(client=bench.echo) as address, socket.create_connection(address) as connection:
            connection.settimeout(END_S)
            while not self.over.is_set():
                block = os.urandom(512)
                connection.sendall(block)
                if _exactly(connection, len(block)) != block:
                    self.cell.wrong.append("other bytes came back")
                self.progress()
                time.sleep(0.01)


class Flash(Traffic):
    """New images, uploaded and flashed; the device has to hold what was sent."""

    name = "flash"

    def work(self, lab: Lab) -> None:
        """See above."""
        bench: Any = lab.exporter("bench")
        image, dump = self.folder / "image", self.folder / "dump"
        while not self.over.is_set():
            data = os.urandom(IMAGE)
            image.write_bytes(data)
            bench.storage.options(on_progress=lambda *_: self.progress()).flash(image)
            bench.storage.dump(dump)
            if dump.read_bytes() != data:
                self.cell.wrong.append("another image is on the device")
            for each in lab.blobs.ls():
                lab.blobs.rm(each.sha256)
            self.progress()
            time.sleep(0.3)


class ConsoleLines(Traffic):
    """Somebody watches the console; at the end the record is read as well."""

    name = "console"
    seen = -1

    def work(self, lab: Lab) -> None:
        """See above. After an error it begins at the first line; those that were seen before are no progress."""
        console: Any = lab.exporter("bench").console  # type: ignore[attr-defined]
        lines = _Lines(self)
        for record in console.watch(since="start"):
            lines.add(record)
            if lines.wanted > self.seen:
                self.seen = lines.wanted
                self.progress()
            if self.over.is_set():
                break
        recorded = _Lines(self)
        for data in [console.read(since="start")]:
            recorded.take(data)
        if recorded.wanted < lines.wanted:
            self.cell.wrong.append(f"{lines.wanted - recorded.wanted} lines are not in the record")


class _Lines:
    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._rest = b""
        self.wanted = 0

    def add(self, record: Any) -> None:
        if record.data:
            self.take(record.data)
        elif record.mark in ("gap", "lost"):
            self._traffic.cell.wrong.append(f"marker {record.mark}")

    def take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            self.wanted = self._traffic.expect(int(line.removeprefix(b"line ")), self.wanted)


class Leases(Traffic):
    """Taken and given back, over and over, on an exporter that demands one, with one call under each."""

    name = "lease"

    def work(self, lab: Lab) -> None:
        """See above."""
        while not self.over.is_set():
            with lab.lease(exporter="spare", wait="90s") as spare:
                if spare.call("ping", 1) != 1:
                    self.cell.wrong.append("another answer")
            self.progress()


class Events(Traffic):
    """A subscriber to the events of the board."""

    name = "event"

    def work(self, lab: Lab) -> None:
        """See above."""
        wanted, stored = None, 0.0
        for event in lab.events(exporter="bench", type="driver.tick", follow=True):
            if stored:
                self.cell.notes["gap_stored"] = max(self.cell.notes.get("gap_stored", 0.0), event.stored - stored)
            stored = event.stored
            number = int(event.data["number"])
            wanted = self.expect(number, number if wanted is None else wanted)
            self.progress()
            if self.over.is_set():
                return


KINDS: tuple[type[Traffic], ...] = (Calls, Stream, Forward, Flash, ConsoleLines, Leases, Events)


def _place(error: Exception) -> str:
    """The line of the work that failed."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.line or "" for frame in frames if frame.name == "work"), "connect")


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        got = connection.recv(count - len(found))
        if not got:
            raise ConnectionError("the forward was closed")
        found += got
    return found


@contextmanager
def echo_service() -> Iterator[int]:
    """A TCP service on loopback that echoes; yields its port."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_echo, args=[connection], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=[listener], daemon=True).start()
        yield int(listener.getsockname()[1])


def _echo(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)
