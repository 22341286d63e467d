from jsnats.agent.testing import conformance_tests

from .driver import DigitalInput, DigitalOutput, PowerSwitch

test_digital_input = conformance_tests(lambda: DigitalInput(pin=5, pin_factory="mock"))
test_digital_output = conformance_tests(lambda: DigitalOutput(pin=6, pin_factory="mock"))
test_power_switch = conformance_tests(lambda: PowerSwitch(pin=13, pin_factory="mock"))
