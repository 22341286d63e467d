"""Flashers, which write an image to a device, and storage muxes, which flash by taking the device's card away: the
interfaces of both, and a mock of each for tests of what is built on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable

import anyio
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver, Resource, export

from .storage import Scratch, read_image, write_image


class FlasherInterface(Driver, ABC):
    """A driver that can write an image to its device. A subclass writes `flash` and `dump`, as `async def` or as `def`;
    they are exported already. `target` is a part of the device, such as a partition, where it has parts."""

    @classmethod
    def client(cls) -> str:
        """Return the client of every flasher."""
        return "jsnats_driver_opendal.client.FlasherClient"

    @export
    @abstractmethod
    def flash(self, source: Resource, target: str | None = None) -> Awaitable[None] | None:
        """Write an image to the device; a compressed one is decompressed on the way."""

    @export
    @abstractmethod
    def dump(self, target: str | None = None) -> Awaitable[Resource] | Resource:
        """Read the device, and return the handle of what was read."""


class StorageMuxInterface(FlasherInterface):
    """A card that is attached to the exporter's host, to the device under test, or to neither.

    A subclass writes `host`, `dut`, `off`, `write` and `read`; `flash` and `dump` are made of them.
    """

    @classmethod
    def client(cls) -> str:
        """Return the client of every storage mux."""
        return "jsnats_driver_opendal.client.StorageMuxFlasherClient"

    @export
    @abstractmethod
    def host(self) -> Awaitable[None] | None:
        """Attach the card to the exporter's host."""

    @export
    @abstractmethod
    def dut(self) -> Awaitable[None] | None:
        """Attach the card to the device under test."""

    @export
    @abstractmethod
    def off(self) -> Awaitable[None] | None:
        """Attach the card to nothing."""

    @export
    @abstractmethod
    def write(self, src: Resource) -> Awaitable[None] | None:
        """Write an image to the card, which is attached to the host."""

    @export
    @abstractmethod
    def read(self) -> Awaitable[Resource] | Resource:
        """Read the card, which is attached to the host, and return the handle of what was read."""

    async def flash(self, source: Resource, target: str | None = None) -> None:
        """Attach the card to the host, write the image, and attach it to the device.

        When that fails the card is attached to nothing: no device boots from half an image.
        """
        _refuse_target(target)
        try:
            await self.invoke(self.host)
            await self.invoke(self.write, source)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._put_away()
            raise
        await self.invoke(self.dut)

    async def dump(self, target: str | None = None) -> Resource:
        """Attach the card to the host, read it, and attach it to the device; return the handle of what was read."""
        _refuse_target(target)
        try:
            await self.invoke(self.host)
            handle: Resource = await self.invoke(self.read)
        finally:
            with anyio.CancelScope(shield=True):
                await self.invoke(self.dut)
        return handle

    async def _put_away(self) -> None:
        """Attach the card to nothing. When that fails too, it is the first failure that the caller has to know."""
        try:
            await self.invoke(self.off)
        except OSError as error:
            self.logger.error("the card was not attached to nothing after a flash that failed: %s", error)


def _refuse_target(target: str | None) -> None:
    if target is not None:
        raise ValueError(f"target {target!r}: a card has one storage: leave the target out")


@dataclass(kw_only=True)
class MockFlasher(FlasherInterface):
    """A flasher without a device: what is flashed to a target is what a dump of that target gives."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._flashed: dict[str | None, Scratch] = {}

    @export
    async def flash(self, source: Resource, target: str | None = None) -> None:
        """Keep an image."""
        medium = self._flashed.setdefault(target, Scratch())
        await write_image(self, source, medium.path)

    @export
    async def dump(self, target: str | None = None) -> Resource:
        """Give back what was flashed last."""
        if target not in self._flashed:
            raise ValueError(f"nothing was flashed to {target or 'the device'} yet")
        return await read_image(self, self._flashed[target].path)


@dataclass(kw_only=True)
class MockStorageMux(StorageMuxInterface):
    """A storage mux without hardware: the card is a temporary file, and is where one says it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._card = Scratch()
        self._at = "off"

    @export
    async def host(self) -> None:
        """Attach the card to the host."""
        self._at = "host"

    @export
    async def dut(self) -> None:
        """Attach the card to the device."""
        self._at = "dut"

    @export
    async def off(self) -> None:
        """Attach the card to nothing."""
        self._at = "off"

    @export
    async def attached(self) -> str:
        """Where the card is: `host`, `dut` or `off`."""
        return self._at

    @export
    async def write(self, src: Resource) -> None:
        """Write an image to the card."""
        self._check()
        await write_image(self, src, self._card.path)

    @export
    async def read(self) -> Resource:
        """Read the card."""
        self._check()
        return await read_image(self, self._card.path)

    def _check(self) -> None:
        if self._at != "host":
            raise OSError(f"the card is attached to {self._at}: attach it to the host first")
