import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jsnats.agent.testing import conformance_tests

from .driver import TasmotaPower
from .testing import PASSWORD, USER, fake_plug, nats_server


@contextmanager
def _plug() -> Iterator[TasmotaPower]:
    with tempfile.TemporaryDirectory() as folder, nats_server(Path(folder)) as broker:
        port = broker.ports["tcp"]
        with fake_plug(port):
            yield TasmotaPower(host="127.0.0.1", port=port, topic="plug-3", username=USER, password=PASSWORD)


test_tasmota = conformance_tests(_plug)
