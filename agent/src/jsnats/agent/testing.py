"""For tests: `conformance_tests` of any driver; for those of the core a driver with one of everything, and an agent in
a process of its own that can be killed."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Self

import anyio
from anyio.streams.stapled import StapledObjectStream
from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from jsnats.driver import Console, Driver, export, exportstream

from ._conformance import check_driver, conformance_tests

__all__ = ["AgentProcess", "Bench", "Board", "SocketConsole", "check_driver", "conformance_tests"]


def _never(value: int) -> int:
    raise RuntimeError(f"the check of {value} is broken")


@dataclass(kw_only=True, eq=False)
class Bench(Driver):
    """Exports one method of each kind. `finished` counts generators that were ended, in whatever way."""

    finished: int = 0
    produced: int = 0
    runs: int = 0
    closed: int = 0
    sleeping: int = 0
    opened: int = 0

    @classmethod
    def client(cls) -> str:
        """No class of its own: the methods are the test."""
        return "jsnats.client.DynamicClient"

    @export
    async def ping(self, value: Any = None) -> Any:
        """Return `value`."""
        return value

    @export
    def sync_ping(self, value: Any = None) -> Any:
        """Return `value`, from the driver's thread."""
        return value

    @export
    async def sleep(self, seconds: float) -> str:
        """Take that long."""
        self.sleeping += 1
        await asyncio.sleep(seconds)
        return "slept"

    @export
    def block(self, seconds: float) -> str:
        """Take that long on the driver's thread."""
        time.sleep(seconds)
        return "blocked"

    @export
    async def run_count(self) -> int:
        """How often this method has run, this time included."""
        self.runs += 1
        return self.runs

    @export
    async def clock(self) -> float:
        """Unix time here, in seconds."""
        return time.time()

    @export
    async def fail(self, kind: str, text: str = "it broke") -> None:
        """Raise the builtin exception of that name."""
        raise {error.__name__: error for error in _RAISABLE}[kind](text)

    @export
    async def fail_with_surrogate(self) -> None:
        """Raise with a text that UTF-8 cannot say."""
        raise OSError("no such file: caf\udce9")

    @export
    async def judge(self, value: Annotated[int, AfterValidator(_never)]) -> int:
        """Take no value: the check of the argument breaks."""
        return value

    @export
    async def count(self, n: int, pause: float = 0.0, size: int = 0) -> AsyncGenerator[Any, None]:
        """Yield 0 to n-1, with `size` bytes beside each when asked, `pause` seconds apart."""
        try:
            for i in range(n):
                if pause:
                    await asyncio.sleep(pause)
                self.produced = i + 1
                yield [i, b"x" * size] if size else i
        finally:
            self.finished += 1

    @export
    def sync_count(self, n: int, pause: float = 0.0) -> Generator[int, None, None]:
        """As `count`, from a thread."""
        try:
            for i in range(n):
                if pause:
                    time.sleep(pause)
                yield i
        finally:
            self.finished += 1

    @export
    async def ended(self) -> int:
        """How many generators have ended here."""
        return self.finished

    @export
    async def ahead(self) -> int:
        """How many items `count` has made so far."""
        return self.produced

    @export
    async def size(self, data: bytes) -> int:
        """Number of bytes that arrived."""
        return len(data)

    @export
    async def make(self, size: int) -> bytes:
        """That many bytes."""
        return bytes(size)

    @export
    async def work(self, steps: int, pause: float = 0.0) -> int:
        """Report progress for each step."""
        for step in range(steps):
            self.report_progress(step + 1, steps, f"step {step + 1}")
            await asyncio.sleep(pause)
        return steps

    @exportstream
    @asynccontextmanager
    async def connect(self, greeting: str = "") -> AsyncGenerator[Any, None]:
        """Send back what comes, message by message."""
        ends = anyio.create_memory_object_stream[bytes](32)
        try:
            async with StapledObjectStream(*ends) as stream:
                self.opened += 1
                yield stream, {"greeting": greeting}
        finally:
            self.finished += 1

    @exportstream
    @asynccontextmanager
    async def tcp(self, port: int) -> AsyncGenerator[Any, None]:
        """Bytes to and from a TCP port of this host."""
        try:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                yield stream
        finally:
            self.finished += 1

    @exportstream
    @asynccontextmanager
    async def broken(self) -> AsyncGenerator[Any, None]:
        """Open, and break."""
        ends = anyio.create_memory_object_stream[bytes](1)
        async with StapledObjectStream(*ends) as stream:
            yield stream
            raise OSError("the cable is out")

    def close(self) -> None:
        """Count the ends of leases."""
        self.closed += 1


