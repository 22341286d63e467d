"""Files from http(s) servers, fetched by the agent, and only from hosts that its configuration lists.

A user who passes a URL makes the agent connect to somewhere inside the lab's network, so: the host must be listed;
where its name leads is looked at after the connection is made and before anything is sent (a name may lead to this
machine, or to a cloud's metadata service); each redirect is checked in the same way.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

from jsnats.driver import ResourceStream

TIMEOUT_S: Final = 30.0
MAX_REDIRECTS: Final = 5
_BLOCK: Final = 256 << 10
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_ENTRY = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?(:\d{1,5})?|\[[0-9a-f:.]+\](:\d{1,5})?")

Address = IPv4Address | IPv6Address


def check_entry(entry: str) -> str:
    """Return an entry of the list in lower case: `host`, `*.domain`, `[IPv6]`, each with or without `:port`.

    Raises ValueError.
    """
    if not _ENTRY.fullmatch(entry.lower()):
        raise ValueError("must be a host such as images.example.com, *.example.com or 10.0.0.7:8080, without http://")
    return entry.lower()


class Allowed:
    """The hosts to fetch from. An entry without a port allows every port."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._entries = [_split_entry(check_entry(each)) for each in entries]

    def check_url(self, url: str) -> SplitResult:
        """Take apart a URL that may be fetched. Raises PermissionError, ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{_shown(url)} is no http(s) URL")
        if parts.username is not None:
            raise ValueError(f"{_shown(url)}: a user name in a URL is not supported")
        if not any(_matches(entry, parts.hostname) and port in (None, _port(parts)) for entry, port in self._entries):
            raise PermissionError(
                f"this exporter does not fetch from {parts.hostname}:{_port(parts)}: "
                "add the host to fetch: in its configuration, or upload the file"
            )
        return parts

    def check_address(self, host: str, peer: str) -> None:
        """Raise PermissionError if `host` led to an address of this machine or of its link, unless that is listed."""
        address = ip_address(peer.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        literal = {str(address)} | ({"localhost"} if address.is_loopback else set())
        local = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
        if local and not any(entry in literal for entry, _ in self._entries):
            raise PermissionError(
                f"{host} leads to {address}, an address of this machine or its link: it is fetched from only if fetch: "
                "lists the address itself"
            )


def _split_entry(entry: str) -> tuple[str, int | None]:
    host, colon, port = entry.rpartition(":")
    if not colon or entry.endswith("]"):
        return entry.strip("[]"), None
    return host.strip("[]"), int(port)


def _matches(entry: str, host: str) -> bool:
    return host == entry or (entry.startswith("*.") and host.endswith(entry[1:]))


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _shown(url: str) -> str:
    """A URL without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]


class Fetcher:
    """Fetches from the hosts in `entries`."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._allowed = Allowed(entries)

    @asynccontextmanager
    async def open(self, url: str, name: str) -> AsyncIterator[ResourceStream]:
        """The file at `url`. Raises PermissionError, ConnectionError, ValueError."""
        got = await asyncio.to_thread(self._get, url)
        try:
            length = got.response.length
            async with aclosing(got.pieces()) as pieces:
                yield ResourceStream(pieces, name=name, size=length)
        finally:
            got.close()

    def _get(self, url: str) -> _Got:
        for _ in range(MAX_REDIRECTS + 1):
            got = self._ask(url)
            if got.response.status == 200:
                return got
            got.close()
            url = _followed(url, got.response)
        raise ConnectionError(f"{_shown(url)}: more than {MAX_REDIRECTS} redirects")

    def _ask(self, url: str) -> _Got:
        parts = self._allowed.check_url(url)
        assert parts.hostname is not None
        try:
            taken = socket.create_connection((parts.hostname, _port(parts)), TIMEOUT_S)
        except OSError as error:
            raise _failure(url, error) from error
        try:
            self._allowed.check_address(parts.hostname, taken.getpeername()[0])
            taken = _secured(parts, taken)
            return _Got(url, _answer(parts, taken), taken)
        except PermissionError:
            taken.close()
            raise
        except (HTTPException, OSError) as error:
            taken.close()
            raise _failure(url, error) from error


def _failure(url: str, error: Exception) -> ConnectionError:
    return ConnectionError(f"{_shown(url)} cannot be fetched: {error or type(error).__name__}")


def _secured(parts: SplitResult, plain: socket.socket) -> socket.socket:
    if parts.scheme == "http":
        return plain
    return ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname)


def _answer(parts: SplitResult, connected: socket.socket) -> HTTPResponse:
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", _port(parts))
    connection.sock = connected
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", target, headers={"Accept-Encoding": "identity", "Connection": "close"})
    return connection.getresponse()


def _followed(url: str, response: HTTPResponse) -> str:
    """Where a redirect leads. Raises ConnectionError for an answer that is none."""
    location = response.getheader("Location")
    if response.status not in _REDIRECTS or not location:
        raise ConnectionError(f"{_shown(url)} answers {response.status} {response.reason}".rstrip())
    target = urljoin(url, location)
    if url.startswith("https:") and not target.startswith("https:"):
        raise ConnectionError(f"{_shown(url)} redirects to {_shown(target)}, which is not https")
    return target


class _Got:
    """An answer whose body is still to come."""

    def __init__(self, url: str, response: HTTPResponse, taken: socket.socket) -> None:
        self.response = response
        self._url = url
        self._socket = taken

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        expected, done = self.response.length, 0
        try:
            while data := await asyncio.to_thread(partial(self.response.read, _BLOCK)):
                done += len(data)
                yield data
        except (HTTPException, OSError) as error:
            raise ConnectionError(f"{_shown(self._url)} broke off after {done} bytes: {error}") from error
        if expected is not None and done != expected:
            raise ConnectionError(f"{_shown(self._url)} broke off after {done} of {expected} bytes")

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # a thread that still reads it returns
        self.response.close()
        self._socket.close()
