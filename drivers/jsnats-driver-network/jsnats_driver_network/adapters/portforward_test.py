from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from jsnats.agent.testing import AgentProcess
from jsnats.common.exceptions import ConfigurationError
from jsnats.common.utils import serve, session_broker
from jsnats.sdk import connect, connect_async
from jsnats_driver_network import adapters
from jsnats_driver_network.adapters import (
    TcpPortForwardAdapter,
    TcpPortforwardAdapter,
    UnixPortforwardAdapter,
    _connections,
)
from jsnats_driver_network.adapters._local import LocalEnd
from jsnats_driver_network.driver import EchoNetwork, TcpNetwork
from jsnats_driver_network.testing import echo, echo_at_end, read_all, refusing_port, reset, tcp_service


@contextmanager
def served(port: int) -> Iterator[Any]:
    """The client of a driver that leads to a port of this machine."""
    with serve(TcpNetwork(host="127.0.0.1", port=port)) as client:
        yield client


@contextmanager
def forwarded(talk: Callable[[socket.socket], object] = echo) -> Iterator[tuple[str, int]]:
    """The address of a forward to a service on this machine."""
    with tcp_service(talk) as port, served(port) as client, TcpPortforwardAdapter(client=client) as address:
        yield address


def exchange(address: tuple[str, int], data: bytes) -> bytes:
    """Send, say that this was all, and return the whole answer."""
    with socket.create_connection(address) as local:
        sender = threading.Thread(target=_send_all, args=(local, data))
        sender.start()
        answer = read_all(local)
        sender.join()
    return answer


def _send_all(local: socket.socket, data: bytes) -> None:
    local.sendall(data)
    local.shutdown(socket.SHUT_WR)


def test_bytes_pass_both_ways() -> None:
    """What is sent to the local port comes back from the service behind the exporter."""
    with forwarded() as address, socket.create_connection(address) as local:
        for message in (b"one", b"x" * 60_000):
            local.sendall(message)
            assert local.recv(len(message), socket.MSG_WAITALL) == message


def test_half_close_from_here() -> None:
    """The service is told that nothing follows, and its answer still arrives."""
    with forwarded(echo_at_end) as address:
        assert exchange(address, b"all of it") == b"all of it"


def test_half_close_from_there() -> None:
    """A service that has said everything still hears us."""
    heard: list[bytes] = []
    done = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        heard.append(read_all(connection))
        done.set()

    with forwarded(talk) as address, socket.create_connection(address) as local:
        assert read_all(local) == b"bye"
        local.sendall(b"still ")
        local.sendall(b"here")
        local.shutdown(socket.SHUT_WR)
        assert done.wait(10)
    assert heard == [b"still here"]


def test_who_says_something_and_goes_is_heard() -> None:
    """What was sent before the local side closed its socket reaches the service, which then answers to nobody."""
    heard: list[bytes] = []
    done = threading.Event()

    def talk(connection: socket.socket) -> None:
        heard.append(read_all(connection))
        connection.sendall(b"x" * 100_000)
        done.set()

    data = os.urandom(3_000_000)
    with forwarded(talk) as address:
        with socket.create_connection(address) as local:
            local.sendall(data)
        assert done.wait(20)
    assert heard == [data]


def test_many_connections_at_once() -> None:
    """64 at the same time, each with bytes of its own that come back whole."""
    together = threading.Barrier(64)

    def one(number: int) -> bool:
        data = bytes([number]) * (50_000 + number)
        with socket.create_connection(address) as local:
            together.wait(30)
            _send_all(local, data)
            return read_all(local) == data

    with forwarded() as address, ThreadPoolExecutor(64) as pool:
        assert all(pool.map(one, range(64)))


def test_one_that_does_not_read_holds_up_no_other() -> None:
    """A connection whose window is full of unread bytes leaves the others alone, and loses nothing itself."""
    size = 12 << 20

    def talk(connection: socket.socket) -> None:
        if connection.recv(1) == b"f":
            connection.sendall(b"y" * size)
        else:
            connection.sendall(b"here")

    with forwarded(talk) as address, socket.create_connection(address) as lazy:
        lazy.sendall(b"f")
        for _ in range(20):
            assert exchange(address, b"q") == b"here"
        assert read_all(lazy) == b"y" * size


