"""What is read off a driver class: methods, kinds, schemas, and the binding of arguments."""

import enum
import inspect
import math
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, validate_call

from jsnats.driver import Driver, Method, export, exportstream, interface_of, methods_of
from jsnats.schemas import ConfigurationError, InterfaceRecord, InvalidArgument


class Colour(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    raw: bytes = b"\xff"


class Tree(BaseModel):
    leaf: bytes = b""
    below: "list[Tree] | Point" = []


class Bench(Driver):
    @export
    async def on(self) -> None:
        """Close the contact."""

    @export(parallel=True)
    def abort(self) -> bool:
        return True

    @export
    def cycle(self, wait: float = 2, *, times: int = 1) -> float:
        return wait * times

    @export
    def numbers(self) -> Generator[int, None, None]:
        yield 1

    @export
    async def ticks(self) -> AsyncGenerator[Point, None]:
        yield Point(x=1)

    @export
    @validate_call
    async def checked(self, n: int) -> AsyncIterator[int]:
        yield n

    @validate_call
    @export
    def outer(self, n: int) -> int:
        return n

    @export
    def plain(self) -> Iterator[str]:
        return iter("ab")

    @export
    def anything(self, value, schema=None):  # type: ignore[no-untyped-def]
        return value

    @export
    def many(self, first: int, /, copy: bytes = b"", *points: Point, **limits: int) -> dict[str, Any]:
        return {"first": first, "copy": copy, "points": points, "limits": limits}

    @export
    def typed(self, colour: Colour, pause: timedelta, place: tuple[int, int] = (0, 0)) -> bytes:
        return b""

    @export
    def plant(self, tree: Tree, /) -> Tree:
        return tree

    @exportstream
    @asynccontextmanager
    async def console(self) -> AsyncGenerator[int, None]:
        yield 1

    def hidden(self) -> None:
        pass


METHODS = methods_of(Bench)


@pytest.mark.parametrize(
    ("name", "kind", "is_async"),
    [
        ("on", "call", True),
        ("abort", "call", False),
        ("numbers", "stream", False),
        ("ticks", "stream", True),
        ("checked", "stream", True),
        ("outer", "call", False),
        ("plain", "stream", False),
        ("console", "bytes", True),
    ],
)
def test_kinds(name: str, kind: str, is_async: bool) -> None:
    """The kind of a method comes from its function, through @validate_call too, else from its annotation."""
    assert (METHODS[name].kind, METHODS[name].is_async) == (kind, is_async)


def test_only_exported_methods() -> None:
    """A method without the decorator is not published; parallel is as it was said."""
    assert "hidden" not in METHODS
    assert [name for name, method in METHODS.items() if method.parallel] == ["abort"]


def test_params_schema() -> None:
    """Parameters stand in order with their defaults; names that models forbid, *args and **kwargs are told."""
    params = METHODS["many"].record.params
    assert list(params["properties"]) == ["first", "copy"]
    assert params["properties"]["copy"] == {"type": "string", "contentEncoding": "base64", "default": ""}
    assert params["required"] == ["first"]
    assert params["x-var-positional"] == {"$ref": "#/$defs/Point"}
    assert params["additionalProperties"] == {"type": "integer"}
    assert params["$defs"]["Point"]["properties"]["raw"]["default"] == "/w=="
    assert METHODS["anything"].record.params["properties"] == {"value": {}, "schema": {"default": None}}
    assert METHODS["cycle"].record.params["additionalProperties"] is False


def test_result_schema() -> None:
    """A result's schema is that of the return annotation, of one item for a stream, {} for none."""
    assert METHODS["on"].record.result == {"type": "null"}
    assert METHODS["numbers"].record.result == {"type": "integer"}
    assert METHODS["ticks"].record.result["$ref"] == "#/$defs/Point"
    assert METHODS["typed"].record.result == {"type": "string", "contentEncoding": "base64"}
    assert METHODS["anything"].record.result == METHODS["console"].record.result == {}


def test_record_travels() -> None:
    """The interface record survives its encoding, digest and all."""
    record = interface_of(Bench)
    assert InterfaceRecord.decode(record.encode()).digest == record.digest


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [
        ("on", None, ((), {})),
        ("on", [], ((), {})),
        ("cycle", {}, ((), {})),
        ("cycle", [3], ((3.0,), {"times": 1})),
        ("cycle", {"times": "2"}, ((), {"wait": 2, "times": 2})),
        ("many", {"first": 1}, ((1,), {"copy": b""})),
        ("many", [1, b"\x00", {"x": 2}], ((1, b"\x00", Point(x=2)), {})),
        ("many", {"first": 1, "volt": 3}, ((1,), {"copy": b"", "volt": 3})),
        ("typed", ["red", "PT1.5S", [1, 2]], ((Colour.RED, timedelta(seconds=1.5), (1, 2)), {})),
    ],
)
def test_bind(name: str, value: Any, bound: Any) -> None:
    """A decoded body becomes the arguments of the call, by position or by name, in pydantic's lax mode."""
    args, kwargs = METHODS[name].bind(value)
    assert (args, kwargs) == bound
    inspect.signature(getattr(Bench(), name)).bind(*args, **kwargs)


