import os

import pytest

from jsnats.testing import until
from jsnats_driver_gpiod.contract import DigitalContract, pool
from jsnats_driver_gpiod.driver import DigitalInput, DigitalOutput
from jsnats_driver_gpiod.edges import Edges
from jsnats_driver_gpiod.testing import FakeChip, SimChip, gpio_chips

__all__ = ["pool"]

SIM = os.environ.get("JSNATS_GPIO_SIM", "")
"""A chip of the kernel's gpio-sim, as /dev/gpiochip0."""
IN, OUT = 2, 3


class Bench:
    """Two lines of a chip."""

    def __init__(self, chip: FakeChip | SimChip) -> None:
        self.chip = chip
        self.pin = DigitalInput(line=IN, device=chip.path)

    def input(self, active_low: bool = False) -> DigitalInput:
        self.pin = DigitalInput(line=IN, device=self.chip.path, active_low=active_low)
        return self.pin

    def output(self, active_low: bool = False) -> DigitalOutput:
        return DigitalOutput(line=OUT, device=self.chip.path, active_low=active_low)

    def apply(self, high: bool) -> None:
        edges = self.pin._line._edges or Edges()
        before, changes = edges.number, self.chip.level(IN) is not high
        self.chip.apply(IN, high)
        if changes and edges.watchers:  # the kernel makes one of edges that come too fast for its thread
            until(lambda: edges.number > before)

    def watchers(self) -> int:
        return (self.pin._line._edges or Edges()).watchers

    def level(self) -> bool:
        return self.chip.level(OUT)

    def is_free(self) -> bool:
        return not self.chip.held(IN) and not self.chip.held(OUT)


class TestOnAFakeChip(DigitalContract):
    """What is asked of drivers of digital pins, on a chip that is not there."""

    @pytest.fixture
    def bench(self):
        """Its world."""
        with gpio_chips(FakeChip()) as (chip,):
            yield Bench(chip)


@pytest.mark.skipif(not SIM, reason="JSNATS_GPIO_SIM does not name a chip of gpio-sim, as /dev/gpiochip0")
class TestOnARealChip(DigitalContract):
    """The same, on a chip of the kernel."""

    @pytest.fixture
    def bench(self):
        """Its world."""
        return Bench(SimChip(SIM))
