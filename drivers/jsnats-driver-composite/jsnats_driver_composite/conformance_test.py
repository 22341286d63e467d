from jsnats.agent.testing import conformance_tests
from jsnats_driver_composite.driver import Composite

test_composite = conformance_tests(Composite)
