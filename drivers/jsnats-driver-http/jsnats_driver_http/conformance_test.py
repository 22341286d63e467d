import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from jsnats.agent.testing import conformance_tests
from jsnats_driver_http.driver import HttpServer


@contextmanager
def _server() -> Iterator[HttpServer]:
    with tempfile.TemporaryDirectory() as folder:
        yield HttpServer(root_dir=folder, host="127.0.0.1", port=0)


test_http = conformance_tests(_server)