@pytest.mark.parametrize(
    ("name", "body", "bound"),
    [
        ("on", b"", ((), {})),
        ("on", b" null ", ((), {})),
        ("many", b'[1, "/w==", {"x": 1, "raw": "AA=="}]', ((1, b"\xff", Point(x=1, raw=b"\x00")), {})),
        ("plant", b'{"tree": {"below": [{"leaf": "AA=="}]}}', ((Tree(below=[Tree(leaf=b"\x00")]),), {})),
        ("plant", b'[{"below": {"x": 1, "raw": "AA=="}}]', ((Tree(below=Point(x=1, raw=b"\x00")),), {})),
        ("anything", b'["NaN"]', (("NaN",), {"schema": None})),
    ],
)
def test_bind_json(name: str, body: bytes, bound: Any) -> None:
    """A JSON body binds in the same way, with bytes as base64, inside models too."""
    assert METHODS[name].bind_json(body) == bound


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("outer", None, "outer: missing argument 'n'"),
        ("on", [1], "on: too many arguments: the method takes none"),
        ("on", {"a": 1}, "on: unknown argument 'a': the method takes none"),
        ("cycle", {"wiat": 1}, "cycle: unknown argument 'wiat': expected wait, times"),
        ("outer", ["x"], "outer: argument 'n': should be a valid integer, unable to parse string as an integer"),
        ("many", [1, b"", {"x": "q"}], "many: argument 'points[0].x': should be a valid integer"),
        ("cycle", 5, "cycle: arguments must be an array (by position) or a map (by name)"),
        ("cycle", False, "cycle: arguments must be an array (by position) or a map (by name)"),
        ("cycle", {1: 2}, "cycle: names of arguments must be text"),
    ],
)
def test_bind_refuses(name: str, value: Any, message: str) -> None:
    """Arguments that do not fit are refused in one line that names the parameter and what is wrong."""
    with pytest.raises(InvalidArgument) as caught:
        METHODS[name].bind(value)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("body", [b"{x", b"[NaN]", b"[-Infinity]", b"3", b'"x"', b"[1"])
def test_bind_json_is_strict(body: bytes) -> None:
    """What is not strict JSON, or neither array nor object, is an InvalidArgument."""
    with pytest.raises(InvalidArgument):
        METHODS["anything"].bind_json(body)


def test_msgpack_nan_passes() -> None:
    """Only JSON lacks NaN: msgpack carries it to the driver."""
    assert math.isnan(METHODS["cycle"].bind([math.nan])[0][0])


def test_refusals_do_not_show_values() -> None:
    """A refused value is not repeated: it may be a secret."""
    with pytest.raises(InvalidArgument) as caught:
        METHODS["outer"].bind(["hunter2"])
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_override_stays_exported() -> None:
    """An override without the decorator stays exported with its own signature; None takes a method out."""

    class Quiet(Bench):
        async def on(self, slowly: bool = False) -> None:
            """Softly."""

        abort = None  # type: ignore[assignment]

    methods = methods_of(Quiet)
    assert methods["on"].record.doc == "Softly."
    assert list(methods["on"].record.params["properties"]) == ["slowly"]
    assert "abort" not in methods


def test_interface_is_read_once() -> None:
    """The methods of a class are read once and shared."""
    assert methods_of(Bench) is METHODS
    assert all(isinstance(method, Method) for method in METHODS.values())


@pytest.mark.parametrize("name", ["start", "stop", "reset", "close", "client", "_secret", "größe"])
def test_names_that_cannot_be_exported(name: str) -> None:
    """Lifecycle names, private names and names that are no subject token are refused at the decorator."""

    def method(self: Driver) -> None: ...

    method.__name__ = name
    with pytest.raises(ConfigurationError, match="cannot be exported"):
        export(method)


def test_alias_is_checked() -> None:
    """A lifecycle name given to an exported method by assignment is found when the class is read."""

    class Sly(Bench):
        reset = Bench.cycle  # type: ignore[assignment]

    with pytest.raises(ConfigurationError, match=r"reset\(\) is called by the agent"):
        methods_of(Sly)


def test_only_methods_are_exported() -> None:
    """Static methods and properties are refused with a word on what to do."""
    with pytest.raises(ConfigurationError, match="made with def"):
        export(staticmethod(lambda: None))


def test_all_faults_of_a_class() -> None:
    """Hints that cannot be resolved or cannot travel name class and method, all at once."""

    class Odd(Driver):
        @export
        def lost(self, port: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

        @export
        def strange(self) -> object:
            return object()

        @export
        def alien(self, port: inspect.Signature) -> None: ...

        @export
        async def dry(self) -> AsyncGenerator[int, None]:
            return self.dry()  # type: ignore[return-value]

    with pytest.raises(ConfigurationError) as caught:
        methods_of(Odd)
    lost, alien, dry = caught.value.faults[0], caught.value.faults[-2], caught.value.faults[-1]
    assert "Odd.lost: type hint 'Nowhere' is not known" in lost
    assert "Odd.alien: Unable to generate" in alien
    assert "Odd.dry says that it returns a generator but has no yield" in dry
