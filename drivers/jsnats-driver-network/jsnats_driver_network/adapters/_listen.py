"""Take local ports and sockets. What is in the way is told in one line."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from jsnats.common.exceptions import ConfigurationError

from ..common import place

BACKLOG: Final = 512
"""Connections that may wait at once; a browser or a parallel test opens dozens."""

_TRIES: Final = 20
_NO_SUCH_FAMILY: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


async def listen_tcp(host: str, port: int) -> list[socket.socket]:
    """Listen at every address of `host`, at the same port: with 0 at any free one. IPv4 comes first.

    Raises ConfigurationError.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host!r}: {error.strerror}") from error
    addresses = sorted({(family, str(address[0])) for family, _, _, _, address in found}, key=lambda each: each[0])
    for _ in range(_TRIES - 1 if port == 0 else 0):
        with suppress(ConfigurationError):  # a port that is free at one address was taken at the other
            return _listen(addresses, port)
    return _listen(addresses, port)


def _listen(addresses: Sequence[tuple[socket.AddressFamily, str]], port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for family, host in addresses:
        try:
            sockets.append(socket.create_server((host, port), family=family, backlog=BACKLOG))
        except OSError as error:
            missing = error
            if error.errno in _NO_SUCH_FAMILY and len(addresses) > 1:
                continue  # localhost has an IPv6 address in many a container that has no IPv6
            _close(sockets)
            raise _refused(place(host, port), error) from error
        port = sockets[0].getsockname()[1]
    if not sockets and missing:
        raise _refused(place(addresses[0][1], port), missing) from missing
    return sockets


def listen_unix(path: str) -> socket.socket:
    """Listen at `path`, for this user alone. A socket that nobody listens at is replaced. Raises ConfigurationError."""
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        os.chmod(path, 0o600)  # before anybody can connect
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(path, error) from error
    return listener


def remove_unix(path: str, inode: int) -> None:
    """Remove the socket at `path`, unless another one has taken its place."""
    with suppress(FileNotFoundError):
        if os.lstat(path).st_ino == inode:
            os.unlink(path)


def _clear(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refused(path, error) from error
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"cannot listen on {path}: it is there and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog is somebody, too
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            return
        except OSError:
            pass
    raise ConfigurationError(f"cannot listen on {path}: somebody else does; choose another path")


def _refused(where: str, error: OSError) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(
            f"cannot listen on {where}: somebody else does; choose another, or port 0 for a free one"
        )
    # "AF_UNIX path too long" comes from Python and has no number.
    return ConfigurationError(f"cannot listen on {where}: {os.strerror(error.errno).lower() if error.errno else error}")


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()
