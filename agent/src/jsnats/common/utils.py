"""`serve()`: a driver behind a real broker, for tests. `env()`: the lab of the shell this script was started in."""

from __future__ import annotations

import atexit
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from jsnats.client import Channel, DriverClient, client_tree
from jsnats.schemas import ConfigurationError
from jsnats.sdk import Lab, connect, shared_bridge

if TYPE_CHECKING:
    from jsnats.broker.testing import TestBroker
    from jsnats.driver import Driver

_lock = threading.Lock()
_broker: TestBroker | None = None
_count = itertools.count(1)
_free: list[str] = []


def session_broker() -> TestBroker:
    """The broker that all `serve()` of this process share: real nats-server, roles on, stopped at exit."""
    global _broker
    from jsnats.broker.testing import running_broker

    with _lock:
        if _broker is None:
            stack = ExitStack()
            _broker = stack.enter_context(running_broker())
            _broker.add("user", "tester")
            atexit.register(stack.close)
        return _broker


@contextmanager
def serve(driver: Driver) -> Iterator[Any]:
    """Host `driver` in an exporter on a real broker and yield its client; close both at the end.

    The broker is started once for the process. Raises what starting the driver raises.
    """
    broker = session_broker()
    name = _take_name(broker)
    try:
        with _exporter(driver, broker, name), connect(context=broker.context("tester")) as lab:
            trusted = frozenset(type(each).client().partition(".")[0] for each in _all(driver))
            yield client_tree(lab.tree(name), Channel(lab.inner, name), trusted=trusted)
    finally:
        _free.append(name)


def _all(driver: Driver) -> list[Driver]:
    return [driver, *(below for child in driver.children.values() for below in _all(child))]


def _take_name(broker: TestBroker) -> str:
    with _lock:
        if _free:
            return _free.pop()
        name = f"serve-{next(_count)}"
    broker.add("exporter", name)
    return name


@contextmanager
def _exporter(driver: Driver, broker: TestBroker, name: str) -> Iterator[None]:
    from jsnats.agent import Exporter, FileSettings, Spec

    bridge = shared_bridge()

    files = FileSettings(cache=broker.directory / "cache")
    exporter = Exporter(Spec(name=name, root=driver, files=files), broker.context(name))
    bridge.run(exporter.__aenter__())
    try:
        yield
    finally:
        bridge.run(exporter.stop())


@contextmanager
def env() -> Iterator[DriverClient]:
    """The client tree of the exporter this shell works with: inside `jsnats up`, or with JSNATS_EXPORTER set.

    Raises ConfigurationError outside such a shell.
    """
    name = os.environ.get("JSNATS_EXPORTER")
    if not name:
        raise ConfigurationError("JSNATS_EXPORTER is not set: run this inside `jsnats up exporter.yaml -- COMMAND`")
    with connect() as lab:
        yield lab.exporter(name)


__all__ = ["Lab", "env", "serve", "session_broker"]
