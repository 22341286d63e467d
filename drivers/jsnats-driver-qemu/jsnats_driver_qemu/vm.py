"""A virtual board: on or off, one thing at a time."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jsnats.driver import Console, Driver

from .board import NODES, PARTITIONS, Accel, Board, Partition, kvm_for
from .disks import Disks
from .identity import Identity
from .line import Line
from .process import Run

_FORWARD: Final = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+(\S+)\s+(\d+)\s+\S+\s+(\d+)")


@dataclass(kw_only=True)
class Vm:
    """What the children of `driver` share."""

    board: Board
    disks: Disks
    identity: Identity
    accel: Accel
    driver: Driver

    def __post_init__(self) -> None:
        self.line = Line()
        self._lock = asyncio.Lock()
        self._run: Run | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def is_on(self) -> bool:
        """Whether QEMU runs."""
        return self._run is not None and self._run.alive

    @property
    def run(self) -> Run:
        """QEMU. Raises ConnectionError while the board is off."""
        if self._run is None:
            raise ConnectionError("the board is off: switch it on first")
        if not self._run.alive:
            raise ConnectionError(f"the board is off, QEMU ended: {self._run.last_words}")
        return self._run

    @property
    def screen(self) -> str:
        """Path of the socket of the screen. Raises ConnectionError while the board is off."""
        return str(self.run and self.disks.folder / "vnc")

    async def on(self) -> None:
        """Switch on; nothing happens when it is. Raises OSError with QEMU's words, FileNotFoundError, ValueError."""
        async with self._lock:
            if self.is_on:
                return
            files = await self.disks.ready(PARTITIONS)
            self.identity.write(self.disks.folder / "cidata", self.disks.instance)
            self._run = run = await self._start(files)
            self._watcher = asyncio.create_task(self._watch(run), name=f"qemu-watch-{run.pid}")

    async def _start(self, files: dict[Partition, Path]) -> Run:
        if self.accel != "auto":
            return await self._open(self.accel, files)
        if not kvm_for(self.board.arch):
            return await self._open("tcg", files)
        try:
            return await self._open("kvm", files)
        except OSError as error:
            run = await self._open("tcg", files)
            self.driver.logger.warning("KVM does not work here, emulating instead: %s", error)
            self.accel = "tcg"
            return run

    async def _open(self, accel: str, files: dict[Partition, Path]) -> Run:
        command = self.board.command(accel, files, self.disks.folder, self.disks.instance)
        with self.line.plug() as console:
            return await Run.open(command, console)

    async def _watch(self, run: Run) -> None:
        """Tell of an end that nobody here has asked for."""
        await run.ended()
        if run.stopped:
            return
        reason = "the guest has switched itself off" if run.code == 0 else f"QEMU ended: {run.last_words}"
        self.driver.logger.warning("%s", reason)
        self.driver.emit("ended", code=run.code, reason=reason)
        console = self.driver.children["console"]
        if isinstance(console, Console):
            await console.mark(reason)

    async def off(self, destroy: bool = False) -> None:
        """Switch off; with `destroy` what was flashed and written is gone. Cancelled, it is off all the same."""
        async with self._lock:
            run, self._run = self._run, None
            if run:
                await run.stop()
            if destroy:
                await self.disks.destroy()

    def check_off(self) -> None:
        """Raise OSError while it is on: its disks are QEMU's then."""
        if self.is_on:
            raise OSError("the board is on: switch it off first")

    async def dump(self, partition: Partition) -> Path:
        """A file of what is on a partition. Raises OSError while the board is on, ValueError for one that is empty."""
        async with self._lock:
            self.check_off()
            return await self.disks.export(partition)

    async def put(self, partition: Partition, path: Path) -> None:
        """Make a partition of an image that was written. Raises OSError while the board is on, ValueError."""
        async with self._lock:
            self.check_off()
            await asyncio.to_thread(self.disks.put, partition, path)

    async def forwarded(self, guestport: int) -> tuple[str, int]:
        """Where on this host a port of the guest is. Raises ConnectionError while the board is off."""
        told = await self.run.execute("human-monitor-command", {"command-line": "info usernet"})
        for host, port, guest in _FORWARD.findall(told):
            if int(guest) == guestport:
                return host, int(port)
        raise ConnectionError(f"QEMU does not forward port {guestport} of the guest")

    async def nodes(self) -> list[str]:
        """The disks whose content belongs to a snapshot."""
        known = await self.run.execute("query-named-block-nodes", {"flat": True})
        return [each["node-name"] for each in known if each["node-name"] in NODES]
