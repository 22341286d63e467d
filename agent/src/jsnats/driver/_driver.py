"""The base class of every driver.

A driver is a pydantic dataclass, so its parameters are checked where it is made. Two things that would go wrong without
a word are refused by name: a subclass with fields but without `@dataclass` (its fields would be ignored), and the
standard library's `@dataclass` (its fields would not be checked).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import field
from typing import Any, ClassVar, Final, Self, get_origin

from pydantic import ConfigDict, SkipValidation
from pydantic.dataclasses import dataclass
from typing_extensions import Format, get_annotations

from jsnats.schemas import LAB_SOURCE, ConfigurationError

from ._event import packed_event
from ._export import marks_of
from ._resource import ResourceFile, ResourceSink, ResourceStream, opened, resources_of

ProgressSink = Callable[[float, float | None, str], None]

progress_sink: ContextVar[ProgressSink | None] = ContextVar("jsnats_progress_sink", default=None)
"""Where `report_progress` sends to in the current call. It is called in whatever thread the driver runs in."""

caller: ContextVar[str] = ContextVar("jsnats_caller", default="")
"""Token of the user whose call is running, "" outside a call."""

marker_sink: ContextVar[Callable[[str, str], None] | None] = ContextVar("jsnats_marker_sink", default=None)
"""Takes a marker and the method it is for (`dut.power.on`), and writes it into the consoles of the exporter whose call
is running."""

BASE_FIELDS: Final = frozenset({"children", "parent", "description"})
"""Fields that every driver has; they come from the tree, not from a driver's `config`."""


