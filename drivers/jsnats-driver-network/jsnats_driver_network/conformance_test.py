from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from jsnats.agent.testing import conformance_tests
from jsnats_driver_network.driver import (
    DbusNetwork,
    EchoNetwork,
    TcpNetwork,
    UdpNetwork,
    UnixNetwork,
    VsockNetwork,
    WebsocketNetwork,
)
from jsnats_driver_network.testing import hanging, tcp_service, udp_echo, unix_service


@contextmanager
def tcp() -> Iterator[TcpNetwork]:
    """With a service behind it."""
    with tcp_service() as port:
        yield TcpNetwork(host="127.0.0.1", port=port)


@contextmanager
def udp() -> Iterator[UdpNetwork]:
    """With a service behind it."""
    with udp_echo() as port:
        yield UdpNetwork(host="127.0.0.1", port=port)


@contextmanager
def unix() -> Iterator[UnixNetwork]:
    """With a service behind it."""
    with TemporaryDirectory() as folder, unix_service(str(Path(folder) / "socket")) as path:
        yield UnixNetwork(path=path)


@contextmanager
def websocket() -> Iterator[WebsocketNetwork]:
    """With a server that never finishes the handshake: a caller gives up while it connects."""
    with hanging() as port:
        yield WebsocketNetwork(url=f"ws://127.0.0.1:{port}/")


test_tcp = conformance_tests(tcp)
test_udp = conformance_tests(udp)
test_unix = conformance_tests(unix)
test_websocket = conformance_tests(websocket)
test_echo = conformance_tests(EchoNetwork)
test_dbus = conformance_tests(lambda: DbusNetwork(kind="system"))  # where there is no bus, it says so
test_vsock = conformance_tests(lambda: VsockNetwork(cid=3, port=22))
