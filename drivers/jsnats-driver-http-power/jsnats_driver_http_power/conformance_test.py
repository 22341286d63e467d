from collections.abc import Iterator
from contextlib import contextmanager

from jsnats.agent.testing import conformance_tests

from .driver import HttpPower
from .testing import plugged


@contextmanager
def _switch() -> Iterator[HttpPower]:
    with plugged() as plug:
        yield HttpPower(kind="shelly-gen2", url=plug.url)


test_http_power = conformance_tests(_switch)
