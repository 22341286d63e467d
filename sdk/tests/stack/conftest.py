"""The stack of compose.yaml, built and started once for all its tests, and boards that are soaked in it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from jsnats.broker.testing import Stack
from jsnats.sdk import Context, Lab, connect
from jsnats.testing import until

ROOT = Path(__file__).resolve().parents[3]
PORTS = {"cluster": 100, "devices": 200}
"""How far those of a profile are from those of the stack: they may run beside each other."""
FILES = ("compose.yaml", "sdk/tests/stack/counting.yaml")
WAIT_S = 60.0

_figures: list[str] = []


class Soak:
    """A board in use until the end of the block: leased, on, its console asked in lockstep, its method called; where it
    has a counter, that is called too, and a stream of its numbers read.

    `errors` are those of calls; a console or a stream in which something is lost or comes twice fails at the end of the
    block.
    """

    def __init__(self, context: Context, exporter: str, prompt: Callable[[Any], Any]) -> None:
        self.exporter = exporter
        self.said = self.calls = self.items = 0
        self.errors: list[Exception] = []
        self._prompt = prompt
        self._context = context
        self._stop = threading.Event()
        self._failures: list[Exception] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.lab = stack.enter_context(connect(context=self._context))
            self.lease = self.lab.lease(f"name={self.exporter}", duration="30m", wait="30s")
            board: Any = stack.enter_context(self.lease)
            self.dut: Any = board.dut
            self.counter: Any = getattr(board, "counter", None)
            self.console = self._prompt(self.dut)
            work = [self._talk, self._call, *([self._read] if self.counter else [])]
            self._threads = [threading.Thread(target=self._noted, args=[each]) for each in work]
            for thread in self._threads:
                thread.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._stack.close()

    def _noted(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - told by `check`
            self._failures.append(error)

    def _talk(self) -> None:
        while not self._stop.wait(0.02):
            self.console.sendline(f"echo tick-{self.said}-")
            self.console.expect(rf"\ntick-{self.said}-\r", timeout=WAIT_S)
            self.said += 1

    def _call(self) -> None:
        begin = self.counter.call("run_count") if self.counter else 0
        while not self._stop.wait(0.02):
            try:
                self.dut.power.is_on()
                if self.counter:
                    count = self.counter.call("run_count")
                    assert count == begin + self.calls + 1, f"{self.calls + 1} calls were run as {count - begin}"
                self.calls += 1
            except Exception as error:  # noqa: BLE001 - told by the test
                self.errors.append(error)
                self._stop.wait(0.2)

    def _read(self) -> None:
        for item in self.counter.streamingcall("count", 1_000_000, 0.01):
            assert item == self.items, f"item {item} came for {self.items}"
            self.items += 1
            if self._stop.is_set():
                return

    def goes_on(self) -> None:
        """Wait until console, calls and stream have."""
        before = self._progress()
        until(
            lambda: self._failures or all(now > then + 5 for now, then in zip(self._progress(), before, strict=True)),
            WAIT_S,
        )
        assert not self._failures, self._failures

    def _progress(self) -> list[int]:
        return [self.said, self.calls, *([self.items] if self.counter else [])]

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


@contextmanager
def running(stack: Stack, *services: str) -> Iterator[Stack]:
    """Start it, and leave nothing of it."""
    stack.down()
    try:
        _figures.append(f"up --wait      {stack.up(*services):.1f} s, {stack.name}")
        yield stack
    finally:
        stack.down()


@pytest.fixture(scope="session")
def built() -> None:
    """The images."""
    begin = time.monotonic()
    Stack(ROOT, "jsnats-test").compose("build")
    _figures.append(f"build          {time.monotonic() - begin:.1f} s")


@pytest.fixture(scope="session")
def stack(built: None) -> Iterator[Stack]:
    """The stack, built and up."""
    with running(Stack(ROOT, "jsnats-test", *FILES)) as stack:
        yield stack


@pytest.fixture(scope="session")
def profile(built: None) -> Callable[..., AbstractContextManager[Stack]]:
    """Runs another stack beside it, in a profile; `settings` are variables of compose.yaml."""

    def run(name: str, *services: str, **settings: str) -> AbstractContextManager[Stack]:
        settings = {"COMPOSE_PROFILES": name} | settings
        return running(Stack(ROOT, f"jsnats-test-{name}", *FILES, shift=PORTS[name], **settings), *services)

    return run


@pytest.fixture(scope="session")
def alice(stack: Stack) -> Context:
    """A user on this host."""
    return stack.add("user", "alice")


@pytest.fixture
def lab(alice: Context) -> Iterator[Lab]:
    """A connection of that user."""
    with connect(context=alice) as lab:
        yield lab


def soaked(context: Context, exporter: str) -> Soak:
    """A soak of an exporter."""
    return Soak(context, exporter, PROMPTS.get(exporter, simulated))


@pytest.fixture
def soak(alice: Context) -> Callable[[str], Soak]:
    """Makes a soak of an exporter of the stack."""
    return partial(soaked, alice)


@pytest.fixture(scope="session")
def soak_as() -> Callable[[Context, str], Soak]:
    """The same of another stack."""
    return soaked


@pytest.fixture(scope="session")
def figure() -> Callable[[str], None]:
    """Takes a line for the end of the report."""
    return _figures.append


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures."""
    for line in _figures:
        terminalreporter.write_line(line)
