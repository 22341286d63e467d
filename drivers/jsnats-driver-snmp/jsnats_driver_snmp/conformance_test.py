import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jsnats.agent.testing import conformance_tests

from .driver import SNMPServer
from .testing import COLUMN, GOOD, SNMPD, free_port, snmpd

pytestmark = pytest.mark.skipif(not SNMPD, reason="snmpd is not installed")


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PDU_AUTH_KEY", "PDU_PRIV_KEY", "PDU_COMMUNITY"):
        monkeypatch.setenv(name, "the key of the example")


@contextmanager
def _outlet() -> Iterator[SNMPServer]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, snmpd(Path(folder), port):
        yield SNMPServer(
            host="127.0.0.1",
            port=port,
            oid=COLUMN,
            plug=GOOD,
            user="sha256",
            auth_protocol="SHA256",
            auth_key="authauth",
            priv_protocol="AES",
            priv_key="privpriv",
        )


test_snmp = conformance_tests(_outlet)
