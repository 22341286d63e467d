import os
from pathlib import Path

import gpiod
import pytest

from jsnats_driver_gpiod.contract import DigitalContract, pool, until
from jsnats_driver_gpiod.driver import DigitalInput, DigitalOutput
from jsnats_driver_gpiod.testing import FakeChip, gpio_chips, watchers

__all__ = ["pool"]

CHIP = os.environ.get("JSNATS_GPIO_SIM", "")
"""A chip of the kernel's gpio-sim, as /dev/gpiochip0."""
IN, OUT = 2, 3


class _Bench:
    """Lines of the chip at `path`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.pin = DigitalInput(line=IN, device=path)

    def input(self, active_low: bool = False) -> DigitalInput:
        self.pin = DigitalInput(line=IN, device=self.path, active_low=active_low)
        return self.pin

    def output(self, active_low: bool = False) -> DigitalOutput:
        return DigitalOutput(line=OUT, device=self.path, active_low=active_low)

    def watchers(self) -> int:
        return watchers(self.pin)


class FakeBench(_Bench):
    """A chip that is not there."""

    def __init__(self, chip: FakeChip) -> None:
        super().__init__(chip.path)
        self.chip = chip

    def apply(self, high: bool) -> None:
        self.chip.apply(IN, high)

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
            yield FakeBench(chip)


class SimBench(_Bench):
    """A chip of gpio-sim: its sysfs is the world."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.world = (Path("/sys/bus/gpio/devices") / Path(path).name).resolve()

    def apply(self, high: bool) -> None:
        wire = self.world / f"sim_gpio{IN}"
        changes = wire.joinpath("value").read_text().strip() != str(int(high))
        edges = self.pin._line._edges
        before = edges._number if edges else 0
        wire.joinpath("pull").write_text("pull-up" if high else "pull-down")
        if edges and changes and edges.watchers:  # the kernel makes one of edges that come too fast for its thread
            until(lambda: edges._number > before)

    def level(self) -> bool:
        return (self.world / f"sim_gpio{OUT}" / "value").read_text().strip() == "1"

    def is_free(self) -> bool:
        with gpiod.Chip(self.path) as chip:
            return not any(chip.get_line_info(line).used for line in (IN, OUT))


@pytest.mark.skipif(not CHIP, reason="JSNATS_GPIO_SIM does not name a chip of gpio-sim, as /dev/gpiochip0")
class TestOnARealChip(DigitalContract):
    """The same, on a chip of the kernel."""

    @pytest.fixture
    def bench(self):
        """Its world."""
        return SimBench(CHIP)
