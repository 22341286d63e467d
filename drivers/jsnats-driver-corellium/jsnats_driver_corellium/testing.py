"""A Corellium for tests: its API over HTTPS, and a bare-metal device behind the websocket of each console.

Nothing here has a clock. A device passes through a state such as `booting` when somebody has looked at it, unless the
state is held; `release` lets it go. Faults come when they are ordered.
"""

from __future__ import annotations

import atexit
import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import rmtree
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from tempfile import mkdtemp
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from jsnats_driver_network.testing import running, websocket_service

TOKEN: Final = "api-token-of-the-test"
PROJECT: Final = "778f00af-5e9b-40e6-8e7f-c4f14b632e9c"
BOOT: Final = b"\r\nCritical Application Monitor 1.1.1\r\n"
PROMPT: Final = b"cam> "
CONSOLES: Final = {"Primary Compute Non-Secure": "port-1-cons", "RSE": "port-2-cons"}
_MODEL: Final = {"type": "iot", "name": "kronos", "flavor": "kronos", "description": "RD-1AE", "model": "rd1ae"}

_PASSES: Final = {
    "creating": "booting",
    "starting": "booting",
    "booting": "on",
    "rebooting": "on",
    "stopping": "off",
    "deleting": "gone",
}
"""What becomes of a state that was looked at."""
_TOLD: Final = {"starting": ("off", None), "stopping": ("on", {"name": "stop"})}
"""State and task of a device that does not show yet what it was told."""


@dataclass(eq=False)
class Machine:
    """A device, with the websockets that are open at its console."""

    name: str
    state: str = "creating"
    error: str | None = None
    project: str = PROJECT
    id: str = field(default_factory=lambda: str(uuid4()))
    readers: list[Any] = field(default_factory=list)
    typed: bytearray = field(default_factory=bytearray)

    def told(self) -> dict[str, Any]:
        """As the list of a project has it."""
        state, task = _TOLD.get(self.state, (self.state, None))
        return {
            "id": self.id,
            "name": self.name,
            "project": self.project,
            "flavor": "kronos",
            "state": state,
            "userTask": task,
            "taskState": "none",
            "error": self.error,
        }

    def say(self, data: bytes) -> None:
        """Say it to whoever listens now."""
        for each in list(self.readers):
            with suppress(Exception):  # it has left
                each.send(data)

    def hear(self, data: bytes) -> None:
        """Echo, and answer a line: `help`, `version`, or anything else."""
        for byte in data:
            if byte not in b"\r\n":
                self.typed.append(byte)
                self.say(bytes([byte]))
                continue
            line = self.typed.decode(errors="replace")
            self.typed.clear()
            answers = {"": "", "help": "help version\r\n", "version": "1.1.1\r\n"}
            self.say(b"\r\n" + answers.get(line, f"{line}: unknown\r\n").encode() + PROMPT)

    def hang_up(self) -> None:
        """Close the consoles, as when it is switched off."""
        for each in list(self.readers):
            each.close()


