import pytest

from jsnats.agent.testing import conformance_tests
from jsnats_driver_pyserial.driver import PySerial

pytestmark = pytest.mark.filterwarnings(r"ignore:set\w+\(\) is deprecated:DeprecationWarning")  # in pyserial 3.5

test_pyserial = conformance_tests(lambda: PySerial(url="loop://"))
