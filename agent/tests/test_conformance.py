"""The conformance kit finds what it is for."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic.dataclasses import dataclass

from jsnats.agent import _conformance_live
from jsnats.agent._conformance import CHECKS, _Kit
from jsnats.agent._conformance_static import invalid
from jsnats.agent._samples import misfits, samples
from jsnats.agent._scaffold import NewDriver, create_driver
from jsnats.agent.testing import check_driver, conformance_tests
from jsnats.driver import Composite, Driver, export, exportstream, methods_of
from jsnats.schemas import RESOURCE_FORMAT


class Base(Driver):
    """Of all drivers below."""

    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DriverClient"


def faults(make: Any, check: str, **more: Any) -> list[str]:
    """What one check finds."""
    return _Kit(make=make, **more).faults(check)


def test_a_good_driver_has_no_faults() -> None:
    """The core's own driver passes all checks."""
    check_driver(Composite)


test_composite = conformance_tests(Composite)


def test_a_test_for_each_check() -> None:
    """pytest shows which check has failed."""
    (mark,) = conformance_tests(Composite).pytestmark  # type: ignore[attr-defined]
    assert mark.args == ("check", CHECKS)


class Bare(Base):
    @export
    async def on(self, wait):  # type: ignore[no-untyped-def]
        pass


def test_what_has_no_words_or_types() -> None:
    """A missing docstring, type of a parameter and type of a result are three faults, and the class has one too."""
    assert [each.split(": ")[:2] for each in faults(Bare, "schemas")] == [
        ["Bare", "has no docstring"],
        ["Bare.on", "has no docstring"],
        ["Bare.on", "parameter 'wait' has no type"],
        ["Bare.on", "has no type of its result"],
    ]


def test_a_schema_that_is_none() -> None:
    """Unknown types, references to nothing and required properties that are not there are found at any depth."""
    schema = {"type": "object", "properties": {"a": {"items": {"type": "int"}}, "b": {"$ref": "#/$defs/X"}}}
    assert list(invalid(schema | {"required": ["c"]}, schema)) == [
        "'c' is required and no property",
        "no type 'int'",
        "nothing at #/$defs/X",
    ]


class Loose(Base):
    """Takes anything."""

    called = False

    @export
    async def set(self, value: Any = None, *rest: Any, **more: Any) -> None:
        """Be called."""
        type(self).called = True

    @export
    async def limit(self, level: int, names: list[str]) -> None:
        """Be called."""
        type(self).called = True


def test_refusals_run_no_method() -> None:
    """Bad arguments are refused for each typed parameter, and what takes anything is not called."""
    assert faults(Loose, "refusals") == []
    assert not Loose.called


def test_an_argument_that_reaches_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """If an argument were not refused, the check would say so, and the method would still not run."""
    monkeypatch.setattr(
        _conformance_live, "misfits", lambda params: {"level": 1} if "level" in params["properties"] else {}
    )
    assert faults(Loose, "refusals") == [
        "limit: 1 as 'level': reaches the driver: give the parameter a type that refuses it"
    ]
    assert not Loose.called


class Once(Base):
    """Can be closed once."""

    def reset(self) -> None:
        self._port = object()

    def close(self) -> None:
        try:
            del self._port
        except AttributeError:
            raise RuntimeError("not open") from None


def test_a_driver_that_closes_only_once() -> None:
    """The check says which close it was, and what it raised."""
    assert faults(Once, "lifecycle") == ["Once: the second close() failed: RuntimeError: not open"]


class Unplugged(Base):
    """Does not start."""

    async def start(self) -> None:
        raise FileNotFoundError("plug it in")


@pytest.mark.parametrize("check", ["refusals", "lifecycle", "cancel"])
def test_a_driver_that_does_not_start(check: str) -> None:
    """What cannot be served is a fault, with what `start` has raised."""
    assert faults(Unplugged, check) == ["root: start failed: FileNotFoundError: plug it in"]


class Stubborn(Base):
    """Does not let go."""

    @export
    async def forever(self) -> None:
        """Ignore that the caller is gone."""
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.2)

    @export
    def hold(self) -> None:
        """Hold the thread."""
        time.sleep(1.5)

    @export
    async def lookup(self) -> str:
        """Fail as no driver should."""
        return {}["missing"]

    @export
    async def items(self) -> AsyncGenerator[int, None]:
        """Never end, but let go."""
        while True:
            yield 1
            await asyncio.sleep(0.01)

    @export
    def broken(self) -> None:
        """Say what is wrong."""
        raise OSError("the device is gone")

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Any, None]:
        """Never get through."""
        await asyncio.Event().wait()
        yield None


