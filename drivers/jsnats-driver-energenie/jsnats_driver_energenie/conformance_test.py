from collections.abc import Iterator
from contextlib import contextmanager

from jsnats.agent.testing import conformance_tests

from .driver import EnerGenie
from .testing import fake_strip


@contextmanager
def _socket() -> Iterator[EnerGenie]:
    with fake_strip() as strip:
        yield EnerGenie(host="127.0.0.1", port=strip.port)


test_energenie = conformance_tests(_socket)
