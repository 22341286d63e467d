"""Who called what: told to the lab as events, beside the calls and not in their way.

A call that ends costs an entry in a dictionary. What becomes of it happens a little later, in `look`: the first call of
a kind is told alone, those of the next ten seconds together; one that was told before its end has an end of its own.
Of arguments only what cannot be a secret is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from inspect import Parameter
from typing import Any, Final

from jsnats.driver import Method
from jsnats.schemas import unescape_user

from ._table import OpenCall

TOGETHER_S = 10.0
LONG_S = 1.0
"""A call that has run for so long is told before it ends."""
MAX_NAMED: Final = 32
MAX_NAME: Final = 64
"""Arguments that are told of one call, and characters of a name that the caller chose."""

Bound = tuple[tuple[Any, ...], dict[str, Any]]
Kind = tuple[str, str, str, str]
"""User, path, method, and the type of the error that ended it."""


class _Lot:
    """Calls of one kind that are told together. Arguments are kept as they are until the next `look`, no longer."""

    __slots__ = ("arguments", "begun", "bound", "count", "method", "seconds")

    def __init__(self, method: Method) -> None:
        self.method = method
        self.begin()

    def begin(self) -> None:
        self.begun = time.monotonic()
        self.count, self.seconds = 0, 0.0
        self.bound: Bound | None = None
        self.arguments: dict[str, Any] = {}

    def describe(self) -> None:
        if self.bound is not None:
            self.arguments, self.bound = described(self.method, self.bound), None


class Audit:
    """Of one exporter; `tell` takes type, data and path of an event."""

    def __init__(self, tell: Callable[[str, dict[str, Any], str], None]) -> None:
        self._tell = tell
        self._lots: dict[Kind, _Lot] = {}

    def finished(self, call: OpenCall, bound: Bound, seconds: float, error: str) -> None:
        """A call has ended, with an error of that type if any."""
        kind = (call.user, call.node.path, call.method.name, error)
        if call.told:  # whoever saw it begin waits for its end
            alone = _Lot(call.method)
            alone.count, alone.seconds, alone.bound = 1, seconds, bound
            self._tell_lot(kind, alone)
            return
        lot = self._lots.get(kind)
        if lot is None:
            lot = self._lots[kind] = _Lot(call.method)
            asyncio.get_running_loop().call_soon(self._tell_lot, kind, lot)
        lot.count += 1
        lot.seconds += seconds
        lot.bound = bound

    def look(self, running: Iterable[OpenCall]) -> None:
        """Tell what is due; called about twice a second with the calls that run."""
        now = time.monotonic()
        for call in running:
            if call.bound is not None and not call.told and now - call.arrived > LONG_S:
                call.told = True
                self._tell("call.started", _who(call.user, call.method, call.bound), call.node.path)
        for kind, lot in list(self._lots.items()):
            lot.describe()
            if now - lot.begun > TOGETHER_S:
                self._close(kind, lot)

    def _close(self, kind: Kind, lot: _Lot) -> None:
        if lot.count:
            self._tell_lot(kind, lot)
        else:
            del self._lots[kind]

    def flush(self) -> None:
        """Tell the rest."""
        for kind, lot in self._lots.items():
            if lot.count:
                self._tell_lot(kind, lot)
        self._lots.clear()

    def _tell_lot(self, kind: Kind, lot: _Lot) -> None:
        if not lot.count:  # `flush` was faster
            return
        user, path, method, error = kind
        lot.describe()
        data = {
            "user": unescape_user(user),
            "method": method,
            "arguments": lot.arguments,
            "outcome": _OUTCOMES.get(error, "error"),
            "error": error,
            "seconds": round(lot.seconds, 6),
            "count": lot.count,
        }
        lot.begin()
        self._tell("call.finished", data, path)


_OUTCOMES: Final = {"": "ok", "CallCancelled": "cancelled"}


def _who(user: str, method: Method, bound: Bound) -> dict[str, Any]:
    return {"user": unescape_user(user), "method": method.name, "arguments": described(method, bound)}


def described(method: Method, bound: Bound) -> dict[str, dict[str, Any]]:
    """Names and types of the arguments; values of numbers, truth values and enums."""
    args, kwargs = bound
    named = [*zip(_names(method), args, strict=False), *kwargs.items()]
    return {name[:MAX_NAME]: _described(value) for name, value in named[:MAX_NAMED]}


def _names(method: Method) -> Iterator[str]:
    for parameter in method.signature.parameters.values():
        if parameter.kind is Parameter.VAR_POSITIONAL:
            for number in range(MAX_NAMED):
                yield f"{parameter.name}[{number}]"
        else:
            yield parameter.name


def _described(value: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"type": type(value).__name__}
    if isinstance(value, Enum):
        told["value"] = value.value if isinstance(value.value, (str, int, float)) else value.name
    elif isinstance(value, (bool, int, float)):
        told["value"] = value
    return told
