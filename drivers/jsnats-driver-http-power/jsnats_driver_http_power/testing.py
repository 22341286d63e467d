"""A plug with an HTTP interface for tests, which can be told to misbehave.

It has one outlet and speaks as Shelly generation 1 and 2, Tasmota and Redfish do, and a dialect of its own below
`/api`: `POST /api/power {"power": "ON"}`, `GET /api/power`, `GET /api/meter`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from typing import Any
from urllib.parse import parse_qs, urlsplit

CHALLENGE = 'Digest qop="auth", realm="plug", nonce="60dc2c69", algorithm=SHA-256'
SYSTEM = "/redfish/v1/Systems/437XR1138R2"
SESSIONS = "/redfish/v1/SessionService/Sessions"


@dataclass
class Plug:
    """What the plug is and does. `fault` is one of "500", "garbage", "hang", "drop", "cut", "drip", "endless", "stuck",
    "slow", "redirect"; `lag` is how often it still tells the old state after it was switched; `asked` all requests."""

    url: str = ""
    on: bool = False
    fault: str = ""
    lag: int = 0
    user: str = ""
    password: str = ""
    scheme: str = ""  # basic, digest, bearer, query or session
    asked: list[tuple[str, str]] = field(default_factory=list)
    heard: list[tuple[dict[str, str], str]] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    begun: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    _stale: int = 0

    def switch(self, on: bool) -> None:
        """Switch, unless it is stuck."""
        if self.fault != "stuck":
            self._stale = self.lag if on != self.on else 0
            self.on = on

    def told(self) -> bool:
        """Return the state that it reports."""
        if self._stale:
            self._stale -= 1
            return not self.on
        return self.on

    def answer(self, method: str, path: str, query: dict[str, str], body: str) -> Any:
        """Do what is asked. None is 404, a number that status without a body."""
        match method, path:
            case "POST", "/api/power":
                self.switch(json.loads(body)["power"] == "ON")
                return {"result": "ok"}
            case "GET", "/api/power":
                return {"outlets": [{"power": "ON" if self.told() else "OFF"}]}
            case "GET", "/api/text":
                return "ON" if self.told() else "OFF"
            case "GET", "/api/meter":
                return {"volts": 230.5, "milliamps": 120 if self.on else 0}
            case "GET", "/relay/0":
                if "turn" in query:
                    self.switch(query["turn"] == "on")
                return {"ison": self.told(), "source": "http"}
            case "GET", "/rpc/Switch.Set":
                was = self.on
                self.switch(query["on"] == "true")
                return {"was_on": was}
            case "GET", "/rpc/Switch.GetStatus":
                return {"id": 0, "output": self.told(), "apower": 27.7, "voltage": 230.5, "current": 0.12}
            case "GET", "/cm":
                return self._tasmota(query["cmnd"])
            case "GET", str(system) if system == SYSTEM:
                return {"PowerState": "On" if self.told() else "Off"}
            case "POST", str(action) if action == f"{SYSTEM}/Actions/ComputerSystem.Reset":
                to = json.loads(body)["ResetType"] == "On"
                status = 409 if to == self.on else 204
                self.switch(to)
                return status
        return None

    def _tasmota(self, command: str) -> Any:
        if command == "Status 8":
            return {"StatusSNS": {"ENERGY": {"Voltage": 230.5, "Current": 0.12}}}
        if command not in ("Power1", "Power1 On", "Power1 Off"):
            return {"Command": "Unknown"}
        if " " in command:
            self.switch(command.endswith("On"))
        return {"POWER": "ON" if self.told() else "OFF"}


@contextmanager
def plugged(tls: SSLContext | None = None, **options: Any) -> Iterator[Plug]:
    """A plug on a port of its own, for as long as the block."""
    plug = Plug(**options)

    class Bound(_Handler):
        pass

    Bound.plug = plug
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    plug.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield plug
    finally:
        plug.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    plug: Plug
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with suppress(OSError):  # the driver has hung up
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
        """Say nothing: `asked` has it."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.plug.asked.append((self.command, self.path))
        self.plug.heard.append((dict(self.headers), body))
        if not self._misbehaves():
            self._serve(parts.path, query, body)

    do_POST = do_DELETE = do_GET  # noqa: N815 - the names in the standard library

    def _serve(self, path: str, query: dict[str, str], body: str) -> None:
        if path.startswith(SESSIONS):
            self._session(path, body)
        elif not self._knows(query):
            headers = {"WWW-Authenticate": CHALLENGE} if self.plug.scheme == "digest" else {}
            self._send(401, {"error": "who are you?"}, headers)
        else:
            answer = self.plug.answer(self.command, path, query, body)
            status = answer if isinstance(answer, int) else 404 if answer is None else 200
            self._send(status, answer if status == 200 else None)

    def _session(self, path: str, body: str) -> None:
        plug = self.plug
        if self.command == "DELETE":
            plug.sessions.discard(self.headers["X-Auth-Token"])
            self._send(204, None)
        elif json.loads(body) == {"UserName": plug.user, "Password": plug.password}:
            plug.begun += 1
            token = f"token-{plug.begun}"
            plug.sessions.add(token)
            self._send(201, {}, {"X-Auth-Token": token, "Location": f"{SESSIONS}/{plug.begun}"})
        else:
            self._send(401, None)

    def _knows(self, query: dict[str, str]) -> bool:
        plug, said = self.plug, self.headers.get("Authorization", "")
        match plug.scheme:
            case "basic":
                return said == "Basic " + base64.b64encode(f"{plug.user}:{plug.password}".encode()).decode()
            case "digest":
                return self._digested(said)
            case "bearer":
                return said == f"Bearer {plug.password}"
            case "query":
                return (query.get("user"), query.get("password")) == (plug.user, plug.password)
            case "session":
                return self.headers.get("X-Auth-Token") in plug.sessions
        return True

    def _digested(self, said: str) -> bool:
        given = {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|(\w+))', said)}
        ours = _sha(f"{self.plug.user}:plug:{self.plug.password}"), _sha(f"{self.command}:{self.path}")
        middle = ":".join(given.get(name, "") for name in ("nonce", "nc", "cnonce", "qop"))
        return given.get("response") == _sha(f"{ours[0]}:{middle}:{ours[1]}")

    def _misbehaves(self) -> bool:
        match self.plug.fault:
            case "500":
                self._send(500, "out of memory")
            case "garbage":
                self._send(200, "<html>Welcome</html>")
            case "redirect":
                self._send(302, None, {"Location": f"{self.plug.url}/login?next=secret"})
            case "hang":
                self.plug.over.wait()
            case "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
            case "cut":
                self._begin_body(100)
                self.wfile.write(b'{"ison": ')
                self.connection.shutdown(socket.SHUT_RDWR)
            case "drip":
                self._begin_body(1 << 20)
                while not self.plug.over.wait(0.02):
                    self.wfile.write(b" ")
            case "endless":
                self._begin_body(1 << 30)
                while not self.plug.over.is_set():
                    self.wfile.write(bytes(1 << 16))
            case "slow":
                return self.plug.over.wait(0.5)
            case _:
                return False
        self.close_connection = True
        return True

    def _begin_body(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def _send(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        text = answer if isinstance(answer, str) else "" if answer is None else json.dumps(answer)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
