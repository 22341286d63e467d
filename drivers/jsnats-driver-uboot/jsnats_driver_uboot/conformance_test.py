import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jsnats.agent.testing import conformance_tests
from jsnats_driver_network.driver import UnixNetwork

from .driver import UbootConsole
from .testing import QemuPower, missing

pytestmark = pytest.mark.skipif(bool(missing("x86")), reason=missing("x86"))


@contextmanager
def _board() -> Iterator[UbootConsole]:
    with tempfile.TemporaryDirectory() as folder:
        power = QemuPower(arch="x86", console=f"{folder}/console")
        yield UbootConsole(children={"power": power, "serial": UnixNetwork(path=power.console)}, off_time=0)


test_uboot = conformance_tests(_board)
