"""`jsnats up`: a broker, exporters and a shell in one process, gone without a trace when the shell ends."""

from __future__ import annotations

import getpass
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jsnats.broker import BROKER, run_broker
from jsnats.schemas import EXPORTER, USER, BrokerError, ConfigurationError, JsnatsError
from jsnats.sdk import Context, default_path, find_context, open_connection
from jsnats.sdk.cli import Session, run_session, until_signal

from ._agent import Agent, Hosted, context_of, hosted, hosting
from ._config import LoadedExporter
from ._up_directory import lab_directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `jsnats up` was asked for. `url` and `context` name a broker, neither means one of our own; `directory`
    is where that keeps its lab, None for a temporary one; an empty `command` is a shell."""

    url: str | None = None
    context: Path | None = None
    directory: Path | None = None
    command: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Lab:
    user: Context
    user_file: Path
    exporters: list[Hosted]


async def up(loaded: Sequence[LoadedExporter], plan: Plan) -> int:
    """Run the lab around the command and return the command's exit code.

    A signal before the command runs ends everything and gives 128 + its number. Raises JsnatsError.
    """
    return await until_signal(_up(loaded, plan))


async def _up(loaded: Sequence[LoadedExporter], plan: Plan) -> int:
    named_by = _broker_named_by(loaded, plan)
    lab_of = _external if named_by else _embedded
    async with lab_of(loaded, plan) as lab, hosting(lab.exporters) as agent:
        await agent.settled()
        if agent.failures:
            failure = agent.failure()
            raise _explained(failure, named_by) if isinstance(failure, BrokerError) else failure
        session = Session(context=lab.user_file, url=lab.user.url, exporter=loaded[0].name)
        if not plan.command:
            _greet(agent, session, [each.name for each in loaded])
            if not sys.stdin.isatty():
                await agent.ended()
                raise agent.failure()
        return await run_session(session, plan.command)


def _broker_named_by(loaded: Sequence[LoadedExporter], plan: Plan) -> str:
    """What says that there is a broker already, "" for nothing."""
    names = {
        "--nats or JSNATS_URL": plan.url or os.environ.get("JSNATS_URL"),
        "--context or JSNATS_CONTEXT": plan.context or os.environ.get("JSNATS_CONTEXT"),
        "the exporter's file": any(each.broker.url for each in loaded),
    }
    return " and ".join(name for name, value in names.items() if value)


def _explained(failure: JsnatsError, named_by: str) -> JsnatsError:
    """A variable that was exported is forgotten; the broker that it names is a surprise then."""
    if not named_by:
        return failure
    message = f"{failure} (this broker is named by {named_by}; without, `jsnats up` runs one of its own)"
    return type(failure)(message)


def _greet(agent: Agent, session: Session, names: Sequence[str]) -> None:
    exporters = ", ".join(f"{name} ({len(agent.running[name].nodes) - 1} drivers)" for name in names)
    here = f"j: {names[0]} (JSNATS_EXPORTER={names[1]} j ... for another)" if names[1:] else "j --help"
    end = "leave the shell to end it" if sys.stdin.isatty() else "Ctrl-C ends it"
    print(f"lab        {session.url}  ({end})", file=sys.stderr)
    print(f"exporters  {exporters}", file=sys.stderr)
    print(f"here       {here}", file=sys.stderr)
    print(f"elsewhere  jsnats --context {session.context} ls", file=sys.stderr)


# ------------------------------------------------------------------ a broker of our own


@asynccontextmanager
async def _embedded(loaded: Sequence[LoadedExporter], plan: Plan) -> AsyncIterator[_Lab]:
    with lab_directory(plan.directory) as directory:
        async with run_broker(directory) as broker:
            exporters = [hosted(each, await broker.add(EXPORTER, each.name), "if-held") for each in loaded]
            user = await broker.add(USER, _user_name(loaded))
            file = broker.lab.context_path(user.name)
            async with _default_context(file):
                yield _Lab(user, file, exporters)


def _user_name(loaded: Sequence[LoadedExporter]) -> str:
    """The login name; users and exporters share one namespace of names."""
    try:
        name = os.environ.get("JSNATS_USER") or getpass.getuser()
    except (KeyError, OSError):
        name = "user"
    taken = {each.name for each in loaded} | {BROKER, "system"}
    return f"{name}@up" if name in taken else name


@asynccontextmanager
async def _default_context(file: Path) -> AsyncIterator[None]:
    """Be the lab that `jsnats ls` finds in any other terminal, unless one is found already.

    A symbolic link: a context file that somebody put there is never touched, and what a killed `up` left is known by
    leading to no live broker.
    """
    path = default_path()
    if _is_own(path) or await _is_live(path):
        yield
        return
    _link(path, file)
    try:
        yield
    finally:
        _unlink(path, file)


def _is_own(path: Path) -> bool:
    return path.exists() and not path.is_symlink()


async def _is_live(path: Path) -> bool:
    try:
        connection = await open_connection(Context.load(path), name="jsnats up", timeout_s=1.0)
    except (BrokerError, ConfigurationError):
        return False
    await connection.close()
    return True


def _link(path: Path, file: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(file)


def _unlink(path: Path, file: Path) -> None:
    with suppress(OSError):
        if path.readlink() == file:
            path.unlink()


# ------------------------------------------------------------------ a broker that was named


@asynccontextmanager
async def _external(loaded: Sequence[LoadedExporter], plan: Plan) -> AsyncIterator[_Lab]:
    url = (
        plan.url or os.environ.get("JSNATS_URL") or next((each.broker.url for each in loaded if each.broker.url), None)
    )
    try:
        user = find_context(url, plan.context)
    except ConfigurationError as error:
        raise _explained(error, _broker_named_by(loaded, plan)) from None
    exporters = [hosted(each, context_of(each, user.url, None), "if-held") for each in loaded]
    with tempfile.TemporaryDirectory(prefix="jsnats-up-") as folder:
        file = Path(folder) / "context.json"
        user.save(file)
        yield _Lab(user, file, exporters)
