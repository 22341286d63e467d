from jsnats.agent.testing import conformance_tests

from .driver import SimulatedBoard

test_simulated_board = conformance_tests(
    SimulatedBoard, skip={"serial.set_dtr": "a pty has none", "serial.set_rts": "a pty has none"}
)
