"""For tests: services on this machine, each on a free port, in threads of their own."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

Talk = Callable[[socket.socket], object]


def echo(connection: socket.socket) -> None:
    """Send everything back, then say that this was all."""
    while data := connection.recv(65536):
        connection.sendall(data)


def echo_at_end(connection: socket.socket) -> None:
    """Send everything back, but only once the other side has said that it was all: needs half-close."""
    said = b"".join(iter(lambda: connection.recv(65536), b""))
    connection.sendall(said)


def reset(connection: socket.socket) -> None:
    """Wait for a byte, then reset the connection."""
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 256


class _Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def tcp_service(talk: Talk = echo, host: str = "127.0.0.1") -> Iterator[int]:
    """Let `talk` handle each connection, and yield the port."""
    server: type[_Tcp] = type("Server", (_Tcp,), {"address_family": socket.AF_INET6}) if ":" in host else _Tcp
    with _running(server((host, 0), _handler(talk))) as running:
        yield running.server_address[1]


@contextmanager
def unix_service(path: str, talk: Talk = echo) -> Iterator[str]:
    """Let `talk` handle each connection to the socket `path`, and yield the path."""
    with _running(_Unix(path, _handler(talk))):
        yield path


@contextmanager
def udp_echo(port: int = 0) -> Iterator[int]:
    """Send every datagram back, and yield the port."""

    class Handler(socketserver.DatagramRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.packet)

    with _running(socketserver.UDPServer(("127.0.0.1", port), Handler)) as running:
        yield running.server_address[1]


@contextmanager
def websocket_service(talk: Callable[[Any], Any], **options: Any) -> Iterator[int]:
    """Let `talk` handle each connection of `websockets.sync.server`, and yield the port."""
    from websockets.sync.server import serve

    with serve(talk, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def refusing_port() -> Iterator[int]:
    """Yield a port that refuses every connection, and that nobody else gets meanwhile."""
    with closing(socket.socket()) as unheard:
        unheard.bind(("127.0.0.1", 0))
        yield unheard.getsockname()[1]


@contextmanager
def hanging(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Yield the port of a service that accepts nobody and whose backlog is full: connections hang."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind((host, port))
        full.listen(0)
        for _ in range(3):
            each = stack.enter_context(socket.socket())
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        yield full.getsockname()[1]


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side has said that it was all."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def _handler(talk: Talk) -> type[socketserver.BaseRequestHandler]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # the other side has gone
                talk(self.request)

    return Handler


@contextmanager
def _running(server: Any) -> Iterator[Any]:
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