def test_methods_that_do_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that swallows its cancellation, one that holds its thread and one that raises KeyError are found."""
    monkeypatch.setattr(_conformance_live, "END_S", 0.5)
    found = faults(Stubborn, "cancel")
    assert [each.split(": ")[:2] for each in found] == [
        ["forever", "still runs 0.5 s after it was cancelled"],
        ["hold", "holds its thread 0.5 s after it was cancelled"],
        ["lookup", "raises what callers cannot tell apart"],
    ]


def test_methods_that_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that is skipped is not called; to skip one that there is not is a fault."""
    skip = dict.fromkeys(("forever", "hold", "lookup"), "blocks")
    assert faults(Stubborn, "cancel", skip=skip) == []
    assert faults(Stubborn, "cancel", skip={"fly": "?"})[0].startswith("fly: is not exported: there is forever, hold")


class Picky(Base):
    """Takes one word."""

    @export
    async def say(self, word: str) -> None:
        """Take `please`."""
        self.said = word


def test_arguments_that_are_given() -> None:
    """They are used, by position or by name, instead of made-up ones."""
    drivers: list[Picky] = []

    def make() -> Picky:
        drivers.append(Picky())
        return drivers[-1]

    assert faults(make, "cancel", arguments={"say": ["please"]}) == []
    assert faults(make, "cancel", arguments={"say": {"word": "thanks"}}) == []
    assert faults(make, "cancel", arguments={"say": []}) == [
        "say: say its arguments: the made-up ones are refused: missing argument 'word'"
    ]
    assert [vars(each).get("said") for each in drivers] == ["please", "thanks", None]


def test_a_device_that_has_to_be_there() -> None:
    """`make` may be a context manager, which is left after each check."""
    told: list[str] = []

    @contextmanager
    def make() -> Iterator[Driver]:
        told.append("there")
        yield Composite(children={"picky": Picky()})
        told.append("gone")

    assert faults(make, "cancel", skip={"picky.say": "no need"}) == []
    assert told == ["there", "gone"]


def test_all_faults_at_once() -> None:
    """`check_driver` raises one error with a line for each fault of each check."""
    with pytest.raises(AssertionError) as caught:
        check_driver(Bare)
    lines = str(caught.value).splitlines()
    assert {line.partition(":")[0] for line in lines} >= {"schemas", "package"}


@dataclass
class Point:
    x: float
    kind: str = "a"


class Sampled(Base):
    """A parameter of each kind."""

    @export
    async def take(self, point: Point, data: bytes, count: int, either: int | str, rest: list[Point]) -> None:
        """Take it."""


def test_samples_fit_and_misfits_do_not() -> None:
    """What is made up passes the method's validator; a misfit is there for each parameter, and does not."""
    method = methods_of(Sampled)["take"]
    good = samples(method.record.params)
    assert method.bind(good)[1].keys() == good.keys()
    bad = misfits(method.record.params)
    assert bad.keys() == good.keys()
    for name, value in bad.items():
        with pytest.raises(ValueError, match=name):
            method.bind(good | {name: value})


def test_a_sample_of_a_file_is_a_real_one() -> None:
    """For a file the handle that was uploaded is taken."""
    params = {"properties": {"src": {"type": "string", "format": RESOURCE_FORMAT}}, "required": ["src"]}
    assert samples(params, "handle") == {"src": "handle"}


def test_a_package_that_is_not_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that loads the driver, an example without it, no entry point, py.typed or README: each is named."""
    path = create_driver(NewDriver("crooked", "Crooked"), tmp_path)
    monkeypatch.syspath_prepend(str(path))
    make = importlib.import_module("jsnats_driver_crooked.driver").Crooked
    assert [fault for check in CHECKS for fault in faults(make, check)] == []

    package = path / "jsnats_driver_crooked"
    (package / "client.py").write_text("from .driver import Crooked\n" + (package / "client.py").read_text())
    (package / "py.typed").unlink()
    (path / "README.md").unlink()
    project = (path / "pyproject.toml").read_text()
    (path / "pyproject.toml").write_text(project.replace("driver:Crooked", "driver:Straight"))
    (path / "examples" / "exporter.yaml").write_text("export: {other: {type: Composite}}\n")
    found = [fault for check in ("client", "package", "example") for fault in faults(make, check)]
    assert [fault.replace(f"{path}/", "") for fault in found] == [
        "jsnats_driver_crooked.client.CrookedClient: AssertionError: jsnats_driver_crooked.client loads "
        "jsnats_driver_crooked.driver, which a client does without",
        'no entry point: [project.entry-points."jsnats.drivers"] Crooked = "jsnats_driver_crooked.driver:Crooked"',
        "jsnats_driver_crooked/py.typed is missing: without it the hints of the package are not used",
        "README.md is missing",
        "examples/exporter.yaml has no Crooked in it: show how it is configured",
    ]
