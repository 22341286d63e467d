"""What a driver does behind a real broker: bad arguments, leases that come and go, callers that give up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Any, Final

from jsnats.client import Channel
from jsnats.common.utils import session_broker
from jsnats.driver import Driver, Method
from jsnats.schemas import (
    BlobNotFound,
    CallCancelled,
    CallError,
    DriverError,
    InvalidArgument,
    MethodRecord,
    NodeRecord,
)
from jsnats.sdk import Options, connect_async

from ._audit import Bound
from ._exporter import Exporter, Spec
from ._resources import FileSettings
from ._runner import runner_of
from ._samples import misfits, samples
from ._table import OpenCall

NAME: Final = "conformance"
RUN_S: Final = 0.1
"""How long a method may run before its caller gives up."""
END_S: Final = 5.0
"""How long it may take to end then, and how long a call may take to begin."""


class _Bench:
    """A served driver, its caller, and the calls that have reached it."""

    def __init__(self, exporter: Exporter, channel: Channel, nodes: list[NodeRecord]) -> None:
        self.exporter = exporter
        self.channel = channel
        self.nodes = {node.path: node for node in nodes}
        self.file = ""
        self.calls: asyncio.Queue[OpenCall] = asyncio.Queue()
        self.closed = False
        executor = exporter.dispatcher.executor
        start = executor.start

        def watched(call: OpenCall, bound: Bound, deadline: float | None) -> None:
            self.calls.put_nowait(call)
            if self.closed:
                raise CallCancelled("not run: its arguments should have been refused")
            start(call, bound, deadline)

        executor.start = watched  # type: ignore[method-assign]

    def methods(self) -> Iterator[tuple[str, str, Method]]:
        """Name with path, path and method of all there are."""
        for node in self.exporter.nodes.values():
            for method in node.methods.values():
                yield f"{node.path}.{method.name}".lstrip("."), node.path, method

    async def call(self, path: str, method: Method, arguments: Any) -> None:
        """Call, and take what comes until it ends: an open byte stream does not."""
        args, kwargs = ((), arguments) if isinstance(arguments, Mapping) else (arguments, {})
        to = (self.nodes[path], method.name, args, kwargs, Options())
        if method.kind == "stream":
            async for _ in (await self.channel.stream(*to)).batches():
                pass
        elif method.kind == "bytes":
            stream = await self.channel.open_stream(*to)
            try:
                await asyncio.Event().wait()
            finally:
                await stream.aclose()
        else:
            await self.channel.call(*to)


@asynccontextmanager
async def _served(driver: Driver) -> AsyncIterator[_Bench]:
    broker = session_broker()
    _let_in()
    files = FileSettings(cache=broker.directory / "cache")
    async with (
        Exporter(Spec(name=NAME, root=driver, files=files), broker.context(NAME)) as exporter,
        connect_async(context=broker.context("tester")) as lab,
    ):
        bench = _Bench(exporter, Channel(lab, NAME), (await lab.tree(NAME)).nodes)
        bench.file = (await lab.blobs.put(bytes(1000), name=NAME)).handle
        yield bench


@cache
def _let_in() -> None:
    session_broker().add("exporter", NAME)


# ------------------------------------------------------------------ bad arguments


async def refusal_faults(driver: Driver, arguments: Mapping[str, Any], skip: Mapping[str, str]) -> list[str]:
    """Arguments that do not fit are refused with InvalidArgument, and the driver is not called. No method is run."""
    faults: list[str] = []
    async with _served(driver) as bench:
        bench.closed = True
        for name, path, method in bench.methods():
            for what, bad in _bad(method.record, arguments.get(name)):
                if fault := await _refused(bench, path, method, bad):
                    faults.append(f"{name}: {what}: {fault}")
    return faults


def _bad(record: MethodRecord, given: Any) -> Iterator[tuple[str, Any]]:
    params = record.params
    good = given if isinstance(given, Mapping) else samples(params)
    if params.get("additionalProperties") is False:
        yield "an unknown argument", {**good, "no_such_argument": 1}
    if "x-var-positional" not in params:
        yield "too many arguments", [None] * (len(params["properties"]) + 1)
    for name, value in misfits(params).items():
        yield f"{value!r} as {name!r}", {**good, name: value}


async def _refused(bench: _Bench, path: str, method: Method, bad: Any) -> str:
    try:
        async with asyncio.timeout(END_S):
            await bench.call(path, method, bad)
    except InvalidArgument:
        return "" if bench.calls.empty() else _taken(bench)
    except (CallError, TimeoutError) as error:
        return _taken(bench) if not bench.calls.empty() else f"{type(error).__name__} instead of InvalidArgument"
    return _taken(bench)


def _taken(bench: _Bench) -> str:
    while not bench.calls.empty():
        bench.calls.get_nowait()
    return "reaches the driver: give the parameter a type that refuses it"


# ------------------------------------------------------------------ leases


async def lifecycle_faults(driver: Driver, arguments: Mapping[str, Any], skip: Mapping[str, str]) -> list[str]:
    """It can be reset twice and closed twice, and reset once more after that."""
    async with _served(driver) as bench:
        return [
            f"{path or type(each).__name__}: {fault}"
            for each, path in bench.exporter.drivers.own.items()
            for fault in await _leases(each)
        ]


async def _leases(driver: Driver) -> list[str]:
    faults = []
    for what, which in (
        ("reset", "first"),
        ("reset", "second"),
        ("close", "first"),
        ("close", "second"),
        ("reset", "third"),
    ):
        try:
            async with asyncio.timeout(2 * END_S):
                await runner_of(driver).lifecycle(what, END_S)
        except Exception as error:  # noqa: BLE001 - the driver's, whatever it is; it is reported
            faults.append(f"the {which} {what}() failed: {type(error).__name__}: {error}")
    return faults


# ------------------------------------------------------------------ cancel


async def cancel_faults(driver: Driver, arguments: Mapping[str, Any], skip: Mapping[str, str]) -> list[str]:
    """Each method ends soon after its caller has given up, and the next call of it is answered."""
    faults = []
    async with _served(driver) as bench:
        for name, path, method in bench.methods():
            if name in skip:
                continue
            given = arguments.get(name, samples(method.record.params, bench.file))
            fault = await _given_up(bench, path, method, given)
            if not fault and (fault := await _given_up(bench, path, method, given)):
                fault = f"the call after a cancelled one: {fault}"
            if fault:
                faults.append(f"{name}: {fault}")
    return faults


async def _given_up(bench: _Bench, path: str, method: Method, arguments: Any) -> str:
    """Call, give up after RUN_S if it still runs, and return what is wrong with how it ended."""
    caller = asyncio.create_task(bench.call(path, method, arguments))
    begun = asyncio.create_task(bench.calls.get())
    try:
        await asyncio.wait({caller, begun}, timeout=END_S, return_when=asyncio.FIRST_COMPLETED)
        if not begun.done():
            return _answer(caller) if caller.done() else f"does not begin within {END_S:g} s"
        task = begun.result().task
        await asyncio.wait({caller}, timeout=RUN_S)
    finally:
        begun.cancel()
        caller.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await caller
    if task and (await asyncio.wait({task}, timeout=END_S))[1]:
        return f"still runs {END_S:g} s after it was cancelled: let CancelledError through, and bound the clean-up"
    runner = runner_of(bench.exporter.nodes[path].driver)
    await runner.settle(END_S)
    if method.name in runner.left.values():
        return f"holds its thread {END_S:g} s after it was cancelled: wait in short steps, or skip it with a reason"
    return _answer(caller)


def _answer(caller: asyncio.Task[None]) -> str:
    error = None if caller.cancelled() else caller.exception()
    if isinstance(error, InvalidArgument):
        return f"say its arguments: the made-up ones are refused: {error.message}"
    if type(error) is DriverError:
        return f"raises what callers cannot tell apart: {error.message}: raise ValueError, OSError, TimeoutError, ..."
    if error is None or isinstance(error, (DriverError, BlobNotFound)):
        return ""
    return f"{type(error).__name__}: {error}"
