from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jsnats.agent.testing import conformance_tests
from jsnats_driver_network.driver import TcpNetwork
from jsnats_driver_network.testing import tcp_service

from .driver import SSHWrapper
from .testing import new_key


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOARD_KEY", new_key())


@contextmanager
def _wrapper() -> Iterator[SSHWrapper]:
    with tcp_service() as port:
        yield SSHWrapper(ssh_identity=new_key(), children={"tcp": TcpNetwork(host="127.0.0.1", port=port)})


test_ssh = conformance_tests(_wrapper)
