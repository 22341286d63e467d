import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from jsnats.agent.testing import conformance_tests
from jsnats_driver_tftp.driver import Tftp


@contextmanager
def _server() -> Iterator[Tftp]:
    with tempfile.TemporaryDirectory() as folder:
        yield Tftp(root_dir=folder, host="127.0.0.1", port=0)


test_tftp = conformance_tests(_server)
