"""Stored records: an exporter's tree, the interfaces of its drivers, its presence, a file, a line of a log.

Stored as JSON, so that any tool reads them. A reader ignores fields it does not know.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

from ._codec import decode_json, encode_json
from ._errors import InvalidArgument, ProtocolError

Kind = Literal["call", "stream", "bytes"]
LeasePolicy = Literal["if-held", "required"]
_R = TypeVar("_R", bound="_Record")


class _Record:
    """Encoding shared by the records; unknown fields of a newer version are dropped."""

    def encode(self) -> bytes:
        return encode_json(asdict(self))  # type: ignore[call-overload]

    @classmethod
    def from_map(cls, data: object) -> Self:
        return _made(cls, data)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        return cls.from_map(decode_json(body))


def _made(cls: type[_R], data: object) -> _R:
    """A record of what somebody else wrote down: each field is what it says, or whoever reads it trips over it."""
    if not isinstance(data, dict):
        raise ProtocolError(f"a {cls.__name__} must be a map, not {type(data).__name__}")
    fits = _checks(cls)  # type: ignore[arg-type]  # a class is hashable, whatever its instances are
    known = {key: value for key, value in data.items() if key in fits}
    for key, value in known.items():
        if not fits[key](value):
            raise ProtocolError(f"`{key}` of a {cls.__name__} cannot be a {type(value).__name__}")
    try:
        return cls(**known)
    except TypeError as error:
        raise ProtocolError(f"a {cls.__name__} lacks a field: {error}") from error


@cache
def _checks(cls: type[_Record]) -> dict[str, Callable[[Any], bool]]:
    """For each field, what says whether a value can stand there."""
    return {name: _check(hint) for name, hint in get_type_hints(cls).items()}


def _check(hint: Any) -> Callable[[Any], bool]:
    if get_origin(hint) is list:
        each = _check(get_args(hint)[0])
        return lambda value: isinstance(value, list) and all(map(each, value))
    if get_origin(hint) is dict:
        each = _check(get_args(hint)[1])
        return lambda value: isinstance(value, dict) and all(map(each, value.values()))
    if hint is Any:
        return lambda value: True
    if hint is float:
        return lambda value: type(value) is float or type(value) is int
    expected = str if get_origin(hint) is Literal else hint  # a newer version may have more of them
    return lambda value: type(value) is expected


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRecord(_Record):
    """One exported method: `params` is the JSON Schema of its arguments (an object, properties in positional order,
    `x-var-positional` for `*args`), `result` that of its result, or of one item of a stream."""

    kind: Kind
    doc: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceRecord(_Record):
    """All exported methods of a driver class, stored once under the SHA-256 of its encoding."""

    methods: dict[str, MethodRecord]

    @classmethod
    def from_map(cls, data: object) -> Self:
        methods = data.get("methods") if isinstance(data, dict) else None
        if not isinstance(methods, dict):
            raise ProtocolError("an interface record has a map of methods")
        return cls(methods={name: MethodRecord.from_map(value) for name, value in methods.items()})

    @property
    def digest(self) -> str:
        """SHA-256 in hex of the encoding: the name it is stored under.

        Keys are not sorted first: the order of the properties is the order of positional arguments.
        """
        return hashlib.sha256(self.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord(_Record):
    """One driver of a tree. `path` is dotted, "" for the root; `client` the dotted path of its client class;
    `interface` the digest of its interface; `package` what a client installs to get the class."""

    path: str
    client: str
    interface: str
    driver: str = ""
    package: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeRecord(_Record):
    """What an exporter publishes of itself. Nodes stand in order: a parent before its children."""

    name: str
    instance: str
    nodes: list[NodeRecord]
    labels: dict[str, str] = field(default_factory=dict)
    lease: LeasePolicy = "if-held"
    version: str = ""
    protocol: str = "1"

    @classmethod
    def from_map(cls, data: object) -> Self:
        if not isinstance(data, dict) or not isinstance(data.get("nodes"), list):
            raise ProtocolError("a tree record has a list of nodes")
        return _made(cls, data | {"nodes": [NodeRecord.from_map(node) for node in data["nodes"]]})


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceRecord(_Record):
    """Who serves an exporter right now, and what it is doing: see the states of an exporter.

    `starting` is one more: the name is taken, but nobody is served yet, or no longer.
    `since` is Unix time in seconds in the exporter's clock, since when it is served; of an offline one in the
    scheduler's, since when it is gone. `epoch` is that of the lease it is preparing, holding or ending, 0 for none;
    `ended` that of the last lease which ended there. `reason` says why it is offline or stuck, or why the lease ended.
    `before` is the last other state of one that is offline or starting, "" if nobody knows: that in which `epoch` was.
    """

    instance: str
    state: str = "available"
    host: str = ""
    pid: int = 0
    since: float = 0.0
    reason: str = ""
    epoch: int = 0
    ended: int = 0
    before: str = ""

    @property
    def was(self) -> str:
        """What it did last while it was served."""
        return self.before if self.state in ("offline", "starting") else self.state


BLOB_CHUNK = 256 * 1024
"""Bytes of each chunk of a file but the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRecord(_Record):
    """The manifest of a stored file: its bytes are in `chunks` chunks of `chunk` bytes, the last one shorter.

    `owner` is the token of the principal who uploaded it, `created` Unix time in seconds in the store's clock.
    """

    sha256: str
    size: int
    chunks: int
    chunk: int = BLOB_CHUNK
    name: str = ""
    owner: str = ""
    created: float = 0.0


def chunks_of(size: int) -> int:
    """How many chunks a file of `size` bytes has; none if it is empty."""
    return -(-size // BLOB_CHUNK)


_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_digest(value: object) -> str:
    """Return `value` if it is a SHA-256 in lower-case hex. Raises InvalidArgument."""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise InvalidArgument(f"{str(value)[:80]!r} is no SHA-256: write all 64 hex digits, in lower case")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord(_Record):
    """One line of a driver's log: `time` is Unix time in seconds in the exporter's clock, `path` the driver's place."""

    time: float
    level: str
    path: str
    message: str
