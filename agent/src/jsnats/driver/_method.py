"""One exported method, and how the arguments of a call become Python values."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, SchemaValidator, ValidationError

from jsnats.schemas import InvalidArgument, Kind, MethodRecord, ProtocolError, decode_json

Bound = tuple[tuple[Any, ...], dict[str, Any]]

_MAX_FAULTS = 3


@dataclass(frozen=True, slots=True)
class Method:
    """An exported method of a driver class.

    `kind` is "call", "stream" (its result is a generator) or "bytes" (an async context manager of a byte stream).
    `is_async` says that it runs on the event loop: calling it returns a coroutine, an async generator or an async
    context manager. `record` is what is published of it. `marker` goes into the consoles before it runs.
    """

    name: str
    kind: Kind
    is_async: bool
    parallel: bool
    record: MethodRecord
    signature: inspect.Signature = field(repr=False, compare=False)
    validator: SchemaValidator = field(repr=False, compare=False)
    marker: str = ""
    needs_nothing: bool = field(init=False, repr=False, compare=False)
    positional_only: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parameters = self.signature.parameters.values()
        needs_nothing = all(map(_is_optional, parameters))
        positional_only = tuple(each.name for each in parameters if each.kind is inspect.Parameter.POSITIONAL_ONLY)
        object.__setattr__(self, "needs_nothing", needs_nothing)
        object.__setattr__(self, "positional_only", positional_only)

    def bind(self, value: Any) -> Bound:
        """Arguments for the call from a decoded msgpack body: None, a list (positional) or a map (keyword).

        Raises InvalidArgument, one line, for a body of another kind or arguments that do not fit the signature.
        """
        if value is None or value == [] or value == {}:
            if self.needs_nothing:
                return (), {}
            value = []
        try:
            return self._placed(self.validator.validate_python(value))
        except ValidationError as error:
            raise self._refusal(error) from None  # its text would show the values

    def bind_json(self, body: bytes) -> Bound:
        """As `bind`, from the bytes of a JSON body: strict JSON, bytes as base64."""
        if not body or body.isspace() or body.strip() == b"null":
            return self.bind(None)
        try:
            if b"NaN" in body or b"Infinity" in body:  # pydantic's parser takes these words, JSON has none of them
                decode_json(body)
            return self._placed(self.validator.validate_json(body))
        except ValidationError as error:
            raise self._refusal(error) from None
        except ProtocolError as error:
            raise InvalidArgument(str(error), method=self.name) from error

    def _placed(self, bound: Bound) -> Bound:
        if not self.positional_only:
            return bound
        args, kwargs = bound
        return (*args, *(kwargs.pop(name) for name in self.positional_only if name in kwargs)), kwargs

    def _refusal(self, error: ValidationError) -> InvalidArgument:
        parameters = list(self.signature.parameters.values())
        details = error.errors(include_url=False, include_context=False, include_input=False)
        faults = list(dict.fromkeys(_fault(each, parameters) for each in details))
        more = f"; and {len(faults) - _MAX_FAULTS} more" if len(faults) > _MAX_FAULTS else ""
        return InvalidArgument("; ".join(faults[:_MAX_FAULTS]) + more, method=self.name)


def _is_optional(parameter: inspect.Parameter) -> bool:
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        return True
    # Field(...) as a default is filled in by the validator, so the short way past it is closed then.
    return parameter.default is not inspect.Parameter.empty and not isinstance(parameter.default, FieldInfo)


def _fault(error: ErrorDetails, parameters: Sequence[inspect.Parameter]) -> str:
    kind, loc = error["type"], error["loc"]
    if kind == "json_invalid":
        return f"the body is not JSON: {error['msg'].removeprefix('Invalid JSON: ')}"
    if kind == "arguments_type":
        return "arguments must be an array (by position) or a map (by name)"
    if kind == "invalid_key" and len(loc) == 1:
        return "names of arguments must be text"
    if kind == "unexpected_positional_argument":
        return f"too many arguments: {_expected(parameters)}"
    if kind == "unexpected_keyword_argument" and len(loc) == 1:
        return f"unknown argument {loc[0]!r}: {_expected(parameters)}"
    if kind.startswith("missing_") and kind.endswith("_argument") and len(loc) == 1:
        return f"missing argument {_place(loc, parameters)!r}"
    return f"argument {_place(loc, parameters)!r}: {error['msg'].removeprefix('Input ').removeprefix('Value error, ')}"


def _expected(parameters: Sequence[inspect.Parameter]) -> str:
    names = [each.name for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD]
    return f"expected {', '.join(names)}" if names else "the method takes none"


def _place(loc: tuple[int | str, ...], parameters: Sequence[inspect.Parameter]) -> str:
    """`wait`, or `points[2].x` for something inside an argument."""
    head, rest = loc[0] if loc else "", loc[1:]
    if isinstance(head, int):
        positional = [each for each in parameters if each.kind is not inspect.Parameter.KEYWORD_ONLY]
        parameter = positional[min(head, len(positional) - 1)]
        variadic = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        head = f"{parameter.name}[{head - positional.index(parameter)}]" if variadic else parameter.name
    return head + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
