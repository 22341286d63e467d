"""Pins as gpiozero has them: taken at their first use, and inputs again when they are released.

gpiozero's own devices tie the polarity to the resistor; here both are free, so only its pins are used. Methods are
called on the driver's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import entry_points
from threading import Lock
from typing import Any, Final

from gpiozero import BadPinFactory, Device, GPIODevice, GPIOPinInUse, GPIOZeroError, PinInvalidPin, PinUnknownPi

from jsnats_driver_gpiod.edges import Edges

BUSY_S: Final = 1.0
"""How long a pin may be busy when it is released."""
PULLS: Final = {"pull_up": "up", "pull_down": "down", "disabled": "floating"}

_making = Lock()  # two drivers begin on two threads


def factory_names() -> list[str]:
    """The ways to the pins that gpiozero knows by name."""
    return sorted(point.name for point in entry_points(group="gpiozero_pin_factories"))


def pin_factory(name: str | None) -> Any:
    """The factory of this name, one for the process; without a name that of GPIOZERO_PIN_FACTORY, or gpiozero's choice.

    Raises what the library behind it raises.
    """
    with _making:
        return _made(name)


@cache
def _made(name: str | None) -> Any:
    if name is None:
        Device.ensure_pin_factory()
        return Device.pin_factory
    (point,) = entry_points(group="gpiozero_pin_factories", name=name)
    return point.load()()


class Pin:
    """Pin `pin` (BCM number, or a name) of a factory."""

    def __init__(self, pin: int | str, factory: str | None, active_low: bool) -> None:
        self.name = f"pin {pin}"
        self._pin = pin
        self._factory = factory
        self._active_low = active_low
        self._device: Any = None

    def active(self) -> bool:
        """Return whether it is active. Raises as `taken`."""
        with self.taken() as pin:
            return bool(pin.state) is not self._active_low

    def release(self) -> None:
        """Make it an input without a resistor, and let others of this process have it. Raises OSError."""
        if device := self._device:
            self._device = None
            with self._told():
                device.close()

    @contextmanager
    def taken(self) -> Iterator[Any]:
        """Gpiozero's pin, which becomes ours if need be.

        Raises ValueError for a pin that is not there or cannot do this, OSError for one that somebody else has or a
        library that does not reach it.
        """
        with self._told():
            if self._device is None:
                self._device = GPIODevice(self._pin, pin_factory=pin_factory(self._factory))
                self.set_up(self._device.pin)
            yield self._device.pin

    def set_up(self, pin: Any) -> None:
        """Be what it is from the beginning."""

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except PinInvalidPin as error:
            names = "a BCM number as 17, or a name as GPIO17, BOARD11, J8:11"
            raise ValueError(f"this board has no {self.name}: give {names}") from error
        except GPIOPinInUse as error:
            raise OSError(f"{self.name} is in use by another driver of this agent") from error
        except (BadPinFactory, PinUnknownPi, ImportError) as error:
            raise OSError(f"gpiozero finds no way to the pins of this host: {error}") from error
        except (GPIOZeroError, ValueError) as error:
            raise ValueError(f"{self.name}: {error}") from error
        except Exception as error:  # each of the libraries has its own
            raise OSError(f"{self.name}: {error}") from error


class OutputPin(Pin):
    """A pin that is an input until it is driven."""

    def drive(self, active: bool) -> None:
        """Make it an output at this level. Raises as `taken`."""
        high = active is not self._active_low
        with self.taken() as pin:
            if pin.function == "output":
                pin.state = high
            else:
                pin.output_with_state(high)

    def release(self) -> None:
        """Make it inactive, if it was driven, and then an input. Raises OSError."""
        try:
            if self._device and self._device.pin.function == "output":
                self.drive(False)
        finally:
            super().release()


class InputPin(Pin):
    """A pin that is an input, with a resistor by one of the names of PULLS."""

    def __init__(self, pin: int | str, factory: str | None, active_low: bool, bias: str) -> None:
        super().__init__(pin, factory, active_low)
        self._pull = PULLS[bias]
        self._edges: PinEdges | None = None

    def set_up(self, pin: Any) -> None:
        """Be an input."""
        pin.input_with_pull(self._pull)

    def edges(self, loop: asyncio.AbstractEventLoop) -> PinEdges:
        """Its edges, to be watched on the loop; gpiozero looks for them from the first call on. Raises as `taken`."""
        with self.taken() as pin:
            if self._edges is None:
                edges = PinEdges(self._active_low, loop)
                pin.edges = "both"
                pin.when_changed = edges.changed  # gpiozero's reference is weak: the object has to live
                self._edges = edges
        return self._edges

    def release(self) -> None:
        """Let go of it. Who still watches gets ConnectionError. Raises OSError."""
        try:
            if edges := self._edges:
                self._edges = None
                edges.lose(ConnectionError(f"{self.name} was released"))
                with self._told():
                    _stop_telling(self._device.pin)
        finally:
            super().release()


def _stop_telling(pin: Any) -> None:
    """A thread of lgpio polls the pin, which is busy until that comes back: seen on a real chip."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            pin.when_changed = None
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class PinEdges(Edges):
    """The edges of a pin, which gpiozero tells on a thread of its own."""

    def __init__(self, active_low: bool, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._active_low = active_low
        self._loop = loop

    def changed(self, _ticks: float, state: float) -> None:
        """Gpiozero's handler, on its thread."""
        moment = time.monotonic()
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._tell, bool(state) is not self._active_low, moment)

    def lose(self, error: ConnectionError) -> None:
        """From any thread: tell who watches."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.fail, error)

    def _tell(self, active: bool, moment: float) -> None:
        self.put(self.number + 1, "rising" if active else "falling", moment)
