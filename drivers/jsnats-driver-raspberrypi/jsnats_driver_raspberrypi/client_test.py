import os
from importlib.util import find_spec
from typing import Any

import pytest

from jsnats.testing import until
from jsnats_driver_gpiod.contract import DigitalContract, pool
from jsnats_driver_gpiod.edges import Edges
from jsnats_driver_raspberrypi.driver import DigitalInput, DigitalOutput
from jsnats_driver_raspberrypi.pins import pin_factory

__all__ = ["pool"]

SIM = os.environ.get("JSNATS_GPIO_SIM", "")
"""A chip of the kernel's gpio-sim that lgpio finds, which is /dev/gpiochip0."""
IN, OUT = 17, 27


class Bench:
    """Two pins of a factory."""

    factory = "mock"

    def __init__(self) -> None:
        self.pin = self.input()
        self.made: list[DigitalInput | DigitalOutput] = []

    def input(self, active_low: bool = False) -> DigitalInput:
        self.pin = DigitalInput(pin=IN, pin_factory=self.factory, active_low=active_low, bias="disabled")
        return self.pin

    def output(self, active_low: bool = False) -> DigitalOutput:
        driver = DigitalOutput(pin=OUT, pin_factory=self.factory, active_low=active_low)
        self.made.append(driver)
        return driver

    def watchers(self) -> int:
        return (self.pin._pin._edges or Edges()).watchers

    def is_free(self) -> bool:
        drivers: list[Any] = [self.pin, *self.made]
        return not any(driver._pin._device for driver in drivers)


class MockBench(Bench):
    """Two of gpiozero's mock pins."""

    def __init__(self) -> None:
        super().__init__()
        self.pins = pin_factory("mock")
        self.pins.reset()

    def apply(self, high: bool) -> None:
        pin = self.pins.pin(IN)
        (pin.drive_high if high else pin.drive_low)()

    def level(self) -> bool:
        return bool(self.pins.pin(OUT).state)


class SimBench(Bench):
    """Two lines of the kernel's gpio-sim, by lgpio."""

    factory = "lgpio"

    def __init__(self, chip: Any) -> None:
        super().__init__()
        self.chip = chip

    def apply(self, high: bool) -> None:
        edges = self.pin._pin._edges or Edges()
        before, changes = edges.number, self.chip.level(IN) is not high
        self.chip.apply(IN, high)
        if changes and edges.watchers:  # the kernel makes one of edges that come too fast for its thread
            until(lambda: edges.number > before)

    def level(self) -> bool:
        return bool(self.chip.level(OUT))


class TestOnMockPins(DigitalContract):
    """What is asked of drivers of digital pins, with gpiozero's mock pins."""

    @pytest.fixture
    def bench(self):
        """Its world."""
        return MockBench()


@pytest.mark.skipif(not SIM, reason="JSNATS_GPIO_SIM does not name a chip of gpio-sim")
@pytest.mark.skipif(not find_spec("lgpio"), reason="lgpio is not installed")
class TestOnARealChip(DigitalContract):
    """The same by lgpio, on a chip of the kernel. The host has to look like a Pi, to gpiozero in /proc/cpuinfo."""

    @pytest.fixture
    def bench(self):
        """Its world."""
        from jsnats_driver_gpiod.testing import SimChip

        return SimBench(SimChip(SIM))
