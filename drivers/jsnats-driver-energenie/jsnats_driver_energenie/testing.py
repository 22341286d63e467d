"""For tests: a strip on this machine, with the pages, the password and the one session of the real one, and faults."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Literal
from urllib.parse import parse_qs, urlencode

Fault = Literal["hang", "garbage", "drop", "other page", "log in", "error", "endless", "trickle"]

BUSY: Final = "<div>Impossible to login - there is an active session with this device at this moment.</div>"
LOG_IN: Final = '<form name="lForm"><div>&nbsp;EnerGenie Web:&nbsp;bench</div><input name="pw"></form>'
STATUS: Final = '<script>var sockstates = [{}];</script><div class="boxmenuitem"><a href="login.html">Log Out</a></div>'


class FakeStrip:
    """What a strip has: `states` of its sockets, a `password`, and the address of whoever is logged in, its `session`.

    `faults` is what goes wrong with a request, by `"POST /"`. `stale` pages more show the states from before a switch;
    a `stuck` strip takes requests and switches nothing. `asked` are the requests, `refused` is set by one that found
    another's session, `overlaps` counts log-ins of an address that was logged in already.
    """

    def __init__(self, password: str) -> None:
        self.password = password
        self.states = [False] * 4
        self.session = ""
        self.faults: dict[str, Fault] = {}
        self.stale = 0
        self.stuck = False
        self.asked: list[str] = []
        self.refused = threading.Event()
        self.overlaps = 0
        self.end = threading.Event()
        self.port = 0
        self._shown = list(self.states)
        self._lock = threading.Lock()

    def answer(self, request: str, address: str, form: dict[str, str]) -> str:
        """Return the page for a request such as `POST /login.html` from an address."""
        with self._lock:
            self.asked.append(request)
            if self.session not in ("", address):
                self.refused.set()
                return BUSY
            if "login.html" in request:
                self._log_in_or_out(address, form)
            elif self.session and not self.stuck:
                self._switch(form)
            return self._page() if self.session else LOG_IN

    def _log_in_or_out(self, address: str, form: dict[str, str]) -> None:
        known = form.get("pw") == self.password
        self.overlaps += bool(known and self.session)
        self.session = address if known else ""

    def _switch(self, form: dict[str, str]) -> None:
        if form:
            self._shown = list(self.states)
        for name, value in form.items():
            self.states[int(name.removeprefix("cte")) - 1] = value == "1"

    def _page(self) -> str:
        shown = self._shown if self.stale else self.states
        self.stale = max(0, self.stale - 1)
        return STATUS.format(",".join(str(int(state)) for state in shown))


class _Handler(BaseHTTPRequestHandler):
    strip: FakeStrip

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._answer({name: values[0] for name, values in parse_qs(body).items()})

    def _answer(self, form: dict[str, str]) -> None:
        request = f"{self.command} {self.path}"
        page = self.strip.answer(request, self.client_address[0], form)
        match self.strip.faults.get(request):
            case "hang":
                self.strip.end.wait()
            case "garbage":
                self.wfile.write(b"\x00\xff nothing that anybody understands\r\n\r\n")
            case "drop":
                pass
            case "other page":
                self._send("<html><h1>It works!</h1></html>")
            case "log in":  # once, as when another program of the same host has logged out
                del self.strip.faults[request]
                self.strip.session = ""
                self._send(LOG_IN)
            case "error":
                self.send_error(500)
            case "endless":
                self._pour(b"x" * 65536, 0)
            case "trickle":
                self._pour(b"x", 0.02)
            case None:
                self._send(page)

    def _send(self, page: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode())

    def _pour(self, piece: bytes, pause_s: float) -> None:
        self._send("")
        try:
            while not self.strip.end.wait(pause_s):
                self.wfile.write(piece)
        except OSError:  # the other side has had enough
            return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        """Print nothing."""


@contextmanager
def fake_strip(password: str = "1") -> Iterator[FakeStrip]:
    """Run a strip on a free `port` of 127.0.0.1."""
    strip = FakeStrip(password)
    handler = type("Handler", (_Handler,), {"strip": strip})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        strip.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield strip
        finally:
            strip.end.set()
            server.shutdown()
            thread.join()


@contextmanager
def somebody_else(strip: FakeStrip) -> Iterator[None]:
    """Be logged in from another address, 127.0.0.2, as a person with a browser is."""
    _ask(strip, "POST", urlencode({"pw": strip.password}))
    try:
        yield
    finally:
        _ask(strip, "GET", None)


def _ask(strip: FakeStrip, method: str, body: str | None) -> None:
    with closing(HTTPConnection("127.0.0.1", strip.port, source_address=("127.0.0.2", 0))) as connection:
        connection.request(method, "/login.html", body)
        connection.getresponse().read()
