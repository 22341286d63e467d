"""The stack of compose.yaml, built and started once for all its tests, and boards that are soaked in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest

from jsnats.sdk import Context, Lab, connect

ROOT = Path(__file__).resolve().parents[3]
PORTS = {"JSNATS_PORT": 14222, "JSNATS_MONITOR_PORT": 18222, "JSNATS_MQTT_PORT": 11883, "JSNATS_WEBSOCKET_PORT": 19222}
PORTS |= {"JSNATS_PORT_2": 14223, "JSNATS_PORT_3": 14224}
WAIT_S = 60.0

_figures: list[str] = []


def until(fact: Callable[[], Any], timeout_s: float = WAIT_S) -> Any:
    """Wait for what another process does; return what `fact` gave."""
    end = time.monotonic() + timeout_s
    while not (found := fact()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)
    return found


class Stack:
    """The services of compose.yaml, as project jsnats-test; `settings` are variables of the file."""

    def __init__(self, name: str = "jsnats-test", **settings: str) -> None:
        self._name = name
        # Without a network there is nothing to install from but the wheels that images.py has brought.
        offline = {"INDEX_OPTIONS": "--no-index"} if os.environ.get("JSNATS_STACK") == "offline" else {}
        self.settings = offline | {key: str(port) for key, port in PORTS.items()} | settings

    def compose(self, *words: str, check: bool = True, **settings: str) -> str:
        """Run `docker compose`; return its output."""
        command = ["docker", "compose", "--project-name", self._name, "--progress", "quiet", *words]
        environment = os.environ | self.settings | settings
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    def up(self, *words: str, **settings: str) -> float:
        """Start what is not as it should be; return how many s it took until everything was healthy."""
        begin = time.monotonic()
        try:
            self.compose("up", "--detach", "--wait", "--no-build", *words, **settings)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.compose('logs', '--tail', '20', check=False)}") from None
        return time.monotonic() - begin

    def exec(self, service: str, *command: str) -> str:
        """Run a command in a service."""
        return self.compose("exec", "--no-TTY", service, *command)

    def crash(self, service: str) -> None:
        """SIGKILL all its processes but the first, which then ends too; Docker starts it again."""
        before = self.inspect(service)["State"]["StartedAt"]
        self.compose("exec", "--no-TTY", service, "sh", "-c", "kill -9 -1", check=False)
        until(lambda: self.inspect(service)["State"]["StartedAt"] != before)
        self.healthy(service)

    def healthy(self, service: str) -> None:
        """Wait until it is."""
        until(lambda: self.inspect(service)["State"].get("Health", {}).get("Status") == "healthy")

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker knows of the container of a service."""
        container = self.compose("ps", "--all", "--quiet", service).strip()
        found: list[dict[str, Any]] = json.loads(docker("inspect", container))
        return found[0]

    def services(self) -> list[str]:
        """Those that run."""
        return sorted(self.compose("ps", "--services").split())

    def context(self, name: str) -> Context:
        """Let a user in, by the command of the README, from this host."""
        told = self.exec("scheduler", "sh", "-c", f'cat "$(jsnats auth add user {name})"')
        data = json.loads(told)
        return Context(url=f"nats://127.0.0.1:{PORTS['JSNATS_PORT']}", name=name, role="user", seed=data["seed"])

    def recorded(self, service: str) -> list[dict[str, Any]]:
        """The events in a subscriber's file."""
        return [json.loads(line) for line in self.exec(service, "cat", "/state/events.jsonl").splitlines()]


def docker(*words: str) -> str:
    """Run `docker`; return its output."""
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


class Soak:
    """A board in use until the end of the block: leased, on, its console asked in lockstep, its method called.

    `errors` are those of calls; a console that loses a byte fails at the end of the block.
    """

    def __init__(self, context: Context, exporter: str, prompt: Callable[[Any], Any]) -> None:
        self.exporter = exporter
        self.said = self.calls = 0
        self.errors: list[Exception] = []
        self._prompt = prompt
        self._context = context
        self._stop = threading.Event()
        self._failures: list[Exception] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.lab = stack.enter_context(connect(context=self._context))
            self.lease = self.lab.lease(f"name={self.exporter}", duration="30m", wait="30s")
            stack.enter_context(self.lease)
            self.dut: Any = self.lab.exporter(self.exporter).dut
            self.console = self._prompt(self.dut)
            self._threads = [threading.Thread(target=each) for each in (self._talk, self._call)]
            for thread in self._threads:
                thread.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._stack.close()

    def _talk(self) -> None:
        try:
            while not self._stop.is_set():
                self.console.sendline(f"echo tick-{self.said}-")
                self.console.expect(rf"\ntick-{self.said}-\r", timeout=WAIT_S)
                self.said += 1
                self._stop.wait(0.02)
        except Exception as error:  # noqa: BLE001 - told by `check`
            self._failures.append(error)

    def _call(self) -> None:
        while not self._stop.wait(0.02):
            try:
                self.dut.power.is_on()
                self.calls += 1
            except Exception as error:  # noqa: BLE001 - told by the test
                self.errors.append(error)
                self._stop.wait(0.2)

    def goes_on(self) -> None:
        """Wait until console and calls have."""
        said, calls = self.said, self.calls
        until(lambda: self._failures or (self.said > said + 5 and self.calls > calls + 5))
        assert not self._failures, self._failures

    def check(self) -> None:
        """Raises AssertionError unless the lease is held, no call has failed, the board was on all the time, and its
        console is recorded without a hole."""
        assert self.lease.lost is None
        assert not self.errors, self.errors
        assert not self._failures, self._failures
        said = self.said
        # A power cycle would begin the record anew, without the first ticks.
        text = self.console.read(since="boot").decode(errors="replace")
        ticks = [int(number) for number in re.findall(r"\ntick-(\d+)-\r", text)]
        assert ticks == list(range(len(ticks)))
        assert len(ticks) >= said


def simulated(dut: Any) -> Any:
    """The shell of a simulated board."""
    dut.storage.flash(b"soaked")
    dut.power.on()
    console = dut.serial
    console.expect("login: ", since="boot", timeout=WAIT_S)
    console.sendline("root")
    console.expect("# ")
    return console


def virtual(dut: Any) -> Any:
    """U-Boot's prompt."""
    dut.power.on()
    console = dut.console
    console.expect("autoboot", since="boot", timeout=WAIT_S)
    console.send("\n")
    console.expect("=> ")
    return console


PROMPTS = {"virtual-1": virtual}


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The stack, built and up."""
    stack = Stack()
    stack.compose("down", "--volumes", "--remove-orphans")
    begin = time.monotonic()
    stack.compose("build")
    _figures.append(f"build          {time.monotonic() - begin:.1f} s")
    try:
        _figures.append(f"up --wait      {stack.up():.1f} s")
        yield stack
    finally:
        stack.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "20")


@pytest.fixture(scope="session")
def alice(stack: Stack) -> Context:
    """A user on this host."""
    return stack.context("alice")


@pytest.fixture
def lab(alice: Context) -> Iterator[Lab]:
    """A connection of that user."""
    with connect(context=alice) as lab:
        yield lab


@pytest.fixture
def soak(alice: Context) -> Callable[[str], Soak]:
    """Makes a soak of an exporter."""
    return lambda exporter: Soak(alice, exporter, PROMPTS.get(exporter, simulated))


@pytest.fixture(scope="session")
def figure() -> Callable[[str], None]:
    """Takes a line for the end of the report."""
    return _figures.append


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures."""
    for line in _figures:
        terminalreporter.write_line(line)
