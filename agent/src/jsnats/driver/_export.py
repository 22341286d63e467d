"""`@export` and `@exportstream`: they mark a function and leave it as it is.

The mark lies on the function, not on the class, so that the decorators stack with pydantic's `@validate_call` in either
order. A subclass that overrides an exported method without the decorator keeps it exported: see `marks_of`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, overload

from jsnats.schemas import NAME, ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

_MARK: Final = "__jsnats_export__"

LIFECYCLE: Final = frozenset(
    {
        "client",
        "start",
        "stop",
        "reset",
        "close",
        "invoke",
        "report_progress",
        "resource",
        "resource_file",
        "new_resource",
    }
)
"""Methods of every driver; the agent calls them, a client never does."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What the decorators leave on a function."""

    parallel: bool = False
    bytes: bool = False
    marker: str = ""


@overload
def export(func: F, /) -> F: ...
@overload
def export(*, parallel: bool = False, marker: str = "") -> Callable[[F], F]: ...
def export(func: F | None = None, /, *, parallel: bool = False, marker: str = "") -> F | Callable[[F], F]:
    """Make a method callable by clients; a generator becomes a stream of its items.

    With `parallel=True` a sync method does not wait for the others of its driver: for abort and the like. A `marker`,
    such as "power-on", is written into every recorded console of the exporter before the method runs, by a call or by
    `invoke`; an override keeps it. Raises ConfigurationError for a name that cannot be exported or for something that
    is not a method.
    """
    mark = Mark(parallel=parallel, marker=marker)
    return _put(func, mark) if func is not None else lambda function: _put(function, mark)


def exportstream(func: F, /) -> F:
    """Make a method that is an async context manager a two-way byte stream for clients."""
    return _put(func, Mark(bytes=True))


def _put(func: F, mark: Mark) -> F:
    if isinstance(func, (staticmethod, classmethod, property)) or not callable(func):
        raise ConfigurationError(f"{func!r} cannot be exported: put the decorator on a method made with def")
    check_exportable(func.__name__)
    setattr(func, _MARK, mark)
    return func


def check_exportable(name: str) -> None:
    """Raise ConfigurationError if a method of this name cannot be exported."""
    if name in LIFECYCLE:
        raise ConfigurationError(
            f"{name}() is called by the agent and cannot be exported: give the method another name"
        )
    if name.startswith("_"):
        raise ConfigurationError(f"{name}() is private and cannot be exported: drop the underscore or the decorator")
    if not NAME.fullmatch(name):
        raise ConfigurationError(f"{name}() cannot be exported: use at most 63 of A-Z a-z 0-9 _ for its name")


def marks_of(cls: type) -> dict[str, Mark]:
    """Return the exported names of a class, base classes first. The nearest decorator wins, but for the marker, which
    stays; `name = None` in a subclass takes a method out again."""
    marks: dict[str, Mark] = {}
    for name, value in ((name, value) for base in reversed(cls.__mro__) for name, value in vars(base).items()):
        if value is None:
            marks.pop(name, None)
        elif (mark := _mark(value)) is not None:
            marks[name] = mark if mark.marker or name not in marks else replace(mark, marker=marks[name].marker)
    return marks


def _mark(value: object) -> Mark | None:
    mark = getattr(getattr(value, "__func__", value), _MARK, None)
    return mark if isinstance(mark, Mark) else None