def test_bytes_survive_the_death_of_the_broker() -> None:
    """16 MiB go there and come back across a SIGKILL of the server, every byte once and in order."""
    data = os.urandom(16 << 20)
    begun = threading.Event()

    def talk(connection: socket.socket) -> None:
        total = 0
        while chunk := connection.recv(65536):
            total += len(chunk)
            if total > 4 << 20:
                begun.set()
            connection.sendall(chunk)

    with forwarded(talk) as address, ThreadPoolExecutor() as pool:
        answer = pool.submit(exchange, address, data)
        assert begun.wait(30)
        session_broker().kill()
        assert hashlib.sha256(answer.result(50)).digest() == hashlib.sha256(data).digest()


def test_a_refused_connection_is_reset_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """The local side sees a reset, the log has one line with place and reason; the forward goes on."""
    with refusing_port() as port, served(port) as client, TcpPortforwardAdapter(client=client) as address:
        for _ in range(2):
            with socket.create_connection(address) as local, pytest.raises(ConnectionResetError):
                local.recv(1)
    lines = [each.getMessage() for each in caplog.records if each.name == "jsnats.forward"]
    expected = f"connect: cannot connect to 127.0.0.1:{port}: connection refused"
    assert lines == [f"{address[0]}:{address[1]}: closed a connection: {expected}"] * 2
    assert all(each.exc_info is None for each in caplog.records if each.name == "jsnats.forward")


def test_a_service_that_resets_is_a_reset_here(caplog: pytest.LogCaptureFixture) -> None:
    """Not an end, which would look as if everything had arrived."""

    with forwarded(reset) as address, socket.create_connection(address) as local:
        local.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            local.recv(1)
    assert "far end" in caplog.text


def test_the_death_of_the_exporter_is_a_reset(caplog: pytest.LogCaptureFixture) -> None:
    """A killed agent closes what it carried, and the log says so."""
    broker = session_broker()
    broker.add("exporter", "doomed")
    kind = "jsnats_driver_network.driver:EchoNetwork"
    with (
        AgentProcess("doomed", broker.context_path("doomed"), kind) as agent,
        connect(context=broker.context("tester")) as lab,
        TcpPortforwardAdapter(lab.exporter("doomed")) as address,
        socket.create_connection(address) as local,
    ):
        local.sendall(b"x")
        assert local.recv(1) == b"x"
        agent.kill()
        with pytest.raises(ConnectionResetError):
            local.recv(1)
    assert "doomed" in caplog.text


def test_the_end_of_the_block_closes_everything() -> None:
    """Open connections are reset, the port is free again, what was said before has arrived."""
    heard: list[bytes] = []
    done = threading.Event()

    def talk(connection: socket.socket) -> None:
        heard.append(read_all(connection))
        done.set()

    with forwarded(talk) as address:
        local = socket.create_connection(address)
        local.sendall(b"x" * 100_000)
        local.shutdown(socket.SHUT_WR)
        assert done.wait(10)
        second = socket.create_connection(address)
        second.sendall(b"said")
    with local, second, pytest.raises(ConnectionResetError):
        second.recv(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    assert heard[0] == b"x" * 100_000


def test_an_exception_closes_everything() -> None:
    """As Ctrl-C does: at once."""
    with tcp_service() as port, served(port) as client, ExitStack() as stack:
        address = stack.enter_context(TcpPortforwardAdapter(client=client))
        with socket.create_connection(address) as local:
            local.sendall(b"x")
            assert local.recv(1) == b"x"
            stack.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
            with pytest.raises(ConnectionResetError):
                local.recv(1)


def test_localhost_is_both_addresses_at_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv4, which is what is told, and IPv6 where the machine has it; the guide's default."""
    real = socket.getaddrinfo
    both = ("::1", "127.0.0.1")  # as most machines say
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **options: [
            found for each in (both if host == "localhost" else (host,)) for found in real(each, *rest, **options)
        ],
    )
    with (
        tcp_service() as port,
        served(port) as client,
        TcpPortforwardAdapter(client=client, local_host="localhost") as (host, bound),
    ):
        assert host == "127.0.0.1"
        for each in ("127.0.0.1", "::1"):
            assert exchange((each, bound), b"x") == b"x"


