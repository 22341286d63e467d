"""What every driver of digital pins shares, whatever library speaks with them: the exporter's side."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Literal, Protocol

from pydantic import Field

from jsnats.driver import Driver, export
from jsnats_driver_power.driver import SwitchInterface, WithoutMeter

from .common import Edge, EdgeType
from .edges import Watcher

Timeout = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DigitalInputInterface(Driver, ABC):
    """Base of drivers of an input: write `pin_name`, `read_pin` and `watch`; the waits are made of them.

    A wait blocks no thread: it ends with its caller, with the lease, or in time.
    """

    @classmethod
    def client(cls) -> str:
        """Return the client of all inputs."""
        return "jsnats_driver_gpiod.client.DigitalInputClient"

    @property
    @abstractmethod
    def pin_name(self) -> str:
        """What messages call it."""

    @abstractmethod
    def watch(self) -> AbstractAsyncContextManager[Watcher]:
        """The edges of the pin from here on. Raises NotImplementedError for a pin that cannot tell them."""

    @export
    @abstractmethod
    def read_pin(self) -> Awaitable[bool] | bool:
        """Return whether the pin is active."""

    @export
    async def wait_for_active(self, timeout: Timeout | None = None) -> None:
        """Return when the pin is active, at once if it is. Raises TimeoutError if it was not within `timeout` s.

        A pulse counts, however short, that comes after the call.
        """
        await self._wait_for_level(True, timeout)

    @export
    async def wait_for_inactive(self, timeout: Timeout | None = None) -> None:
        """Return when the pin is inactive, at once if it is. Raises TimeoutError if it was not within `timeout` s."""
        await self._wait_for_level(False, timeout)

    @export
    async def wait_for_edge(
        self, edge_type: Literal["rising", "falling", "both"] = "both", timeout: Timeout | None = None
    ) -> Edge:
        """Return the next edge of this type: what the pin is now does not count.

        Raises TimeoutError if there was none within `timeout` s.
        """
        failed = "no edge" if edge_type == "both" else f"no {edge_type} edge"
        async with self.watch() as edges:
            return await self._next(edges, edge_type, timeout, failed)

    @export
    async def events(self, edge_type: Literal["rising", "falling", "both"] = "both") -> AsyncGenerator[Edge, None]:
        """Yield the edges of this type as they come, until the reader stops."""
        async with self.watch() as edges:
            async for edge in edges:
                if edge_type in ("both", edge.type):
                    yield edge

    async def _wait_for_level(self, active: bool, timeout: float | None) -> None:
        wanted: EdgeType = "rising" if active else "falling"
        async with self.watch() as edges:
            if await self.invoke(self.read_pin) is not active:
                await self._next(edges, wanted, timeout, f"not {'active' if active else 'inactive'}")

    async def _next(self, edges: Watcher, edge_type: str, timeout: float | None, failed: str) -> Edge:
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                async for edge in edges:
                    if edge_type in ("both", edge.type):
                        return edge
        except TimeoutError:
            if not limit.expired():
                raise
        raise TimeoutError(f"{self.pin_name}: {failed} within {timeout:g} s")


class DigitalOutputInterface(Driver, ABC):
    """Base of drivers of an output."""

    @classmethod
    def client(cls) -> str:
        """Return the client of all outputs."""
        return "jsnats_driver_gpiod.client.DigitalOutputClient"

    @export
    @abstractmethod
    def on(self) -> Awaitable[None] | None:
        """Make the pin active."""

    @export
    @abstractmethod
    def off(self) -> Awaitable[None] | None:
        """Make the pin inactive."""

    @export
    @abstractmethod
    def read_pin(self) -> Awaitable[bool] | bool:
        """Return whether the pin is active; asking does not drive it."""


class Pin(Protocol):
    """A pin that can be driven, as a library has it; it is held from its first use until it is released."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def drive(self, active: bool) -> None:
        """Make it active or not."""

    def active(self) -> bool:
        """Say whether it is; asking does not drive it."""

    def release(self) -> None:
        """Let go of it."""


class Driven(Driver):
    """What outputs and power switches are made of: a `_pin`."""

    _pin: Pin

    def _drive(self, active: bool) -> None:
        self._pin.drive(active)
        self.logger.info("%s is %s", self._pin.name, "active" if active else "inactive")


class PinOutput(Driven, DigitalOutputInterface):
    """An output at a `_pin`."""

    def on(self) -> None:
        """Make the pin active. Raises OSError when somebody else has it."""
        self._drive(True)

    def off(self) -> None:
        """Make the pin inactive. Raises OSError when somebody else has it."""
        self._drive(False)

    def read_pin(self) -> bool:
        """Return whether the pin is active; asking does not drive it."""
        return self._pin.active()


class PinSwitch(Driven, WithoutMeter, SwitchInterface):
    """A relay at a `_pin`: active is on."""

    def on(self) -> None:
        """Switch on. Raises OSError when somebody else has the pin."""
        self._drive(True)

    def off(self) -> None:
        """Switch off. Raises OSError when somebody else has the pin."""
        self._drive(False)

    def is_on(self) -> bool:
        """Return whether the pin is active; asking does not drive it."""
        return self._pin.active()

    async def close(self) -> None:
        """Switch off, and release the pin."""
        try:
            await super().close()
        finally:
            await self.invoke(self._pin.release)
