import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jsnats.agent.testing import conformance_tests

from .driver import ProbeRs
from .testing import Bench


@contextmanager
def _probe() -> Iterator[ProbeRs]:
    with tempfile.TemporaryDirectory() as folder:
        yield ProbeRs(probe_rs_path=str(Bench(Path(folder)).program))


test_probe_rs = conformance_tests(_probe, arguments={"read": {"width": 32, "address": 0x2000_0000, "words": 4}})
