"""The hooks of an exporter: scripts that run before and after each lease, on the exporter's own drivers.

A script runs in a process group of its own and nothing of it outlives it. What it prints is a part of the exporter's
log, line by line, so it is kept, streamed and replayed like the log of a driver.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jsnats.schemas import JsnatsError, LeaseRecord, unescape_user
from jsnats.sdk import Context

HookName = Literal["beforeLease", "afterLease"]
OnFailure = Literal["warn", "endLease", "exit"]

DEFAULT_TIMEOUT_S = 120.0
KILL_S = 2.0
"""How long after SIGTERM the processes of a hook have until SIGKILL."""
LINE = 16 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One script; `on_failure` says what comes of one that fails: nothing, the end of the lease, or of the exporter."""

    script: str
    timeout_s: float = DEFAULT_TIMEOUT_S
    on_failure: OnFailure = "warn"


class HookFailed(JsnatsError):
    """A hook did not end well. `policy` is what its file says of that."""

    exit_code = 1

    def __init__(self, message: str, policy: OnFailure) -> None:
        super().__init__(message)
        self.policy = policy


class Hooks:
    """Runs the hooks of one exporter, which has the context `context`. `emit` takes their events."""

    def __init__(
        self,
        exporter: str,
        hooks: Mapping[HookName, Hook],
        context: Context,
        emit: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self.exporter = exporter
        self.hooks = hooks
        self.context = context
        self._emit = emit
        self._log = logging.getLogger(f"jsnats.driver.{exporter}")

    async def run(self, name: HookName, lease: LeaseRecord) -> None:
        """Run that hook, if there is one. Raises HookFailed; cancelling kills it."""
        hook = self.hooks.get(name)
        if hook is None:
            return
        begin = time.monotonic()
        self._emit("hook.started", {"hook": name, "lease": lease.id})
        self._log.info("%s: begins for %s", name, unescape_user(lease.holder) or "a lease of before")
        code: int | None = None
        outcome = "cancelled"
        try:
            code = await self._script(name, hook, lease)
            outcome = "ok" if code == 0 else "timed out" if code is None else "failed"
        except (OSError, ValueError) as error:  # ValueError: what no argument or variable can hold
            outcome = f"not started: {error}"
        finally:
            seconds = round(time.monotonic() - begin, 3)
            told = {"hook": name, "lease": lease.id, "code": code, "seconds": seconds, "outcome": outcome}
            self._emit("hook.finished", told)
            self._log.log(logging.INFO if outcome == "ok" else logging.WARNING, "%s: %s", name, _told(told))
        if outcome != "ok":
            raise HookFailed(f"{name} hook failed: {_why(code, outcome, hook)}", hook.on_failure)

    async def _script(self, name: HookName, hook: Hook, lease: LeaseRecord) -> int | None:
        """The exit code, negative for a signal; None when its time was up."""
        with tempfile.TemporaryDirectory(prefix="jsnats-hook-") as folder:
            file = Path(folder) / "context.json"
            self.context.save(file)
            process = await asyncio.create_subprocess_exec(
                shutil.which("bash") or "sh",
                "-c",
                hook.script,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                env=self._environment(file, lease),
            )
            printing = asyncio.ensure_future(self._print(name, process))
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(hook.timeout_s):
                        return await process.wait()
                return None
            finally:
                await _kill_group(process)
                await asyncio.wait({printing}, timeout=KILL_S)
                printing.cancel()

    def _environment(self, file: Path, lease: LeaseRecord) -> dict[str, str]:
        return {
            **os.environ,
            "JSNATS_CONTEXT": str(file),
            "JSNATS_URL": self.context.url,
            "JSNATS_EXPORTER": self.exporter,
            "JSNATS_LEASE": lease.id,
            "JSNATS_HOLDER": unescape_user(lease.holder).replace("\0", "\N{REPLACEMENT CHARACTER}"),
            # `j` is beside the interpreter, whether or not its environment is active
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        }

    async def _print(self, name: HookName, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        rest = ""
        while data := await process.stdout.read(LINE):
            *lines, rest = (rest + decoder.decode(data)).split("\n")
            if len(rest) >= LINE:
                lines, rest = [*lines, rest], ""
            for line in lines:
                self._log.info("%s: %s", name, line.rstrip("\r"))
        if rest:
            self._log.info("%s: %s", name, rest)


async def _kill_group(process: asyncio.subprocess.Process) -> None:
    """End all processes of the group, those that outlived the script too."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM if process.returncode is None else signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(KILL_S):
            await process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):  # Python 3.11.8 and later wait for whoever still has its output, too
        async with asyncio.timeout(KILL_S):
            await process.wait()


def _why(code: int | None, outcome: str, hook: Hook) -> str:
    if outcome == "timed out":
        return f"it did not end within {hook.timeout_s:g} s"
    if code is None:
        return outcome
    return f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"


def _told(event: dict[str, Any]) -> str:
    code = f", exit code {event['code']}" if event["code"] else ""
    return f"{event['outcome']} after {event['seconds']:.1f} s{code}"
