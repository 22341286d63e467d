"""What a driver class offers: its exported methods, read once per class."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, Final, get_args, get_origin
from weakref import WeakKeyDictionary

from jsnats.schemas import ConfigurationError, InterfaceRecord, Kind, MethodRecord

from ._driver import Driver
from ._export import Mark, check_exportable, marks_of
from ._method import Method
from ._schema import params_schema, result_schema, signature_of, validator_of

_ASYNC_STREAMS: Final = (AsyncGenerator, AsyncIterator)
_STREAMS: Final = (Generator, Iterator, *_ASYNC_STREAMS)


_known: WeakKeyDictionary[type, dict[str, Method]] = WeakKeyDictionary()


def methods_of(cls: type[Driver]) -> dict[str, Method]:
    """Return the exported methods of a driver class by name, those of base classes first.

    Raises ConfigurationError with one fault for each method that cannot be published. The result is shared: do not
    change it.
    """
    if cls in _known:
        return _known[cls]
    methods: dict[str, Method] = {}
    faults: list[str] = []
    for name, mark in marks_of(cls).items():
        try:
            methods[name] = _method(cls, name, mark)
        except ConfigurationError as error:
            faults += error.faults
    if faults:
        raise ConfigurationError("; ".join(faults), faults)
    return _known.setdefault(cls, methods)


def interface_of(cls: type[Driver]) -> InterfaceRecord:
    """Return what is published of a driver class."""
    return InterfaceRecord(methods={name: method.record for name, method in methods_of(cls).items()})


def _method(cls: type[Driver], name: str, mark: Mark) -> Method:
    check_exportable(name)
    func = inspect.getattr_static(cls, name)
    where = f"{cls.__qualname__}.{name}"
    if isinstance(func, (staticmethod, classmethod, property)) or not callable(func):
        raise ConfigurationError(f"{where} is exported and must be a method made with def")
    signature = signature_of(func, cls)
    kind, is_async = _kind(func, signature.return_annotation, mark, where)
    record = MethodRecord(
        kind=kind,
        doc=inspect.getdoc(func) or "",
        params=params_schema(signature, where),
        result=_result(kind, signature.return_annotation, where),
    )
    validator = validator_of(signature, where)
    return Method(name, kind, is_async, mark.parallel, record, signature, validator, mark.marker)


def _kind(func: Callable[..., Any], returns: Any, mark: Mark, where: str) -> tuple[Kind, bool]:
    """Tell by the function, else by the return annotation: a wrapper such as `@validate_call` hides the former."""
    layers = (func, inspect.unwrap(func))
    coroutine = any(map(inspect.iscoroutinefunction, layers))
    async_generator = any(map(inspect.isasyncgenfunction, layers))
    if mark.bytes:
        if coroutine or not async_generator:
            raise ConfigurationError(
                f"{where}: @exportstream goes on top of @asynccontextmanager on an async generator"
            )
        return "bytes", True
    annotated = get_origin(returns) or returns
    if async_generator or any(map(inspect.isgeneratorfunction, layers)):
        return "stream", async_generator
    if coroutine and annotated in _STREAMS:
        raise ConfigurationError(f"{where} says that it returns a generator but has no yield: make it one")
    if annotated in _STREAMS:
        return "stream", annotated in _ASYNC_STREAMS
    return "call", coroutine


def _result(kind: Kind, returns: Any, where: str) -> dict[str, Any]:
    if kind == "bytes":
        return {}
    if kind == "stream":
        returns = next(iter(get_args(returns)), Any)
    return result_schema(returns, where)
