"""The TCP service behind the port forwards, and what is measured through them: one text for all systems.

    python peer.py serve ANY    # says `ready`, then answers `port` with its port

Only the standard library, because it also runs in the virtual environment of Jumpstarter. A connection begins with
a letter and a number of 8 bytes: `S` takes in that many bytes and answers `k`, `G` sends that many, `E` echoes.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import measure

HOST = "127.0.0.1"
BLOCK = 1 << 20
WARM_UP = 4 * BLOCK
VOLUME = 128 * BLOCK
ECHO = b"x" * 64
_NOISE = memoryview(os.urandom(BLOCK))
_HEAD = struct.Struct("!cQ")

Address = tuple[str, int]


def _send(connection: socket.socket, count: int) -> None:
    while count:
        part = min(count, BLOCK)
        connection.sendall(_NOISE[:part])
        count -= part


def _take(connection: socket.socket, count: int) -> None:
    block = bytearray(BLOCK)
    while count:
        got = connection.recv_into(block)
        if not got:
            raise ConnectionError(f"the connection ended {count} bytes too early")
        count -= got


def _echo(connection: socket.socket) -> None:
    while got := connection.recv(65536):
        connection.sendall(got)


def _talk(connection: socket.socket) -> None:
    with connection, suppress(ConnectionError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kind, count = _HEAD.unpack(connection.recv(_HEAD.size, socket.MSG_WAITALL))
        if kind == b"S":
            _take(connection, count)
            connection.sendall(b"k")
        elif kind == b"G":
            _send(connection, count)
        else:
            _echo(connection)
        connection.recv(1)  # so that the other side closes first


def _accept(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_talk, args=(connection,), daemon=True).start()


def serve() -> None:
    """Serve until killed."""
    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        measure.answer({"port": lambda: {"port": listener.getsockname()[1]}})


def _open(address: Address, kind: bytes, count: int) -> socket.socket:
    connection = socket.create_connection(address)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(_HEAD.pack(kind, count))
    return connection


def _up(address: Address, count: int) -> None:
    with _open(address, b"S", count) as connection:
        _send(connection, count)
        assert connection.recv(1) == b"k"  # all of it has arrived


def _down(address: Address, count: int) -> None:
    with _open(address, b"G", count) as connection:
        _take(connection, count)


def _throughput(move: Callable[[Address, int], None], address: Address) -> measure.Figures:
    move(address, WARM_UP)
    begin = time.perf_counter()
    move(address, VOLUME)
    return {"mb_s": VOLUME / 1e6 / (time.perf_counter() - begin)}


def up(address: Address) -> measure.Figures:
    """MB/s from here to the service, the time of opening included."""
    return _throughput(_up, address)


def down(address: Address) -> measure.Figures:
    """MB/s from the service to here, the time of opening included."""
    return _throughput(_down, address)


def echo(address: Address) -> measure.Figures:
    """Microseconds for 64 bytes there and back, one after the other on one connection."""
    with _open(address, b"E", 0) as connection:

        def turn() -> None:
            connection.sendall(ECHO)
            assert connection.recv(len(ECHO), socket.MSG_WAITALL) == ECHO

        taken = []
        for _ in range(measure.WARM_UP):
            turn()
        for _ in range(measure.CALLS):
            begin = time.perf_counter()
            turn()
            taken.append(time.perf_counter() - begin)
    return measure.latencies(taken)


WORKS = {"tunnel_up": up, "tunnel_down": down, "tunnel_echo": echo}
"""By the name of the row's work."""

if __name__ == "__main__":
    serve()
