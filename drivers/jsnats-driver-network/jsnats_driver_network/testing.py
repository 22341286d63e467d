"""For tests: services on this machine, each on a free port, in threads of their own."""

from __future__ import annotations

import os
import shutil
import socket
import socketserver
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") if shutil.which("ssh-keygen") else None
"""An absolute path, on which it insists; None if it is not installed."""

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
    kind: type[_Tcp] = type("Server", (_Tcp,), {"address_family": socket.AF_INET6}) if ":" in host else _Tcp
    with running(kind((host, 0), _handler(talk))) as server:
        yield server.server_address[1]


@contextmanager
def unix_service(path: str, talk: Talk = echo) -> Iterator[str]:
    """Let `talk` handle each connection to the socket `path`, and yield the path."""
    with running(_Unix(path, _handler(talk))):
        yield path


@contextmanager
def udp_echo(port: int = 0) -> Iterator[int]:
    """Send every datagram back, and yield the port."""

    class Handler(socketserver.DatagramRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.packet)

    with running(socketserver.UDPServer(("127.0.0.1", port), Handler)) as server:
        yield server.server_address[1]


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


@dataclass(frozen=True)
class SshBoard:
    """An ssh server of its own, as a board has it: its port, the key that opens it, and the file with its host key."""

    port: int
    key: Path
    host_key: Path


@contextmanager
def sshd(folder: Path, kind: str = "ed25519") -> Iterator[SshBoard]:
    """Run sshd for this user, with new keys in the folder, those of the user of this kind."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for name, each in (("host", "ed25519"), ("user", kind)):
        subprocess.run(["ssh-keygen", "-q", *_kind(each), "-N", "", "-C", "", "-f", folder / name], check=True)
    options = {
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "yes",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in options.items()))

    def talk(connection: socket.socket) -> None:
        # In inetd mode it serves one connection on its stdin: no port to guess, no start to wait for.
        with (folder / "log").open("ab") as log:
            command = [str(SSHD), "-i", "-e", "-f", str(folder / "config")]
            subprocess.run(command, stdin=connection.fileno(), stdout=connection.fileno(), stderr=log, check=False)

    with tcp_service(talk) as port:
        yield SshBoard(port, folder / "user", folder / "host.pub")


def _kind(kind: str) -> list[str]:
    name, _, bits = kind.partition("-")
    return ["-t", name, *(["-b", bits] if bits else [])]


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
def running(server: Any) -> Iterator[Any]:
    """Let a server of `socketserver` serve in a thread, for as long as the block."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
