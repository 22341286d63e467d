"""Snapshots of a whole board: its memory, its devices and its disks."""

from __future__ import annotations

import asyncio
import builtins
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, SkipValidation
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver, export

from .board import STATE
from .common import Snapshot
from .process import Run
from .vm import Vm


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}", text):
        raise ValueError(f"{text!r} is no name of a snapshot: a letter or _, then up to 62 letters, digits and _ . -")
    return text


Name = Annotated[str, AfterValidator(_name)]


@dataclass(kw_only=True)
class Snapshots(Driver):
    """Snapshots of the whole board, while it is on.

    They outlive a power cycle, and end with a flash or when the board is destroyed.
    """

    vm: SkipValidation[Vm]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._lock = asyncio.Lock()

    @classmethod
    def client(cls) -> str:
        """Return the client of snapshots."""
        return "jsnats_driver_qemu.client.SnapshotsClient"

    @export
    async def save(self, name: Name) -> None:
        """Take a snapshot; the board stands still meanwhile.

        Raises ValueError for a name that is taken, ConnectionError while the board is off, OSError.
        """
        async with self._one_at_a_time() as (run, disks):
            if name in await self._known(run):
                raise ValueError(f"there is a snapshot {name!r} already: delete it, or take another name")
            await run.job("snapshot-delete", tag=name, devices=disks)  # what a flash may have left on another disk
            await run.job("snapshot-save", tag=name, vmstate=STATE, devices=disks)

    @export
    async def load(self, name: Name) -> None:
        """Go back to a snapshot, and go on from there.

        Raises ValueError for one that is not there, ConnectionError while the board is off, OSError when it does not
        fit, and the board then stands still until it is switched off.
        """
        async with self._one_at_a_time() as (run, disks):
            await self._check(run, name)
            await run.job("snapshot-load", tag=name, vmstate=STATE, devices=disks)

    @export
    async def delete(self, name: Name) -> None:
        """Remove a snapshot. Raises ValueError for one that is not there, ConnectionError while the board is off."""
        async with self._one_at_a_time() as (run, disks):
            await self._check(run, name)
            await run.job("snapshot-delete", tag=name, devices=disks)

    @export
    async def list(self) -> list[Snapshot]:
        """The snapshots there are, the oldest first. Raises ConnectionError while the board is off."""
        return [*(await self._known(self.vm.run)).values()]

    @asynccontextmanager
    async def _one_at_a_time(self) -> AsyncGenerator[tuple[Run, builtins.list[str]], None]:
        async with self._lock:
            yield self.vm.run, await self.vm.nodes()

    async def _check(self, run: Run, name: str) -> None:
        if name not in (known := await self._known(run)):
            raise ValueError(f"there is no snapshot {name!r}: there is {', '.join(known) or 'none'}")

    async def _known(self, run: Run) -> dict[str, Snapshot]:
        nodes = await run.execute("query-named-block-nodes", {"flat": True})
        state = next(each for each in nodes if each["node-name"] == STATE)
        return {each["name"]: _snapshot(each) for each in state["image"].get("snapshots", ())}


def _snapshot(told: dict[str, Any]) -> Snapshot:
    taken = datetime.fromtimestamp(told["date-sec"] + told["date-nsec"] / 1e9, UTC)
    return Snapshot(name=told["name"], taken=taken, size=told["vm-state-size"])
