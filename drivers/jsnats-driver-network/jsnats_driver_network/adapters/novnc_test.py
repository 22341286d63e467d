from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from jsnats.common.utils import serve
from jsnats_driver_network.adapters import NovncAdapter
from jsnats_driver_network.driver import TcpNetwork
from jsnats_driver_network.testing import Talk, echo, refusing_port, reset, tcp_service


@contextmanager
def served(port: int) -> Iterator[Any]:
    """The client of a driver that leads to a port of this machine."""
    with serve(TcpNetwork(host="127.0.0.1", port=port)) as client:
        yield client


@contextmanager
def bridged(talk: Talk = echo) -> Iterator[str]:
    """The URL of a bridge to a service on this machine."""
    with tcp_service(talk) as port, served(port) as client, NovncAdapter(client=client) as url:
        yield url


def test_a_viewer_has_the_bytes_of_the_service() -> None:
    """Binary messages both ways; each viewer is a connection of its own."""
    with bridged() as url, connect(url, proxy=None) as one, connect(url, proxy=None) as two:
        assert one.subprotocol is None
        for viewer, data in ((one, b"RFB 003.008\n"), (two, b"x" * 200_000)):
            viewer.send(data)
            answer = b""
            while len(answer) < len(data):
                answer += viewer.recv(timeout=10, decode=False)
            assert answer == data


def test_older_viewers_ask_for_binary() -> None:
    """And get it."""
    offered = [Subprotocol("base64"), Subprotocol("binary")]
    with bridged() as url, connect(url, proxy=None, subprotocols=offered) as viewer:
        assert viewer.subprotocol == "binary"


def test_nobody_gets_in_without_the_token() -> None:
    """Another path is refused, and the token is another one each time."""
    with bridged() as url, bridged() as other:
        where, token, second = urlsplit(url), urlsplit(url).path, urlsplit(other).path
        assert where.hostname == "127.0.0.1"
        assert len(token) > 40
        assert token != second
        for path in ("/", "/websockify", second, token + "x", "/%C3%A4"):
            with pytest.raises(InvalidStatus) as caught, connect(f"ws://{where.netloc}{path}", proxy=None):
                pass
            assert caught.value.response.status_code == 403


def test_the_end_of_the_service_is_the_end_of_the_viewer() -> None:
    """After everything that it has said."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"bye")

    with bridged(talk) as url, connect(url, proxy=None) as viewer:
        assert list(viewer) == [b"bye"]


def test_the_end_of_a_viewer_is_the_end_of_its_connection() -> None:
    """The service sees it."""
    seen: list[bytes] = []
    done = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"hello")
        seen.append(connection.recv(100))
        done.set()

    with bridged(talk) as url:
        with connect(url, proxy=None) as viewer:
            assert viewer.recv(timeout=10) == b"hello"
        assert done.wait(10)
    assert seen == [b""]


@pytest.mark.parametrize("dead", [True, False])
def test_what_went_wrong_is_told_to_the_viewer(dead: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A service that is not there, or that breaks: close code 1011 with the reason, and one line of log."""
    service = refusing_port() if dead else tcp_service(reset)
    with (
        service as port,
        served(port) as client,
        NovncAdapter(client=client) as url,
        connect(url, proxy=None) as viewer,
    ):
        if not dead:  # it waits for a byte
            viewer.send(b"x")
        with pytest.raises(ConnectionClosed) as caught:
            viewer.recv(timeout=10)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1011
    assert ("connection refused" if dead else "far end") in caught.value.rcvd.reason
    (record,) = [each for each in caplog.records if each.name == "jsnats.forward"]
    assert record.exc_info is None


def test_the_end_of_the_block_closes_the_viewers() -> None:
    """With a farewell, and nobody listens any more."""
    with ExitStack() as stack:
        url = stack.enter_context(bridged())
        with connect(url, proxy=None) as viewer:
            stack.close()
            with pytest.raises(ConnectionClosed):
                viewer.recv(timeout=10)
        with pytest.raises(ConnectionRefusedError), connect(url, proxy=None):
            pass