@dataclass(kw_only=True, eq=False)
class Board(Bench):
    """A Bench with power, which remembers what it is told, and a method that hangs until `go` is set."""

    power: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.told: list[str] = []
        self.hangs = threading.Event()
        self.go = threading.Event()

    @export
    async def on(self) -> None:
        """Switch on."""
        self.power = True

    @export
    async def is_on(self) -> bool:
        """Whether it is on."""
        return self.power

    @export
    def hang(self) -> None:
        """Hold the thread."""
        self.hangs.set()
        self.go.wait(30)

    def go_after(self, seconds: float) -> None:
        """Let what hangs go, a little later."""
        threading.Timer(seconds, self.go.set).start()

    def reset(self) -> None:
        """Begin a lease."""
        self.told.append("reset")

    def close(self) -> None:
        """Switch off."""
        self.told.append("close")
        self.power = False


@dataclass(kw_only=True, eq=False)
class SocketConsole(Console):
    """A console whose device is the Unix socket named by JSNATS_TEST_CONSOLE: for an agent in another process."""

    async def open(self) -> anyio.abc.SocketStream:
        """Connect."""
        return await anyio.connect_unix(os.environ["JSNATS_TEST_CONSOLE"])


_RAISABLE = (
    ValueError,
    NotImplementedError,
    TimeoutError,
    ConnectionError,
    OSError,
    RuntimeError,
    SystemExit,
    KeyError,
)


class AgentProcess:
    """An agent in a process of its own, serving one driver under `name` with the context file `context`."""

    def __init__(
        self,
        name: str,
        context: Path,
        driver: str = "jsnats.agent.testing:Bench",
        clock_offset_s: float = 0.0,
        lease: str = "if-held",
    ) -> None:
        self.name = name
        command = [sys.executable, "-m", "jsnats.agent.testing", name, str(context), driver, str(clock_offset_s), lease]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.greeting = self._process.stdout.readline().strip()

    @property
    def pid(self) -> int:
        """Of the agent."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self.wait()

    def freeze(self) -> None:
        """SIGSTOP: connected, and silent."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> int:
        """Wait for its end; return the exit code."""
        code = self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()
        return code


async def _serve(name: str, context: str, driver: str, lease: Any) -> None:
    from jsnats.schemas import JsnatsError
    from jsnats.sdk import Context

    from ._exporter import Exporter, Spec

    module, _, cls = driver.partition(":")
    root = getattr(importlib.import_module(module), cls)()
    try:
        async with Exporter(Spec(name=name, root=root, lease=lease), Context.load(Path(context))) as exporter:
            print("ready", flush=True)
            await exporter.lost.wait()
            print("lost", flush=True)
    except JsnatsError as error:
        print(error, flush=True)
        raise SystemExit(error.exit_code) from None


def _shift_clock(offset_s: float) -> None:
    """Put this process's wall clock `offset_s` off, for tests of deadlines."""
    real = time.time
    time.time = lambda: real() + offset_s


if __name__ == "__main__":
    threading.current_thread().name = "agent"
    if float(sys.argv[4]):
        _shift_clock(float(sys.argv[4]))
    asyncio.run(_serve(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[5]))
