from collections.abc import Iterator
from contextlib import contextmanager

from jsnats.agent.testing import conformance_tests

from .driver import Ykush
from .testing import FakeYkush, HidBus


@contextmanager
def _port() -> Iterator[Ykush]:
    with HidBus(FakeYkush()).attached():
        yield Ykush(port="2")


test_ykush = conformance_tests(_port)
