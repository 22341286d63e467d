from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from jsnats.agent.testing import conformance_tests
from jsnats.driver import Driver

from .driver import DigitalInput, DigitalOutput, PowerSwitch
from .testing import FakeChip, gpio_chips


def _on_a_chip(
    driver: type[DigitalInput | DigitalOutput | PowerSwitch],
) -> Callable[[], AbstractContextManager[Driver]]:
    @contextmanager
    def make() -> Iterator[Driver]:
        with gpio_chips(FakeChip()):
            yield driver(line=1)

    return make


test_digital_input = conformance_tests(_on_a_chip(DigitalInput))
test_digital_output = conformance_tests(_on_a_chip(DigitalOutput))
test_power_switch = conformance_tests(_on_a_chip(PowerSwitch))
