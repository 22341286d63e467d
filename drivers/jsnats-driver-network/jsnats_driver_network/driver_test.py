import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import ByteReceiveStream, SocketAttribute
from pydantic import ValidationError

import jsnats_driver_network
from jsnats.agent import load
from jsnats.driver import methods_of
from jsnats_driver_network import sockets
from jsnats_driver_network.driver import (
    DbusNetwork,
    EchoNetwork,
    TcpNetwork,
    UdpNetwork,
    UnixNetwork,
    VsockNetwork,
    WebsocketNetwork,
)
from jsnats_driver_network.testing import (
    echo_at_end,
    hanging,
    refusing_port,
    tcp_service,
    udp_echo,
    unix_service,
    websocket_service,
)


async def read_all(stream: ByteReceiveStream) -> bytes:
    """Everything until the other side has said that it was all."""
    return b"".join([chunk async for chunk in stream])


def taken_host(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let `board.test` resolve to `addresses` without asking anybody."""
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host in ("board.test", b"board.test"):
            return [found for address in addresses for found in real(address, port, *args, **kwargs)]
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


async def test_tcp_half_close():
    """What was sent is answered after our end has said that it was all."""
    with tcp_service(echo_at_end) as port:
        async with TcpNetwork(host="127.0.0.1", port=port).connect() as stream:
            await stream.send(b"all of it")
            await stream.send_eof()
            assert await read_all(stream) == b"all of it"


async def test_every_connect_is_a_connection_of_its_own():
    """Two clients of one driver do not hear each other."""
    with tcp_service() as port:
        driver = TcpNetwork(host="127.0.0.1", port=port)
        async with driver.connect() as one, driver.connect() as two:
            await one.send(b"one")
            await two.send(b"two")
            assert (await one.receive(), await two.receive()) == (b"one", b"two")


async def test_tcp_connections_are_prompt_and_watched():
    """Small writes leave at once, and a board that has lost its power is noticed."""
    with tcp_service() as port:
        async with TcpNetwork(host="127.0.0.1", port=port).connect() as stream:
            raw = stream.extra(SocketAttribute.raw_socket)
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_a_refused_connection_names_the_place():
    """One line, with the system's reason and without asyncio's."""
    with refusing_port() as port, pytest.raises(ConnectionError) as caught:
        async with TcpNetwork(host="127.0.0.1", port=port).connect():
            pass
    assert str(caught.value) == f"cannot connect to 127.0.0.1:{port}: connection refused"


async def test_an_ipv6_place_is_written_with_brackets():
    """`[::1]:port`, so that the port can be told from the address."""
    with tcp_service(host="::1") as port:
        async with TcpNetwork(host="::1", port=port).connect() as stream:
            await stream.send(b"six")
            assert await stream.receive() == b"six"
    with pytest.raises(ConnectionError, match=rf"cannot connect to \[::1\]:{port}: "):
        async with TcpNetwork(host="::1", port=port).connect():
            pass


async def test_an_unknown_name_is_a_connection_error(monkeypatch):
    """The resolver's reason, behind the name that the configuration has."""

    def resolve(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(ConnectionError, match="cannot connect to board.test:22: name or service not known"):
        async with TcpNetwork(host="board.test", port=22).connect():
            pass


async def test_the_address_that_answers_is_taken(monkeypatch):
    """A name whose first address refuses is reached at its second."""
    taken_host(monkeypatch, "::1", "127.0.0.1")
    with tcp_service() as port:
        async with TcpNetwork(host="board.test", port=port).connect() as stream:
            assert stream.extra(SocketAttribute.remote_address) == ("127.0.0.1", port)


async def test_a_silent_address_is_passed_over(monkeypatch):
    """While the first address of a name says nothing, the second is tried."""
    taken_host(monkeypatch, "127.0.0.2", "127.0.0.1")
    with tcp_service() as port, hanging("127.0.0.2", port):
        async with TcpNetwork(host="board.test", port=port, connect_timeout=30).connect() as stream:
            assert stream.extra(SocketAttribute.remote_address) == ("127.0.0.1", port)


async def test_a_connection_that_hangs_times_out():
    """After `connect_timeout`, with the place and the time."""
    with hanging("127.0.0.1") as port, pytest.raises(TimeoutError) as caught:
        async with TcpNetwork(host="127.0.0.1", port=port, connect_timeout=0.2).connect():
            pass
    assert str(caught.value) == f"127.0.0.1:{port} did not answer within 0.2 s"


async def test_datagrams_keep_their_boundaries():
    """What was sent in two pieces comes back in two, an empty one included."""
    with udp_echo() as port:
        async with UdpNetwork(host="127.0.0.1", port=port).connect() as stream:
            for datagram in (b"one", b"", b"x" * 8000):
                await stream.send(datagram)
                assert await stream.receive() == datagram


async def test_a_udp_service_may_come_later():
    """Nobody there is no error: the datagrams are lost, and the next ones arrive."""
    with refusing_port() as port:
        async with UdpNetwork(host="127.0.0.1", port=port).connect() as stream:
            for _ in range(3):  # each gets "connection refused" from the kernel
                await stream.send(b"lost")
                await anyio.lowlevel.checkpoint()


async def test_a_socket_of_the_host(tmp_path):
    """A unix socket is a byte stream with half-close."""
    with unix_service(str(tmp_path / "monitor"), echo_at_end) as path:
        async with UnixNetwork(path=path).connect() as stream:
            await stream.send(b"all of it")
            await stream.send_eof()
            assert await read_all(stream) == b"all of it"


async def test_a_missing_socket_is_named(tmp_path):
    """By its path."""
    with pytest.raises(ConnectionError, match=f"cannot connect to {tmp_path}/none: no such file or directory"):
        async with UnixNetwork(path=str(tmp_path / "none")).connect():
            pass


async def test_websocket_messages():
    """Each message is one, binary and text alike; headers and subprotocol reach the service."""

    def talk(connection):
        connection.send(connection.request.headers["Authorization"])
        connection.send(connection.subprotocol)
        for message in connection:
            connection.send(type(message).__name__)
            connection.send(message)

    with websocket_service(talk, subprotocols=["binary"], max_size=None) as port:
        driver = WebsocketNetwork(
            url=f"ws://127.0.0.1:{port}/x", headers={"Authorization": "Bearer 1"}, subprotocols=["other", "binary"]
        )
        async with driver.connect() as stream:
            assert [await stream.receive(), await stream.receive()] == [b"Bearer 1", b"binary"]
            for message in (b"\xff\x00", b"", b"x" * 3_000_000):
                await stream.send(message)
                assert [await stream.receive(), await stream.receive()] == [b"bytes", message]


async def test_websocket_text():
    """With `text` what is sent are text messages."""

    def talk(connection):
        connection.send(type(connection.recv()).__name__)

    with websocket_service(talk) as port:
        async with WebsocketNetwork(url=f"ws://127.0.0.1:{port}", text=True).connect() as stream:
            await stream.send(b"{}")
            assert await stream.receive() == b"str"


async def test_the_end_of_a_websocket():
    """A farewell is the end of the stream, anything else breaks it with the service's reason."""

    def talk(connection):
        if connection.recv() == b"end":
            connection.close()
        else:
            connection.close(4000, "no power")

    with websocket_service(talk) as port:
        driver = WebsocketNetwork(url=f"ws://127.0.0.1:{port}")
        async with driver.connect() as stream:
            await stream.send(b"end")
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
        async with driver.connect() as stream:
            await stream.send(b"break")
            with pytest.raises(anyio.BrokenResourceError, match="no power"):
                await stream.receive()
            with pytest.raises(anyio.BrokenResourceError, match="no power"):
                await stream.send(b"more")


async def test_a_websocket_that_is_none():
    """The place without what may be secret in it, and what answers there."""

    def refuse(connection, _request):
        return connection.respond(403, "no")

    with websocket_service(print, process_request=refuse) as port, pytest.raises(ConnectionError) as caught:
        async with WebsocketNetwork(url=f"ws://bob:secret@127.0.0.1:{port}/x?token=secret").connect():
            pass
    assert str(caught.value) == f"cannot connect to ws://127.0.0.1:{port}/x: it answers HTTP 403"
    with tcp_service() as port, pytest.raises(ConnectionError, match=": no websocket there: "):
        async with WebsocketNetwork(url=f"ws://127.0.0.1:{port}").connect():
            pass
    with refusing_port() as port, pytest.raises(ConnectionError, match=f"ws://127.0.0.1:{port}: connection refused"):
        async with WebsocketNetwork(url=f"ws://127.0.0.1:{port}").connect():
            pass


def test_websockets_missing_on_the_exporter(monkeypatch):
    """The configuration is refused with what to install."""
    monkeypatch.setattr("jsnats_driver_network.driver.find_spec", lambda _name: None)
    with pytest.raises(ValidationError, match="pip install 'jsnats-driver-network\\[agent\\]'"):
        WebsocketNetwork(url="ws://127.0.0.1")


async def test_echo():
    """Each message comes back, and the end after the last."""
    async with EchoNetwork().connect() as stream:
        await stream.send(b"one")
        await stream.send(b"")
        await stream.send_eof()
        assert [message async for message in stream] == [b"one", b""]


async def test_vsock_is_a_byte_stream(monkeypatch):
    """A service in a virtual machine, here a socket of another kind in its place: few hosts loop vsock back."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    async def connect(_loop, _raw, _address):
        pass

    monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.sock_connect", connect)
    monkeypatch.setattr(socket, "socket", lambda _family, _kind: ours)
    with theirs:
        async with VsockNetwork(cid=3, port=22).connect() as stream:
            await stream.send(b"hello")
            assert theirs.recv(100) == b"hello"
            await stream.send_eof()
            assert theirs.recv(100) == b""
            theirs.sendall(b"bye")
            theirs.shutdown(socket.SHUT_WR)
            assert await read_all(stream) == b"bye"
        assert ours.fileno() == -1


async def test_vsock_that_breaks():
    """A reset is a broken stream in the system's words."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        raw = socket.create_connection(server.getsockname())
        raw.setblocking(False)
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    async with sockets.RawStream(raw) as stream:
        with pytest.raises(anyio.BrokenResourceError, match="connection reset by peer"):
            await stream.receive()
        with pytest.raises(anyio.BrokenResourceError, match="broken pipe"):
            await stream.send(b"x")


async def test_vsock_that_nobody_listens_at():
    """One line that names machine and port, whether the kernel has vsock or not."""
    with pytest.raises(OSError, match=r"vsock 4242:1( did not answer within 0.3 s|: )"):
        async with VsockNetwork(cid=4242, port=1, connect_timeout=0.3).connect():
            pass


def test_vsock_on_a_system_without(monkeypatch):
    """The configuration is refused, not the first call."""
    monkeypatch.setattr("jsnats_driver_network.driver.AF_VSOCK", None)
    with pytest.raises(ValidationError, match="this system has no vsock"):
        VsockNetwork(cid=3, port=22)


@pytest.mark.parametrize(
    ("driver", "wrong"),
    [
        (TcpNetwork, {"host": "a"}),
        (TcpNetwork, {"host": "", "port": 1}),
        (TcpNetwork, {"host": "a", "port": 0}),
        (TcpNetwork, {"host": "a", "port": 65536}),
        (TcpNetwork, {"host": "a", "port": 1, "connect_timeout": 0}),
        (TcpNetwork, {"host": "a", "port": 1, "enable_address": True}),
        (UdpNetwork, {"host": "a", "port": 1, "enable_address": False}),
        (UnixNetwork, {"path": ""}),
        (WebsocketNetwork, {"url": "http://a"}),
        (WebsocketNetwork, {"url": "ws://a", "enable_address": True}),
        (EchoNetwork, {"host": "a"}),
        (VsockNetwork, {"cid": -1, "port": 1}),
        (DbusNetwork, {"kind": "user"}),
    ],
)
def test_a_wrong_configuration_is_refused(driver, wrong):
    """Missing, empty and impossible values, and the key that would hand out addresses."""
    with pytest.raises(ValidationError):
        driver(**wrong)


def test_nobody_hands_out_an_address():
    """No driver has Jumpstarter's address()."""
    drivers = (TcpNetwork, UdpNetwork, UnixNetwork, WebsocketNetwork, EchoNetwork, VsockNetwork, DbusNetwork)
    assert {name for driver in drivers for name in methods_of(driver)} == {"connect", "get_kind"}


def test_headers_of_a_websocket_are_not_shown():
    """They may hold a token."""
    assert "secret" not in repr(WebsocketNetwork(url="ws://a", headers={"Authorization": "secret"}))


def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml gives the drivers that it names."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    kinds = {name: type(child) for name, child in exporter.root.children.items()}
    assert kinds == {
        "ssh": TcpNetwork,
        "syslog": UdpNetwork,
        "monitor": UnixNetwork,
        "screen": WebsocketNetwork,
        "agent": VsockNetwork,
        "bus": DbusNetwork,
        "echo": EchoNetwork,
    }


def test_the_package_offers_the_drivers_lazily():
    """`from jsnats_driver_network import TcpNetwork` works, and a name that is not there is an AttributeError."""
    assert jsnats_driver_network.TcpNetwork is TcpNetwork
    with pytest.raises(AttributeError, match="has no attribute 'SctpNetwork'"):
        _ = jsnats_driver_network.SctpNetwork


def test_a_client_does_not_load_the_exporter_side_or_the_adapters_libraries():
    """Importing the client leaves the driver, `jsnats.driver`, websockets, pexpect and fabric unloaded."""
    unwanted = "{'jsnats.driver', 'jsnats_driver_network.driver', 'websockets', 'pexpect', 'fabric'}"
    code = f"import sys, jsnats_driver_network.client; print(sorted({unwanted} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n"
