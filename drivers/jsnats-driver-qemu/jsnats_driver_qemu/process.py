"""One run of QEMU: a process that does not outlive this one, and its monitor (QMP).

The monitor is a pair of sockets of which QEMU inherits one: there is no path that others could open, nothing to wait
for, and its end is the end of QEMU.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import anyio
from qemu.qmp import ExecuteError, QMPClient, QMPError

from jsnats.sdk import leashed

log = logging.getLogger("jsnats.driver.qemu")
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)  # what goes wrong is raised here as well

START_S: Final = 30.0
"""How long QEMU may take until its monitor answers."""
QUIT_S: Final = 5.0
"""How long QEMU may take to close its disks before it is killed."""
POLL_S: Final = 0.02
LINES: Final = 12
KEPT: Final = 4096
"""So much of what QEMU wrote last, in lines and bytes, is kept to say why it ended."""

_PACKAGES: Final = {
    "qemu-img": "qemu-utils",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-riscv64": "qemu-system-misc",
    "qemu-system-x86_64": "qemu-system-x86",
}


def program(name: str) -> str:
    """Path of one of QEMU's programs. Raises FileNotFoundError with the package to install."""
    if found := shutil.which(name):
        return found
    raise FileNotFoundError(f"{name} is not installed: on Debian, apt-get install {_PACKAGES[name]}")


async def spawn(command: Sequence[str], pass_fds: Iterable[int] = ()) -> asyncio.subprocess.Process:
    """Start one of QEMU's programs, which is killed when this process dies (Linux). Its stderr is a pipe."""
    argv = leashed([program(command[0]), *command[1:]])
    return await asyncio.create_subprocess_exec(
        *argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=tuple(pass_fds),
        start_new_session=True,
    )  # fmt: skip


async def qemu_img(*arguments: str) -> None:
    """Run qemu-img; killed if that is cancelled. Raises OSError with its own words."""
    process = await spawn(["qemu-img", *arguments])
    try:
        _, said = await process.communicate()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await _kill(process)
        raise
    if process.returncode:
        raise OSError(said.decode(errors="replace").strip().removeprefix("qemu-img: "))


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    await process.wait()


class Run:
    """QEMU, from its start to its end. Made by `open`. `stopped` says that its end was asked for here."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self.stopped = False
        self._process = process
        self._qmp = QMPClient()
        self._connected = False
        self._said = b""
        self._listening = asyncio.create_task(self._listen(), name=f"qemu-{process.pid}")

    @classmethod
    async def open(cls, command: Sequence[str], console: socket.socket) -> Run:
        """Start QEMU with this command line and its end of the console, and wait until it runs.

        Raises FileNotFoundError without QEMU, OSError with its own words if it does not start, TimeoutError.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            monitor = f"socket,id=qmp,fd={theirs.fileno()}"
            serial = f"socket,id=console,fd={console.fileno()}"
            command = [*command, "-chardev", monitor, "-mon", "qmp,mode=control", "-chardev", serial]
            run = cls(await spawn([*command, "-serial", "chardev:console"], (theirs.fileno(), console.fileno())))
            theirs.close()
            try:
                await run._connect(ours.dup())
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await run.kill()
                raise
        return run

    async def _connect(self, monitor: socket.socket) -> None:
        try:
            async with asyncio.timeout(START_S):
                await self._qmp.connect(monitor)
                self._connected = True
                await self._qmp.execute("query-status")
        except QMPError as error:
            await self.ended()
            raise OSError(f"QEMU did not start: {self.last_words}") from error
        except TimeoutError as error:
            raise TimeoutError(f"QEMU did not start within {START_S:g} s") from error

    async def _listen(self) -> None:
        """Keep what QEMU says until it has ended."""
        assert self._process.stderr
        while data := await self._process.stderr.read(KEPT):
            self._said = (self._said + data)[-KEPT:]
        await self._process.wait()
        await self._disconnect()

    async def _disconnect(self) -> None:
        """Once: QMPClient breaks when two tasks do it, of which its own `connect` may be one."""
        if self._connected:
            self._connected = False
            with suppress(QMPError, OSError, EOFError):
                await self._qmp.disconnect()

    async def ended(self) -> None:
        """Wait for its end."""
        await asyncio.shield(self._listening)

    @property
    def alive(self) -> bool:
        """Whether it runs, as far as is known."""
        return self._process.returncode is None

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs; negative for a signal."""
        return self._process.returncode

    @property
    def last_words(self) -> str:
        """How it ended, with what it wrote last."""
        lines = self._said.decode(errors="replace").splitlines()[-LINES:]
        return ": ".join(filter(None, (_how(self._process.returncode), " / ".join(lines))))

    async def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Give a command to the monitor.

        Raises OSError for one that QEMU refuses, ConnectionError when QEMU ends meanwhile.
        """
        try:
            return await self._qmp.execute(command, arguments)
        except ExecuteError as error:
            raise OSError(f"QEMU refuses {command}: {error}") from error
        except QMPError as error:
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIT_S):
                    await self.ended()
            raise ConnectionError(f"QEMU ended: {self.last_words}") from error

    async def job(self, command: str, **arguments: Any) -> None:
        """Do something that QEMU does as a job, and wait for its end. Raises as `execute`, OSError if it failed."""
        async with self._job(command, arguments) as job:
            while job["status"] != "concluded":
                await asyncio.sleep(POLL_S)
                job = next(each for each in await self.execute("query-jobs") if each["id"] == job["id"])
        if "error" in job:
            raise OSError(f"{command} failed: {job['error']}")

    @asynccontextmanager
    async def _job(self, command: str, arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        name = f"job-{os.urandom(4).hex()}"
        await self.execute(command, {"job-id": name, **arguments})
        try:
            yield {"id": name, "status": "created"}
        finally:
            with anyio.move_on_after(QUIT_S, shield=True), suppress(OSError):
                await self.execute("job-dismiss", {"id": name})

    async def stop(self) -> None:
        """Cut its power: the guest is not asked, the disks are closed. After QUIT_S, or cancelled, it is killed."""
        self.stopped = True
        try:
            async with asyncio.timeout(QUIT_S):
                await self.execute("quit")
                await self.ended()
        except OSError as error:
            log.debug("killed, as it did not quit: %s", error)
        finally:
            with anyio.CancelScope(shield=True):
                await self.kill()

    async def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        await _kill(self._process)
        await self.ended()
        await self._disconnect()


def _how(code: int | None) -> str:
    if code is None:
        return "its monitor closed"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
