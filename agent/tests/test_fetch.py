"""Files from http servers: from which, and what a server may do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jsnats.agent._fetch import Allowed, Fetcher, check_entry

BODY = bytes(range(256)) * 3000


class Pages(BaseHTTPRequestHandler):
    """What the test server answers."""

    def do_GET(self) -> None:
        server: Server = self.server  # type: ignore[assignment]
        server.asked.append(self.path)
        if self.path == "/image.bin":
            self._send(200, BODY, len(BODY))
        elif self.path == "/short":
            self._send(200, BODY, len(BODY) + 1)
        elif self.path == "/unsized":
            self._send(200, BODY, None)
        elif self.path.startswith("/to/"):
            self._send(302, b"", 0, Location=self.path.removeprefix("/to/"))
        elif self.path == "/loop":
            self._send(302, b"", 0, Location="/loop")
        else:
            self._send(404, b"no", 2)

    def _send(self, status: int, body: bytes, length: int | None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A web server on a free port; `asked` has the paths that were asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Pages)
        self.asked: list[str] = []
        self.port = self.server_address[1]


@contextmanager
def serving() -> Iterator[Server]:
    """A server that runs."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that runs."""
    with serving() as server:
        yield server


async def fetch(url: str, *entries: str) -> tuple[bytes, int | None]:
    """Body and size of a URL, with `entries` allowed."""
    async with Fetcher(entries).open(url, "name") as stream:
        return b"".join([data async for data in stream]), stream.size


async def test_nothing_is_fetched_by_default(server: Server) -> None:
    """Without a list no host is asked, and the error says what to do."""
    with pytest.raises(PermissionError, match=r"does not fetch from 127.0.0.1:\d+: add the host to fetch:"):
        await fetch(f"http://127.0.0.1:{server.port}/image.bin")
    assert server.asked == []


async def test_a_listed_host_is_fetched_from(server: Server) -> None:
    """By its address, with or without the port; the size is known when the server says it."""
    url = f"http://127.0.0.1:{server.port}/image.bin"
    assert await fetch(url, "127.0.0.1") == (BODY, len(BODY))
    assert await fetch(url, f"127.0.0.1:{server.port}") == (BODY, len(BODY))
    assert await fetch(url.replace("image.bin", "unsized"), "127.0.0.1") == (BODY, None)
    with pytest.raises(PermissionError):
        await fetch(url, f"127.0.0.1:{server.port + 1}")


async def test_a_name_does_not_open_this_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listed name that leads to this machine or its link is not asked, unless the address itself is listed."""
    import socket

    real = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda at, *rest: real(("127.0.0.1", at[1]), *rest))
    url = f"http://images.example.com:{server.port}/image.bin"
    with pytest.raises(PermissionError, match="leads to 127.0.0.1"):
        await fetch(url, "images.example.com")
    assert server.asked == []
    assert (await fetch(url, "images.example.com", "127.0.0.1"))[0] == BODY


async def test_a_redirect_is_checked_like_the_first_url(server: Server) -> None:
    """Within the list it is followed; to another host it is refused, and that host is not asked."""
    with serving() as other:
        here, there = f"127.0.0.1:{server.port}", f"127.0.0.1:{other.port}"
        url = f"http://{here}/to/http://{there}/image.bin"
        assert (await fetch(url, here, there))[0] == BODY
        asked = len(other.asked)
        with pytest.raises(PermissionError, match=f"does not fetch from {there}"):
            await fetch(url, here)
        assert len(other.asked) == asked
    assert (await fetch(f"http://{here}/to//image.bin", here))[0] == BODY
    with pytest.raises(ValueError, match="no http"):
        await fetch(f"http://{here}/to/file:///etc/passwd", here)
    with pytest.raises(ConnectionError, match="more than 5 redirects"):
        await fetch(f"http://{here}/loop", here)


async def test_a_body_that_breaks_off_is_an_error(server: Server) -> None:
    """One byte less than was announced is not taken for the file."""
    with pytest.raises(ConnectionError, match=r"broke off after 768000 of 768001 bytes"):
        await fetch(f"http://127.0.0.1:{server.port}/short", "127.0.0.1")


async def test_faults_are_one_line_without_secrets(server: Server) -> None:
    """What a server answers, and a server that is not there; the query, which may be a token, is not shown."""
    with pytest.raises(ConnectionError, match="/missing answers 404 Not Found") as caught:
        await fetch(f"http://127.0.0.1:{server.port}/missing?token=secret", "127.0.0.1")
    assert "secret" not in str(caught.value)
    with serving() as gone:
        url = f"http://127.0.0.1:{gone.port}/image.bin"
    with pytest.raises(ConnectionError, match="cannot be fetched"):
        await fetch(url, "127.0.0.1")
    with pytest.raises(ValueError, match="user name"):
        await fetch(f"http://ann:secret@127.0.0.1:{server.port}/", "127.0.0.1")


@pytest.mark.parametrize(
    ("entry", "url", "fits"),
    [
        ("images.example.com", "https://images.example.com/a", True),
        ("Images.Example.COM", "https://IMAGES.example.com/a", True),
        ("images.example.com", "https://images.example.com.evil.org/a", False),
        ("images.example.com", "https://evil.images.example.com/a", False),
        ("*.example.com", "https://a.b.example.com/a", True),
        ("*.example.com", "https://example.com/a", False),
        ("*.example.com", "https://evilexample.com/a", False),
        ("host:443", "https://host/a", True),
        ("host:443", "http://host/a", False),
        ("host:8080", "http://host:8080/a", True),
        ("[::1]:80", "http://[::1]/a", True),
        ("[::1]", "http://[::1]:81/a", True),
    ],
)
def test_what_an_entry_allows(entry: str, url: str, fits: bool) -> None:
    """The host exactly, a port if there is one, and names below a domain with a star."""
    allowed = Allowed([entry])
    if fits:
        allowed.check_url(url)
    else:
        with pytest.raises(PermissionError):
            allowed.check_url(url)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "169.254.169.254", "fe80::1%eth0", "::ffff:127.0.0.1", "0.0.0.0"]
)
def test_addresses_of_this_machine_must_be_listed_themselves(address: str) -> None:
    """Loopback and link-local in every spelling; other addresses need only the host."""
    with pytest.raises(PermissionError, match="leads to"):
        Allowed(["host", "*.example.com"]).check_address("host", address)
    Allowed(["host"]).check_address("host", "10.0.0.7")


@pytest.mark.parametrize("entry", ["", "http://host", "host/path", "*", "*.", "ho st", "host:", "user@host"])
def test_an_entry_is_a_host(entry: str) -> None:
    """Nothing that looks like a URL or means everything."""
    with pytest.raises(ValueError, match="must be a host"):
        check_entry(entry)