@dataclass(kw_only=True, eq=False, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class Driver:
    """Base of all drivers: subclass it, decorate with pydantic's `@dataclass(kw_only=True)`, export methods.

    `children` are the drivers below this one by name, `parent` the one above (set when the tree is built, if the
    driver did not), `path` the dotted place in the tree: "" until the tree is built, and for its root. A driver with a
    field of its own named `path` keeps it. Drivers are equal only to themselves and can be keys of a dict.

    Lifecycle: `start` and `stop` live as long as the agent; `reset` begins and `close` ends a lease. All four may be
    called more than once on the same object. `reset` and `close` may be sync or async.
    """

    children: SkipValidation[dict[str, Driver]] = field(default_factory=dict, compare=False, repr=False)
    parent: SkipValidation[Driver | None] = field(default=None, compare=False, repr=False)
    description: str = field(default="", compare=False, repr=False)

    path = ""  # no annotation: not a field

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # @dataclass would compare by value and so take __hash__ away; what the class itself has, it keeps.
        if "__eq__" not in vars(cls):
            for name in ("__eq__", "__hash__"):
                setattr(cls, name, getattr(object, name))
        _check_field_names(cls)
        if "path" in _own_fields(cls) and "path" not in vars(cls):
            cls.path = field()  # else the attribute above would be its default

    def __new__(cls, *args: Any, **_parameters: Any) -> Self:
        if args:
            raise TypeError(
                f"{cls.__name__} takes its parameters by name: {cls.__name__}(name=value, ...), or **config for a dict"
            )
        _check_decorated(cls)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Runs after the fields are set; a subclass that overrides it calls this one first."""

    @classmethod
    def client(cls) -> str:
        """Dotted path of the client class. Every driver class says its own."""
        raise NotImplementedError(f"{cls.__name__} has no client(): return the dotted path of its client class from it")

    @property
    def logger(self) -> logging.Logger:
        """Logger named after exporter and place in its tree; after the class before there is a tree.

        What an exporter's drivers log is also published: `jsnats.log.<exporter>.<path>`. So is, with its traceback, an
        exception that a method raises and that is neither a DriverError nor a builtin that stands for one.
        """
        names = (vars(self).get("_exporter"), vars(self).get("_place"))
        place = ".".join(name for name in names if name)
        return logging.getLogger(f"jsnats.driver.{place or type(self).__name__}")

    async def start(self) -> None:
        """Called once when the agent starts."""

    async def stop(self) -> None:
        """Called once when the agent stops."""

    def reset(self) -> Awaitable[None] | None:
        """Called when a lease begins."""
        return None

    def close(self) -> Awaitable[None] | None:
        """Called when a lease ends, for any cause."""
        return None

    async def invoke(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call another method of this driver from an async one, whichever kind it is.

        A sync method runs on the driver's own thread, as if a client had called it: so logic over a blocking library
        can be async, and be cancelled between two steps. A method with a marker leaves it in the consoles first.
        Without an agent, in a unit test, a sync method runs right here.
        """
        _leave_marker(method)
        if inspect.iscoroutinefunction(method):
            return await method(*args, **kwargs)
        runner = vars(self).get("_runner")
        if runner is None:
            return method(*args, **kwargs)
        return await runner.submit(method, args, kwargs)

    def report_progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell the caller of the current call how far it is; does nothing outside a call."""
        sink = progress_sink.get()
        if sink is not None:
            sink(done, total, message)

    def emit(self, name: str, /, **data: Any) -> None:
        """Tell the lab that something happened to this driver: `self.emit("overheated", temperature=91.0)`.

        It is the event `driver.overheated`, kept with all others (`jsnats events`, MQTT). From any thread and from
        async code; it never waits. Without an exporter, in a unit test, it is only checked. Raises InvalidName for a
        name that is not dotted lower-case words, TypeError for data that cannot travel, ValueError above 64 KiB of it.
        """
        kept = vars(self)
        source, place = kept.get("_exporter", LAB_SOURCE), kept.get("_place", "")
        event = packed_event(source, f"driver.{name}", data, place)
        if sink := kept.get("_events"):
            sink(*event)

    def resource(self, handle: str, *, decompress: bool = True) -> AbstractAsyncContextManager[ResourceStream]:
        """Open a file that a caller passed: `async with self.resource(image) as stream:` and `async for` its bytes.

        gzip, xz, bz2 and zstd are decompressed unless told not to. What was read is what the caller meant only when
        the block ends without an error: BlobCorrupt comes at the end of the file. The caller may still be uploading
        it: the bytes come as they arrive, and when the upload fails the call is cancelled, or BlobIncomplete raised if
        nothing was heard of it for a minute. Raises BlobNotFound, OSError, ValueError for damaged compressed data.
        """
        return opened(resources_of(self), handle, decompress=decompress)

    def resource_file(self, handle: str, *, decompress: bool = True) -> ResourceFile:
        """As `resource`, for a tool that wants a file: the path of one, already checked, to be read only.

        `with self.resource_file(image) as path:` in a sync method, `async with` in an async one. It is gone after
        the block. OSError when the agent's cache directory has no room.
        """
        return resources_of(self).file(handle, decompress=decompress)

    def new_resource(self, name: str = "") -> AbstractAsyncContextManager[ResourceSink]:
        """Store a file for the caller: `async with self.new_resource("dump.img") as sink:`, `await sink.send(data)`.

        Return `sink.handle` after the block. Raises StorageFull, OSError.
        """
        return resources_of(self).create(name)

    def _set_place(self, path: str) -> None:
        """Called by `build_tree` with the first path under which the driver was found."""
        vars(self)["_place"] = path
        if "path" not in type(self).__dataclass_fields__:
            self.path = path


def _leave_marker(method: Callable[..., Any]) -> None:
    sink, driver = marker_sink.get(), getattr(method, "__self__", None)
    mark = marks_of(type(driver)).get(method.__name__) if sink and isinstance(driver, Driver) else None
    if sink and mark and mark.marker:
        place = vars(driver).get("_place")
        sink(mark.marker, f"{place}.{method.__name__}" if place else method.__name__)


def _own_fields(cls: type) -> set[str]:
    annotations = get_annotations(cls, format=Format.FORWARDREF)  # of this class alone; names may be unknown yet
    return {name for name, hint in annotations.items() if not name.startswith("_") and not _is_classvar(hint)}


def _is_classvar(hint: Any) -> bool:
    text = hint.removeprefix("typing.") if isinstance(hint, str) else ""
    return hint is ClassVar or get_origin(hint) is ClassVar or text.startswith("ClassVar")


def _check_field_names(cls: type[Driver]) -> None:
    taken = {name for name in _own_fields(cls) if hasattr(Driver, name)} - BASE_FIELDS - {"path"}
    if taken:
        names = ", ".join(sorted(taken))
        raise ConfigurationError(f"{cls.__name__}: field {names} is a name of every driver: call it something else")


def _check_decorated(cls: type[Driver]) -> None:
    for base in cls.__mro__[: cls.__mro__.index(Driver)]:
        fields = _own_fields(base) - BASE_FIELDS
        if fields and issubclass(base, Driver) and "__is_pydantic_dataclass__" not in vars(base):
            raise ConfigurationError(
                f"{base.__name__} has fields ({', '.join(sorted(fields))}) but is not a pydantic dataclass: "
                "add @dataclass (from pydantic.dataclasses)"
            )
