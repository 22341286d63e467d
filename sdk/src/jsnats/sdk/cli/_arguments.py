"""The words of a command line, turned into the arguments of a method by its published schema.

Words are positional arguments in the schema's order, `--name value`, `--name=value` or `name=value`; `--flag` and
`--no-flag` for booleans. Text stays text; numbers and booleans are read as such; arrays and objects are JSON; bytes
are the text itself or `@file`; JSON may come from `@file` too. What the schema says is a file is the path of one, which
is uploaded. The exporter checks everything again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsnats.client import Upload
from jsnats.schemas import RESOURCE_FORMAT, InvalidArgument, MethodRecord, is_handle

from ._describe import is_bytes, resolve, type_name, variants

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


@dataclass(slots=True)
class Arguments:
    """What a method is called with."""

    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)


def parse_arguments(words: Sequence[str], method: MethodRecord, name: str) -> Arguments:
    """Read `words` for `method`. Raises InvalidArgument that names the argument and what it takes."""
    try:
        return _Parser(method.params).parse(words)
    except InvalidArgument as error:
        raise InvalidArgument(error.message, method=name) from error
    except ValueError as error:
        raise InvalidArgument(str(error), method=name) from error


class _Parser:
    def __init__(self, params: Mapping[str, Any]) -> None:
        self.defs: Mapping[str, Any] = params.get("$defs", {})
        self.properties: Mapping[str, Any] = params.get("properties", {})
        self.required: list[str] = params.get("required", [])
        self.rest: Any = params.get("x-var-positional")
        self.extra: Any = params.get("additionalProperties", False)
        self.made = Arguments()

    def parse(self, words: Sequence[str]) -> Arguments:
        left = iter(words)
        for word in left:
            self._take(word, left)
        given = {*list(self.properties)[: len(self.made.args)], *self.made.kwargs}
        missing = [name for name in self.required if name not in given]
        if missing:
            raise ValueError(f"missing {', '.join(f'{name} ({self._type(name)})' for name in missing)}")
        return self.made

    def _take(self, word: str, left: Iterator[str]) -> None:
        if word.startswith("--") and len(word) > 2:
            self._option(word[2:], left)
            return
        name, equals, text = word.partition("=")
        if equals and name in self.properties:
            self._set(name, self._value(name, text))
        else:
            self._positional(word)

    def _positional(self, word: str) -> None:
        index = len(self.made.args)
        names = list(self.properties)
        if index < len(names):
            self.made.args.append(self._value(names[index], word))
        elif self.rest is not None:
            self.made.args.append(read_value(word, self.rest, self.defs, "*args"))
        else:
            raise ValueError(f"{word!r} is one argument too many: it takes {', '.join(names) or 'none'}")

    def _option(self, option: str, left: Iterator[str]) -> None:
        spelled, equals, text = option.partition("=")
        name = self._name(spelled)
        if equals:
            self._set(name, self._value(name, text))
        elif self._is_flag(name):
            self._set(name, True)
        elif name not in self.properties and name.startswith("no_") and self._is_flag(self._name(spelled[3:])):
            self._set(self._name(spelled[3:]), False)
        else:
            self._schema(name)
            value = next(left, None)
            if value is None:
                raise ValueError(f"--{spelled} needs a value ({self._type(name)})")
            self._set(name, self._value(name, value))

    def _name(self, spelled: str) -> str:
        return spelled if spelled in self.properties else spelled.replace("-", "_")

    def _is_flag(self, name: str) -> bool:
        kinds = [each.get("type") for each in variants(self.properties.get(name, {}), self.defs)]
        return "boolean" in kinds and set(kinds) <= {"boolean", "null"}

    def _set(self, name: str, value: Any) -> None:
        if name in self.made.kwargs or name in list(self.properties)[: len(self.made.args)]:
            raise ValueError(f"{name} is given twice")
        self.made.kwargs[name] = value

    def _value(self, name: str, text: str) -> Any:
        return read_value(text, self._schema(name), self.defs, name)

    def _schema(self, name: str) -> Mapping[str, Any]:
        if name in self.properties:
            found: Mapping[str, Any] = self.properties[name]
            return found
        if self.extra is False:
            raise ValueError(f"there is no argument {name!r}: it takes {', '.join(self.properties) or 'none'}")
        return self.extra if isinstance(self.extra, dict) else {}

    def _type(self, name: str) -> str:
        return type_name(self.properties.get(name, {}), self.defs)


def read_value(text: str, schema: Mapping[str, Any], defs: Mapping[str, Any], name: str) -> Any:
    """The value that `text` stands for under `schema`. Raises ValueError naming the argument and its type."""
    choices = [resolve(each, defs) for each in variants(schema, defs)]
    choices.sort(key=_rank)
    for each in choices:
        try:
            return _read(text, each)
        except InvalidArgument:
            raise
        except (ValueError, RecursionError):
            continue
    raise ValueError(f"{name} takes {type_name(schema, defs)}, not {text!r}")


def _rank(schema: Mapping[str, Any]) -> int:
    """Text fits everything, so it is tried last; but what a pattern describes (a Decimal) must not become a float."""
    if schema.get("type") != "string":
        return 1
    return 0 if "pattern" in schema else 2


def _read(text: str, schema: Mapping[str, Any]) -> Any:
    if "enum" in schema or "const" in schema:
        return _one_of(text, schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if is_bytes(schema):
        return _file(text) if text.startswith("@") else text.encode()
    if schema.get("format") == RESOURCE_FORMAT:
        return _upload(text)
    if kind == "string":
        return float(text) if schema.get("format") == "duration" and _is_number(text) else text
    if kind == "integer":
        return int(text, 0) if text.lower().lstrip("+-").startswith(("0x", "0b", "0o")) else int(text)
    if kind == "number":
        return float(text)
    if kind == "boolean":
        return _boolean(text)
    if kind == "null":
        return _one_of(text, [None])
    return _json(text, kind)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _boolean(text: str) -> bool:
    lower = text.lower()
    if lower not in _TRUE | _FALSE:
        raise ValueError(text)
    return lower in _TRUE


def _one_of(text: str, values: Sequence[Any]) -> Any:
    for value in values:
        if text == (value if isinstance(value, str) else json.dumps(value)):
            return value
    raise ValueError(text)


_PYTHON = {"array": list, "object": dict}


def _json(text: str, kind: str | None) -> Any:
    raw = _file(text).decode() if text.startswith("@") else text
    try:
        value = json.loads(raw)
    except ValueError:
        if kind is None:
            return text  # no type at all: what is not JSON is text
        raise
    if kind in _PYTHON and not isinstance(value, _PYTHON[kind]):
        raise ValueError(text)
    return value


def _upload(text: str) -> Upload:
    """A file that is to be uploaded; the text of a handle is passed on."""
    if text == "-":
        return Upload(sys.stdin.buffer)
    path = Path(text).expanduser()
    if not is_handle(text) and not path.exists():
        raise InvalidArgument(f"there is no file {text}: give the path of one, - for standard input, or an URL")
    return Upload(text if is_handle(text) else path)


def _file(text: str) -> bytes:
    if text == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(text[1:]).expanduser().read_bytes()
    except OSError as error:
        raise InvalidArgument(f"cannot read {text[1:]}: {error.strerror}") from error
