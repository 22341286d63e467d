import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jsnats.agent.testing import conformance_tests

from .driver import SDWire
from .testing import Bench


@contextmanager
def _card() -> Iterator[SDWire]:
    with tempfile.TemporaryDirectory() as folder, Bench(Path(folder)).attached():
        yield SDWire(storage_leeway=0)


test_sdwire = conformance_tests(_card)
