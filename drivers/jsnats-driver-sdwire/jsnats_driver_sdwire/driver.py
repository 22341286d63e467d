"""The exporter's side: an SD card that is at the exporter's host or in the device under test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from jsnats.driver import Resource, export
from jsnats_driver_opendal.flasher import StorageMuxInterface
from jsnats_driver_opendal.storage import read_image, write_image

from . import bus, card, mux
from .mux import Position


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{path} is no path of a disk, as /dev/sdb or /dev/disk/by-path/...")
    return path


@dataclass(kw_only=True)
class SDWire(StorageMuxInterface):
    """An SDWire, SDWireC or SDWire3: `serial` is its serial number, or its port where two have the same.

    `storage_device` is the card's disk, for when it is not found by its reader. `storage_timeout` s is what the card
    may take to appear on the host, `storage_fsync_timeout` s to write what the host has in memory; for
    `storage_leeway` s it is left alone after it was written.
    """

    serial: Annotated[str | None, Field(min_length=1)] = None
    storage_device: Annotated[Path, AfterValidator(_absolute)] | None = None
    storage_timeout: Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)] = 10.0
    storage_leeway: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 6.0
    storage_fsync_timeout: Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)] = 900.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._in_use = ""

    @classmethod
    def client(cls) -> str:
        """Return the client of cards behind an SDWire."""
        return "jsnats_driver_sdwire.client.SDWireClient"

    @export
    def host(self) -> None:
        """Attach the card to the exporter's host. Raises as `dut`."""
        self._switch("host")

    @export
    def dut(self) -> None:
        """Attach the card to the device under test.

        Raises OSError while the card is written, read or mounted on the host, and when the SDWire does not switch;
        ConnectionError for an SDWire that is not there, PermissionError (as DriverOSError), TimeoutError, and
        ValueError when there are several to choose from.
        """
        if self._in_use:
            raise OSError(f"the card is being {self._in_use}: cancel that first")
        with self._opened() as (kind, device):
            self._check_unmounted(kind, device)
            mux.switch(kind, device, "dut")
        self.logger.info("the card is at the device")

    @export
    def off(self) -> None:
        """Take the card away from the device: to the host, since an SDWire has no third position. Raises as `dut`."""
        self._switch("host")

    @export
    def query(self) -> Position:
        """Ask the SDWire where the card is: `host` or `dut`. Raises as `dut`."""
        with self._opened() as (kind, device):
            return mux.position(kind, device)

    @export
    async def write(self, src: Resource) -> None:
        """Write an image to the card, which is attached to the host, read it back and compare.

        Raises OSError when the card is at the device, mounted, too small, or gives back something else; TimeoutError
        when it does not appear or takes too long; ConnectionError, PermissionError, ValueError as `dut`.
        """
        async with self._card("written") as path:
            await write_image(self, src, path, verify=True, sync_timeout=self.storage_fsync_timeout)
            await asyncio.sleep(self.storage_leeway)

    @export
    async def read(self) -> Resource:
        """Read all of the card, which is attached to the host; return the handle of it. Raises as `write`."""
        async with self._card("read") as path:
            return await read_image(self, path)

    def close(self) -> None:
        """Take the card away from the device: after a lease nothing boots from it or writes to it."""
        self._switch("host")

    def _switch(self, to: Position) -> None:
        with self._opened() as (kind, device):
            mux.switch(kind, device, to)
        self.logger.info("the card is at the %s", to)

    @contextmanager
    def _opened(self) -> Iterator[tuple[bus.Kind, Any]]:
        what = f"SDWire {self.serial}" if self.serial else "the SDWire"
        with bus.opened(what, mux.KINDS, self.serial) as found:
            yield found

    def _check_unmounted(self, kind: bus.Kind, device: Any) -> None:
        path = self.storage_device or card.disk(card.reader(kind, device))
        if path:
            card.check_unmounted(path)

    @asynccontextmanager
    async def _card(self, use: str) -> AsyncIterator[Path]:
        """The card's disk, and for nobody else as long as it is used."""
        if self._in_use:
            raise OSError(f"the card is being {self._in_use} already")
        self._in_use = use
        try:
            folder = await self.invoke(self._at_host)
            yield await card.ready(self.storage_device or folder, self.storage_device is None, self.storage_timeout)
        finally:
            self._in_use = ""

    def _at_host(self) -> Path:
        """Where the reader is in sysfs. Raises OSError when the card is not attached to the host."""
        with self._opened() as (kind, device):
            if (found := mux.position(kind, device)) != "host":
                raise OSError(f"the card is attached to {found}: attach it to the host first")
            return Path() if self.storage_device else card.reader(kind, device)