def test_ipv6_alone() -> None:
    """An address is taken as it is."""
    with serve(EchoNetwork()) as client, TcpPortforwardAdapter(client, "::1") as (host, bound):
        assert host == "::1"
        assert exchange((host, bound), b"x") == b"x"


def test_a_port_in_use_is_refused() -> None:
    """One line with what to do; nothing stays open."""
    with tcp_service() as taken, serve(EchoNetwork()) as client:
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{taken}: somebody else does"):
            TcpPortforwardAdapter(client=client, local_port=taken).__enter__()
        with pytest.raises(ConfigurationError, match="cannot listen on 192.0.2.1:0: cannot assign requested address"):
            TcpPortforwardAdapter(client=client, local_host="192.0.2.1").__enter__()


def test_another_method_than_connect(caplog: pytest.LogCaptureFixture) -> None:
    """`method` names the one that opens the stream; a driver without it says so in the log, by name."""
    with (
        serve(EchoNetwork()) as client,
        TcpPortforwardAdapter(client, method="console") as address,
        socket.create_connection(address) as local,
        pytest.raises(ConnectionResetError),
    ):
        local.recv(1)
    assert "console" in caplog.text


def test_both_spellings_are_one() -> None:
    """The guide has two; and what is not there is an AttributeError."""
    assert TcpPortForwardAdapter is TcpPortforwardAdapter
    with pytest.raises(AttributeError, match="has no attribute 'UdpPortforwardAdapter'"):
        _ = adapters.UdpPortforwardAdapter


async def test_async_forward() -> None:
    """`async with` over a lab of `connect_async`, and a sync `with` is refused there."""
    with tcp_service(echo_at_end) as port, served(port) as root:
        async with connect_async(context=session_broker().context("tester")) as lab:
            client = await lab.exporter(root.exporter)
            async with TcpPortforwardAdapter(client=client) as address:
                assert await asyncio.to_thread(exchange, address, b"tcp") == b"tcp"
            async with UnixPortforwardAdapter(client=client) as path:
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"unix")
                writer.write_eof()
                assert await reader.read() == b"unix"
                writer.close()
            with pytest.raises(RuntimeError, match="asyncio"):
                TcpPortforwardAdapter(client=client).__enter__()


def test_a_small_message_is_not_held_back() -> None:
    """Both ends of the local connection have TCP_NODELAY: an echo of one byte takes no 40 ms."""
    seen: list[Any] = []

    class Watching(LocalEnd):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_connections, "LocalEnd", Watching)
        with forwarded() as address:
            exchange(address, b"x")
    assert seen
    assert all(seen)


def test_what_breaks_by_mistake_is_logged_with_its_place(caplog: pytest.LogCaptureFixture) -> None:
    """An error that is none of ours ends that connection with a traceback in the log."""
    with serve(EchoNetwork()) as client:
        client.open_stream_async = lambda _method: 1 / 0
        with (
            TcpPortforwardAdapter(client=client) as address,
            socket.create_connection(address) as local,
            pytest.raises(ConnectionResetError),
        ):
            local.recv(1)
    (record,) = [each for each in caplog.records if each.name == "jsnats.forward"]
    assert record.levelno == logging.ERROR
    assert "ZeroDivisionError" in caplog.text


def test_who_ends_and_then_goes_lets_the_service_go() -> None:
    """A service that talks on after our end sees it at once when we close the rest, not after ten seconds."""
    gone = threading.Event()

    def talk(connection: socket.socket) -> None:
        read_all(connection)
        try:
            while True:
                connection.sendall(b"tick" * 1000)
        finally:
            gone.set()

    with forwarded(talk) as address:
        with socket.create_connection(address) as local:
            local.shutdown(socket.SHUT_WR)
            assert local.recv(4) == b"tick"
        assert gone.wait(5)
