"""Several exporters in one process, each with a task of its own: one that fails or is taken over leaves the others be.

Plain asyncio tasks, cancelled once each: an exporter's `stop()` runs in the cancelled task and needs its awaits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from jsnats.schemas import (
    EXPORTER,
    BrokerUnfit,
    BrokerUnreachable,
    ConfigurationError,
    JsnatsError,
    LeasePolicy,
)
from jsnats.sdk import DEFAULT_URL, Context

from ._config import LoadedExporter
from ._exporter import Exporter, Spec

log = logging.getLogger("jsnats.agent")

FIRST_WAIT_S = 0.5
MAX_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Hosted:
    """An exporter to host, and the way into the broker for it."""

    spec: Spec
    context: Context


def hosted(loaded: LoadedExporter, context: Context, lease: LeasePolicy) -> Hosted:
    """What to host for an exporter of a file; `lease` holds if the file does not say."""
    spec = Spec(
        name=loaded.name,
        root=loaded.root,
        labels=loaded.labels,
        lease=loaded.lease or lease,
        auth=loaded.broker.auth and bool(context.seed),
        files=loaded.files,
        hooks=loaded.hooks,
    )
    return Hosted(spec, context)


def context_of(loaded: LoadedExporter, url: str | None, credentials: Path | None) -> Context:
    """The context of an exporter: `credentials` (a file, or a folder with exporter-NAME.json or NAME.json), else what
    its file names.

    Without either it connects without a credential. `url` replaces the address in them.
    Raises ConfigurationError for a file that is not there or belongs to another.
    """
    path = _credentials(credentials, loaded.name) if credentials else loaded.broker.credentials
    url = url or loaded.broker.url
    if path is None:
        return Context(url=url or DEFAULT_URL, name=loaded.name, role=EXPORTER)
    found = Context.load(path)
    if (found.name, found.role) != (loaded.name, EXPORTER):
        raise ConfigurationError(
            f"{path} is for {found.role} {found.name!r}, not for exporter {loaded.name!r}: "
            f"`jsnats auth add exporter {loaded.name}` writes the right one"
        )
    return Context(url=url or found.url, name=found.name, role=found.role, seed=found.seed)


def _credentials(path: Path, name: str) -> Path:
    if not path.is_dir():
        return path
    written = path / f"{EXPORTER}-{name}.json"  # as a lab's own folder has it
    return written if written.exists() else path / f"{name}.json"


class Agent:
    """The exporters of this process. `failures` says by name which do not run, and why.

    A `patient` one waits for a broker that is not there.
    """

    def __init__(self, *, patient: bool) -> None:
        self.failures: dict[str, JsnatsError] = {}
        self.running: dict[str, Exporter] = {}
        self._patient = patient
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Condition()

    def start(self, each: Hosted) -> None:
        """Begin to host an exporter, one that is new or has been stopped."""
        name = each.spec.name
        self.failures.pop(name, None)
        # No TaskGroup: it would wrap what the body of `hosting` raises, and no task of these raises anything.
        self._tasks[name] = asyncio.create_task(self._host(each), name=name)

    async def stop(self, names: Iterable[str]) -> None:
        """Stop exporters, all in parallel, until `start` or `forget`."""
        tasks = [self._tasks[name] for name in names if name in self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def forget(self, name: str) -> None:
        """An exporter that was stopped will not come back."""
        async with self._changed:
            self._tasks.pop(name, None)
            self.failures.pop(name, None)
            self._changed.notify_all()

    @property
    def hosted(self) -> list[str]:
        """The names of all, running or not."""
        return list(self._tasks)

    async def settled(self) -> None:
        """Wait until each exporter runs or has failed."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.running) + len(self.failures) == len(self._tasks))

    async def ended(self) -> None:
        """Wait until none is left."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.failures) == len(self._tasks))

    def failure(self) -> JsnatsError:
        """The failures as one error: the only one, or a ConfigurationError that lists them by name."""
        if len(self.failures) == 1:
            return next(iter(self.failures.values()))
        faults = [f"{name}: {error}" for name, error in self.failures.items()]
        return _Failures("\n".join([f"{len(faults)} exporters do not run:", *faults]), faults, self.failures)

    async def _host(self, each: Hosted) -> None:
        """Run one exporter until it fails, is taken over, or this task is cancelled."""
        try:
            await self._serve(each)
        except (JsnatsError, TimeoutError) as error:
            await self._fail(each.spec.name, _named(error, each))
        except Exception as error:
            log.exception("exporter %s", each.spec.name)
            await self._fail(each.spec.name, JsnatsError(f"{type(error).__name__}: {error}"))

    async def _serve(self, each: Hosted) -> None:
        name = each.spec.name
        exporter = Exporter(each.spec, each.context)
        try:
            await _start(exporter, self._patient)
            async with self._changed:
                self.running[name] = exporter
                self._changed.notify_all()
            await exporter.lost.wait()
        finally:
            self.running.pop(name, None)
            await exporter.stop()
        raise exporter.error

    async def _fail(self, name: str, error: JsnatsError) -> None:
        async with self._changed:
            self.failures[name] = error
            if len(self.failures) < len(self._tasks):  # the last one is told by who waits for the end
                log.error("exporter %s does not run, the others go on: %s", name, error)
            self._changed.notify_all()


class _Failures(ConfigurationError):
    """Several exporters do not run; the exit code is that of the first."""

    def __init__(self, message: str, faults: list[str], failures: Mapping[str, JsnatsError]) -> None:
        super().__init__(message, faults)
        self.exit_code = next(iter(failures.values())).exit_code  # type: ignore[misc]


def _named(error: Exception, each: Hosted) -> JsnatsError:
    if isinstance(error, JsnatsError):
        return error
    return BrokerUnreachable(f"the broker at {each.context.url} does not answer")


async def _start(exporter: Exporter, patient: bool) -> None:
    """Start it; a patient one waits for a broker that is not there or not prepared yet."""
    wait_s = FIRST_WAIT_S
    while True:
        try:
            await exporter.start()
            return
        except (BrokerUnreachable, BrokerUnfit, TimeoutError) as error:
            if not patient:
                raise
            reason = str(error) or f"the broker at {exporter.context.url} does not answer"
            log.warning("exporter %s: %s; trying again in %g s", exporter.spec.name, reason, wait_s)
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, MAX_WAIT_S)


@asynccontextmanager
async def hosting(all_hosted: Sequence[Hosted], *, patient: bool = False) -> AsyncIterator[Agent]:
    """Host exporters for as long as the `async with`; all start and stop in parallel.

    A `patient` one waits for its broker. What fails is found in `Agent.failures`.
    """
    agent = Agent(patient=patient)
    for each in all_hosted:
        agent.start(each)
    try:
        yield agent
    finally:
        await agent.stop(agent.hosted)


async def run_exporters(all_hosted: Sequence[Hosted]) -> None:
    """Host exporters until cancelled, waiting for their brokers. Raises what failed when none is left."""
    async with hosting(all_hosted, patient=True) as agent:
        await agent.ended()
        raise agent.failure()