@dataclass
class Fault:
    """What the next `times` requests that match `METHOD /path` meet: a status with this answer, "hang", "drop", or
    "wait" for the gate of the cloud before they are served."""

    match: str
    kind: int | str
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass
class Cloud:
    """What there is, what was asked of it as `METHOD /path`, and what is held or broken."""

    host: str = ""
    authority: Path = Path()
    console_url: str = ""
    machines: list[Machine] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def release(self, state: str) -> None:
        """Let devices pass through a state that was held."""
        with self.lock:
            self.held.discard(state)

    def machine(self, name: str) -> Machine:
        """The device of that name."""
        (found,) = [each for each in self.machines if each.name == name]
        return found

    def fault(self, request: str) -> Fault | None:
        """Return the fault that this request meets."""
        for each in self.faults:
            if each.times and re.search(each.match, request):
                each.times -= 1
                return each
        return None

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        """Do what is asked; return the status and the answer."""
        match method, *path.strip("/").split("/"):
            case "GET", "models":
                return 200, [_MODEL]
            case "GET", "projects", project, "instances":
                if project != PROJECT:
                    return 404, _error("Found no matching Projects", "Project")
                return 200, [self._look(each) for each in list(self.machines) if each.project == project]
            case "POST", "instances":
                return self._create(body)
            case method, "instances", id, *verb if found := self._find(id):
                return self._do(found, method, "".join(verb), query)
            case _, "instances", *_:
                return 404, _error("No instance associated with this value", "InstanceId")
        return 404, _error("Not found")

    def _find(self, id: str) -> Machine | None:  # noqa: A002
        return next((each for each in self.machines if each.id == id), None)

    def _look(self, machine: Machine) -> dict[str, Any]:
        told = machine.told()
        if machine.state in _PASSES and machine.state not in self.held:
            self._pass(machine, _PASSES[machine.state])
        return told

    def _pass(self, machine: Machine, state: str) -> None:
        machine.state = state
        if state == "on":
            machine.say(BOOT + PROMPT)
        elif state == "gone":
            self.machines.remove(machine)
        if state in ("off", "gone"):
            machine.hang_up()

    def _create(self, body: Any) -> tuple[int, Any]:
        if body["flavor"] != _MODEL["flavor"]:
            return 400, _error("Unsupported device model", "flavor")
        if body["os"] != "1.1.1":
            return 400, _error("Unsupported operating system", "os")
        self.machines.append(Machine(body["name"], project=body["project"]))
        return 200, {"id": self.machines[-1].id, "state": "creating"}

    def _do(self, machine: Machine, method: str, verb: str, query: dict[str, str]) -> tuple[int, Any]:
        match method, verb, machine.state:
            case "GET", "", _:
                consoles = [{"name": name, "id": id, "port": "4001"} for name, id in CONSOLES.items()]  # noqa: A001
                return 200, {**machine.told(), "consoles": consoles}
            case "GET", "console", "on" | "booting":
                if f"port-{query.get('type')}" not in CONSOLES.values():
                    return 400, _error("not a valid type", "type")
                return 200, {"url": f"{self.console_url}/{machine.id}/{query['type']}"}
            case "POST", "start", "off":
                machine.state = "starting"
            case "POST", "unpause", "paused":
                machine.state = "on"
            case "POST", "stop", "on" | "booting" | "paused":
                machine.state = "stopping"
            case "DELETE", "", "off" | "error":
                machine.state = "deleting"
            case _:
                return 409, _error(f"Instance is {machine.state}")
        return 204, None

    def talk(self, connection: Any) -> None:
        """Be the console of a device, for one websocket."""
        found = self._find(connection.request.path.split("/")[-2])
        if not found:
            return
        found.readers.append(connection)
        try:
            for message in connection:
                found.hear(message)
        finally:
            found.readers.remove(connection)


@contextmanager
def corellium() -> Iterator[Cloud]:
    """A Corellium with nothing in it, for as long as the block."""
    tls, authority = _tls()
    cloud = Cloud(authority=authority)

    class Bound(_Handler):
        pass

    Bound.cloud = cloud
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    cloud.host = f"127.0.0.1:{server.server_port}"
    with websocket_service(cloud.talk, ssl=tls, subprotocols=["binary"]) as port, running(server):
        cloud.console_url = f"wss://127.0.0.1:{port}/console/secret"
        try:
            yield cloud
        finally:
            cloud.over.set()
            for each in cloud.machines:
                each.hang_up()


class _Handler(BaseHTTPRequestHandler):
    cloud: Cloud
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # it would wait 40 ms between the handshake and the first answer

    def handle(self) -> None:
        with suppress(OSError):  # the driver has hung up
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
        """Say nothing: `asked` has it."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = f"{self.command} {parts.path.removeprefix('/api/v1')}"
        with self.cloud.lock:
            self.cloud.asked.append(request)
            fault = self.cloud.fault(request)
        if fault and fault.kind == "wait":
            self.cloud.gate.wait(20)
        elif fault:
            self._break(fault)
            return
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._send(403, _error("Invalid or missing authorization token"))
        else:
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            path, told = request.partition(" ")[2], json.loads(body) if body else None
            with self.cloud.lock:
                status, answer = self.cloud.answer(self.command, path, query, told)
            self._send(status, answer)

    do_POST = do_DELETE = do_GET  # noqa: N815 - the names in the standard library

    def _break(self, fault: Fault) -> None:
        match fault.kind:
            case "hang":
                self.cloud.over.wait()
            case "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
            case int(status):
                self._send(status, fault.body, fault.headers)
        self.close_connection = True

    def _send(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        text = answer if isinstance(answer, str) else "" if answer is None else json.dumps(answer)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())


def _error(words: str, about: str = "") -> dict[str, str]:
    return {"error": words, "errorID": "UserError"} | ({"field": about} if about else {})


@cache
def _tls() -> tuple[SSLContext, Path]:
    """Make a certificate that is its own authority, once for the process."""
    folder = Path(mkdtemp())
    atexit.register(rmtree, folder)
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=corellium"
    made = [*make.split(), "-keyout", str(key), "-out", str(certificate), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(made, check=True, capture_output=True)
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate
