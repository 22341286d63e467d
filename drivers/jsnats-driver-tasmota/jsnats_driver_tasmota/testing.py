"""For tests: a plug made of software on a real broker, and brokers to put it on: mosquitto and nats-server."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from jsnats.broker import nats_server_binary

USER, PASSWORD = "jsnats", "sesame"
DEAF = "deaf"
"""A user of nats-server with the same password, who may read no topic."""
START_S = 30.0


class FakePlug:
    """Does as Tasmota's firmware does: LWT, answers to POWER and STATUS 8, confirmations, in a thread of its own.

    `mute` leaves commands without an answer, `stuck` confirms the state it had. `told` are the commands in order.
    """

    def __init__(self, port: int, topic: str = "plug-3", relay: str = "POWER") -> None:
        self.topic, self.relay = topic, relay
        self.on = self.mute = self.stuck = False
        self.energy: dict[str, Any] | None = {"Total": 3.185, "Power": 26, "Voltage": 230, "Current": 0.113}
        self.told: list[tuple[str, str]] = []
        self.asked, self._there = Event(), Event()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=f"fake-{topic}")
        self.client.username_pw_set(USER, PASSWORD)
        self.client.will_set(f"tele/{topic}/LWT", "Offline", qos=1, retain=True)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda *_: self._subscribe()
        self.client.on_subscribe = lambda *_: self._arrived()
        self.client.on_disconnect = lambda *_: self._there.clear()
        self.client.on_message = lambda _client, _data, message: self._obey(message)
        self.client.connect_async("127.0.0.1", port)
        self.client.loop_start()

    def wait_there(self) -> None:
        """Wait until the broker has the plug."""
        assert self._there.wait(START_S), "the fake plug cannot connect"

    def press(self) -> None:
        """Somebody presses the button at the plug."""
        self.on = not self.on
        self._confirm()

    def vanish(self) -> None:
        """The plug is pulled: no goodbye, so that the broker says its last will."""
        self.client.loop_stop()
        sock = self.client.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        """End the thread, with a goodbye."""
        self.client.disconnect()
        self.client.loop_stop()

    def _subscribe(self) -> None:
        self.client.subscribe(f"cmnd/{self.topic}/#")

    def _arrived(self) -> None:
        self.client.publish(f"tele/{self.topic}/LWT", "Online", qos=1, retain=True)
        self._there.set()

    def _obey(self, message: MQTTMessage) -> None:
        command, payload = message.topic.rpartition("/")[2], message.payload.decode()
        self.told.append((command, payload))
        self.asked.set()
        if self.mute:
            return
        if command == self.relay:
            self.on = self.on if self.stuck or not payload else payload == "ON"
            self._confirm()
        elif (command, payload) == ("STATUS", "8"):
            sensors = {"Time": "2024-06-26T16:19:59"} | ({"ENERGY": self.energy} if self.energy else {})
            self.client.publish(f"stat/{self.topic}/STATUS8", json.dumps({"StatusSNS": sensors}))

    def _confirm(self) -> None:
        state = "ON" if self.on else "OFF"
        self.client.publish(f"stat/{self.topic}/RESULT", json.dumps({self.relay: state}))
        self.client.publish(f"stat/{self.topic}/{self.relay}", state)


@contextlib.contextmanager
def fake_plug(port: int, topic: str = "plug-3", relay: str = "POWER") -> Iterator[FakePlug]:
    """A plug that is there for one block."""
    plug = FakePlug(port, topic, relay)
    try:
        plug.wait_there()
        yield plug
    finally:
        plug.leave()


class Broker:
    """A process that speaks MQTT, with the user USER. It can be stopped and started again on the same port."""

    def __init__(self, command: list[str], directory: Path, ports: dict[str, int]) -> None:
        self.command, self.directory, self.ports = command, directory, ports
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait for its ports."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command, cwd=self.directory, stdout=log, stderr=log)
        for port in self.ports.values():
            _wait_for(port, self._process)

    def stop(self) -> None:
        """Stop it; everybody is cut off."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_S)


def mosquitto_binary() -> str | None:
    """Where Debian's mosquitto is, which is on the PATH of root alone."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


@contextlib.contextmanager
def mosquitto(directory: Path) -> Iterator[Broker]:
    """mosquitto with the listeners `tcp`, `tls`, `websockets`, and the socket `directory`/mqtt.sock."""
    make_certificate(directory)
    program = mosquitto_binary()
    assert program
    (directory / "users").write_text(f"{USER}:{PASSWORD}\n")
    subprocess.run(["mosquitto_passwd", "-U", directory / "users"], check=True)
    ports = {name: free_port() for name in ("tcp", "tls", "websockets")}
    lines = [
        "user root" if directory.owner() == "root" else "",
        f"password_file {directory / 'users'}",
        "allow_anonymous false",
        f"listener {ports['tcp']} 127.0.0.1",
        f"listener {ports['websockets']} 127.0.0.1",
        "protocol websockets",
        f"listener 0 {directory / 'mqtt.sock'}",
        f"listener {ports['tls']} 127.0.0.1",
        f"certfile {directory / 'cert.pem'}",
        f"keyfile {directory / 'key.pem'}",
    ]
    (directory / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    with _running([program, "-c", str(directory / "mosquitto.conf")], directory, ports) as broker:
        yield broker


@contextlib.contextmanager
def nats_server(directory: Path) -> Iterator[Broker]:
    """nats-server with its MQTT listener as `tcp`, and as `websockets`."""
    ports = {name: free_port() for name in ("tcp", "websockets")}
    config = {
        "server_name": "mqtt-test",
        "listen": "127.0.0.1:-1",
        "jetstream": {"store_dir": str(directory / "store")},
        "mqtt": {"listen": f"127.0.0.1:{ports['tcp']}"},
        "websocket": {"listen": f"127.0.0.1:{ports['websockets']}", "no_tls": True},
        "authorization": {
            "users": [
                {"user": USER, "password": PASSWORD},
                {"user": DEAF, "password": PASSWORD, "permissions": {"publish": ">", "subscribe": {"deny": "*.*.>"}}},
            ]
        },
    }
    (directory / "nats.conf").write_text(json.dumps(config))
    with _running([str(nats_server_binary()), "-c", str(directory / "nats.conf")], directory, ports) as broker:
        yield broker


def make_certificate(directory: Path) -> None:
    """`cert.pem` and `key.pem` for localhost and 127.0.0.1, signed by themselves."""
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", "key.pem", "-out", "cert.pem"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def _running(command: list[str], directory: Path, ports: dict[str, int]) -> Iterator[Broker]:
    broker = Broker(command, directory, ports)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, "the broker has ended: see its log"
            assert time.monotonic() < deadline, "the broker does not listen"
            time.sleep(0.02)
