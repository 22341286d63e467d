import pytest

from jsnats_driver_gpiod.contract import DigitalContract, pool
from jsnats_driver_raspberrypi.driver import DigitalInput, DigitalOutput
from jsnats_driver_raspberrypi.pins import pin_factory

__all__ = ["pool"]

IN, OUT = 17, 27


class MockBench:
    """Two of gpiozero's mock pins."""

    def __init__(self) -> None:
        self.pins = pin_factory("mock")
        self.pins.reset()
        self.made: list[DigitalInput | DigitalOutput] = []

    def input(self, active_low: bool = False) -> DigitalInput:
        self.pin = DigitalInput(pin=IN, pin_factory="mock", active_low=active_low, bias="disabled")
        self.made.append(self.pin)
        return self.pin

    def output(self, active_low: bool = False) -> DigitalOutput:
        driver = DigitalOutput(pin=OUT, pin_factory="mock", active_low=active_low)
        self.made.append(driver)
        return driver

    def apply(self, high: bool) -> None:
        pin = self.pins.pin(IN)
        (pin.drive_high if high else pin.drive_low)()

    def watchers(self) -> int:
        edges = self.pin._pin._edges
        return edges.watchers if edges else 0

    def level(self) -> bool:
        return bool(self.pins.pin(OUT).state)

    def is_free(self) -> bool:
        return not any(driver._pin._device for driver in self.made)


class TestOnMockPins(DigitalContract):
    """What is asked of drivers of digital pins, with gpiozero's mock pins."""

    @pytest.fixture
    def bench(self):
        """Its world."""
        return MockBench()
