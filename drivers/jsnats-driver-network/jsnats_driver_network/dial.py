"""Connect from the exporter to what stands behind it; what goes wrong is one line that says where to and why."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio
from anyio.abc import SocketAttribute, SocketStream

from .common import place

_KEEPALIVE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""A board that lost its power says nothing: after 30 s of silence its connections are reset, not open for ever."""


@contextmanager
def dialling(where: str, timeout_s: float) -> Iterator[None]:
    """Limit the block to `timeout_s`. Raises TimeoutError and ConnectionError with one line that names `where`."""
    try:
        with anyio.fail_after(timeout_s):
            yield
    except TimeoutError as error:
        raise TimeoutError(f"{where} did not answer within {timeout_s:g} s") from error
    except OSError as error:
        raise ConnectionError(f"cannot connect to {where}: {reason(error)}") from error


async def dial_tcp(host: str, port: int, timeout_s: float) -> SocketStream:
    """Connect to the first address of `host` that answers: each next one is tried 250 ms after the one before.

    Small writes leave at once. Raises as `dialling`.
    """
    with dialling(place(host, port), timeout_s):
        stream = await anyio.connect_tcp(host, port)
    raw = stream.extra(SocketAttribute.raw_socket)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return stream


def reason(error: BaseException) -> str:
    """Why a connection failed, in the words of the system; each reason of several attempts once."""
    return ", ".join(dict.fromkeys(_words(leaf) for leaf in _leaves(error)))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors of the single attempts: anyio hides them in a cause, and several of them in a group."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    elif isinstance(error, OSError) and isinstance(error.__cause__, (OSError, ExceptionGroup)):
        yield from _leaves(error.__cause__)
    else:
        yield error


def _words(error: BaseException) -> str:
    # asyncio writes "Connect call failed ('127.0.0.1', 1)" in place of the system's text.
    if isinstance(error, socket.gaierror):
        return str(error.strerror).lower()
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
