"""The exporter's side: pins of the Raspberry Pi that the agent runs on, or of one in the network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver
from jsnats_driver_gpiod.edges import Watcher
from jsnats_driver_gpiod.interface import DigitalInputInterface, Driven, PinOutput, PinSwitch

from .pins import InputPin, OutputPin, factory_names


def _known(name: str) -> str:
    if name not in (names := factory_names()):
        raise ValueError(f"gpiozero has no pin factory {name!r}: {', '.join(names)}")
    return name


@dataclass(kw_only=True)
class _OnHeader(Driver):
    """Parameters of all: the `pin`, by its BCM number or a name of gpiozero's, as GPIO17, BOARD11 or J8:11.

    With `active_low` a low voltage is active. `pin_factory` is gpiozero's way to the pins.
    """

    pin: Annotated[int, Field(ge=0, le=1000)] | Annotated[str, Field(min_length=1)]
    active_low: bool = False
    pin_factory: Annotated[str, AfterValidator(_known)] | None = None


@dataclass(kw_only=True)
class _OnPin(_OnHeader, Driven):
    def __post_init__(self) -> None:
        super().__post_init__()
        self._pin = OutputPin(self.pin, self.pin_factory, self.active_low)


@dataclass(kw_only=True)
class DigitalOutput(_OnPin, PinOutput):
    """An output: a button, a strap, a lamp. It is an input until it is driven first, and again after the lease."""

    def close(self) -> None:
        """Make the pin inactive, if it was driven, and then an input again."""
        self._pin.release()


@dataclass(kw_only=True)
class PowerSwitch(_OnPin, PinSwitch):
    """A relay at a pin: active is on. The end of a lease switches off and makes the pin an input."""


@dataclass(kw_only=True)
class DigitalInput(_OnHeader, DigitalInputInterface):
    """An input: a button, a lamp that is watched. `bias` is the Pi's own resistor."""

    bias: Literal["pull_up", "pull_down", "disabled"] = "pull_down"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._pin = InputPin(self.pin, self.pin_factory, self.active_low, self.bias)

    @property
    def pin_name(self) -> str:
        """What messages call it."""
        return self._pin.name

    @asynccontextmanager
    async def watch(self) -> AsyncGenerator[Watcher, None]:
        """The edges of the pin from here on."""
        since = time.monotonic()
        edges = await self.invoke(self._pin.edges, asyncio.get_running_loop())
        with edges.watch(since) as watcher:
            yield watcher

    def read_pin(self) -> bool:
        """Return whether the pin is active. Raises OSError when somebody else has it."""
        return self._pin.active()

    def close(self) -> None:
        """Release the pin."""
        self._pin.release()
