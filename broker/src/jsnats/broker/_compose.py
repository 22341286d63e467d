"""A lab in containers, by `docker compose`: for tests and benchmarks of compose.yaml."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jsnats.sdk import Context
from jsnats.testing import until

PORTS = {
    "JSNATS_PORT": 14222,
    "JSNATS_PORT_2": 14223,
    "JSNATS_PORT_3": 14224,
    "JSNATS_MONITOR_PORT": 18222,
    "JSNATS_MQTT_PORT": 11883,
    "JSNATS_WEBSOCKET_PORT": 19222,
}
"""Of this host, by variable of the file: below those that the kernel gives to clients, so that a broker that is started
again finds its own."""
BROKERS = {"broker": "JSNATS_PORT", "broker-2": "JSNATS_PORT_2", "broker-3": "JSNATS_PORT_3"}
"""The services of the profile `cluster`, of which the first is always there, and their ports."""
WAIT_S = 60.0


class Stack:
    """The project `name` of the compose `files` in the folder `root`; `settings` are variables of the files.

    Several at once need `shift`, which is added to the ports. What cannot be done raises AssertionError, with what
    Docker said.
    """

    def __init__(self, root: Path, name: str, *files: str, shift: int = 0, **settings: str) -> None:
        self.name = name
        self.settings = {key: str(port + shift) for key, port in PORTS.items()} | settings
        self._root = root
        self._files = [word for file in files or ("compose.yaml",) for word in ("--file", file)]

    def compose(self, *words: str, check: bool = True, settings: Mapping[str, str] = MappingProxyType({})) -> str:
        """Run `docker compose`; return its output. `settings` hold this time only."""
        command = ["docker", "compose", "--project-name", self.name, *self._files, "--progress", "quiet", *words]
        environment = os.environ | self.settings | dict(settings)
        done = subprocess.run(command, cwd=self._root, env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    def up(self, *words: str, **settings: str) -> float:
        """Start what is not as it should be; return how many s it took until everything was healthy."""
        begin = time.monotonic()
        try:
            self.compose("up", "--detach", "--wait", "--no-build", *words, settings=settings)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.compose('logs', '--tail', '20', check=False)}") from None
        return time.monotonic() - begin

    def down(self) -> None:
        """Remove everything of it, volumes too."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "20")

    def exec(self, service: str, *command: str) -> str:
        """Run a command in a service; return its output."""
        return self.compose("exec", "--no-TTY", service, *command)

    def crash(self, service: str) -> None:
        """SIGKILL all its processes but the first, which then ends too; Docker starts it again."""
        before = self.inspect(service)["State"]["StartedAt"]
        self.compose("exec", "--no-TTY", service, "sh", "-c", "kill -9 -1", check=False)
        until(lambda: self.inspect(service)["State"]["StartedAt"] != before, WAIT_S)
        self.healthy(service)

    def kill(self, service: str) -> None:
        """SIGKILL; it stays dead until `start`."""
        self.compose("kill", service)

    def start(self, service: str) -> None:
        """Start it again, and wait until it is healthy."""
        self.compose("start", service)
        self.healthy(service)

    def healthy(self, service: str) -> None:
        """Wait until it is."""
        until(lambda: self.inspect(service)["State"].get("Health", {}).get("Status") == "healthy", WAIT_S)

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker knows of the container of a service."""
        container = self.compose("ps", "--all", "--quiet", service).strip()
        found: list[dict[str, Any]] = json.loads(_docker("inspect", container))
        return found[0]

    def services(self) -> list[str]:
        """Those that run."""
        return sorted(self.compose("ps", "--services").split())

    def left(self) -> str:
        """The ids of containers, volumes and networks that there are of it."""
        mark = f"label=com.docker.compose.project={self.name}"
        kinds = (["ps", "--all"], ["volume", "ls"], ["network", "ls"])
        return "".join(_docker(*kind, "--quiet", "--filter", mark) for kind in kinds)

    @property
    def brokers(self) -> tuple[str, ...]:
        """The services that are nats-servers."""
        cluster = "cluster" in self.settings.get("COMPOSE_PROFILES", "").split(",")
        return tuple(BROKERS) if cluster else tuple(BROKERS)[:1]

    @property
    def url(self) -> str:
        """Where this host reaches them."""
        return ",".join(f"nats://127.0.0.1:{self.settings[BROKERS[each]]}" for each in self.brokers)

    def home(self, client: str) -> str:
        """The broker that a connection of that name, such as "exporter bench", is at."""
        ask = ["wget", "-q", "-O", "-", "http://127.0.0.1:8222/connz?limit=10000"]
        (found,) = [each for each in self.brokers if f'"{client}"' in self.exec(each, *ask)]
        return found

    def add(self, role: str, name: str) -> Context:
        """Let a principal in, by the command of the README; return what it needs on this host."""
        told = json.loads(self.exec("scheduler", "sh", "-c", f'cat "$(jsnats auth add {role} {name})"'))
        return Context(**(told | {"url": self.url}))


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout
