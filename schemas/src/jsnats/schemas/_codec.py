"""Bodies: msgpack, or strict JSON for tools that have nothing else.

msgpack keeps what a value was: int, float, str, bytes, bool, None, list, map, and datetime (extension -1, UTC).
UUID, Decimal, Path and Enum travel as strings (an Enum as its value), timedelta as ISO 8601 ("PT1.5S"), sets and
tuples as arrays, pydantic models and dataclasses as maps. JSON is strict (RFC 8259) and adds: bytes as base64, datetime
as ISO 8601, NaN and infinities as null, integers beyond 2^53 as strings.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, NoReturn
from uuid import UUID

import msgpack

from ._errors import CallError, ProtocolError, error_to_wire

MSGPACK: Final = "application/msgpack"
JSON: Final = "application/json"

_SAFE_INT = 2**53


def iso_duration(value: timedelta) -> str:
    """ISO 8601 duration of a timedelta: days and seconds only, `-` in front when negative."""
    sign, value = ("-", -value) if value < timedelta(0) else ("", value)
    seconds = f"{value.seconds + value.microseconds / 1e6:.6f}".rstrip("0").rstrip(".")
    days = f"{value.days}D" if value.days else ""
    return f"{sign}P{days}T{seconds}S"


def to_plain(value: Any) -> Any:
    """One step towards plain data for a value that msgpack does not know.

    Raises TypeError for a stranger, ValueError for an integer that msgpack has no room for.
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):  # only naive ones get here
        return value.isoformat()
    if isinstance(value, timedelta):
        return iso_duration(value)
    if isinstance(value, (UUID, Decimal, PurePath)):
        return str(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (set, frozenset, range)):
        return list(value)
    if isinstance(value, int):
        raise ValueError("an integer does not fit 64 bits")
    if hasattr(value, "get_secret_value"):
        raise TypeError(f"{type(value).__name__} is a secret and never travels")
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot travel: return plain data, a model or a dataclass")


def encode_msgpack(value: Any) -> bytes:
    """Return msgpack bytes. Raises TypeError for a value that cannot travel, ValueError for one out of range."""
    # A Packer of our own would save 0.3 us but is not reentrant across threads.
    return msgpack.packb(value, default=to_plain, datetime=True)  # type: ignore[no-any-return]


def decode_msgpack(body: bytes) -> Any:
    """Return the value. Raises ProtocolError for bytes that are not one msgpack value."""
    try:
        return msgpack.unpackb(body, timestamp=3, strict_map_key=False, ext_hook=_not_ours)
    except Exception as error:  # msgpack raises six unrelated classes for bad input
        raise ProtocolError(f"body is not msgpack: {error or type(error).__name__}") from error


def _not_ours(code: int, data: bytes) -> NoReturn:
    raise ValueError(f"extension {code} is not a timestamp")


def json_ready(value: Any) -> Any:
    """Return `value` as what strict JSON can say."""
    if value is None or (isinstance(value, (str, bool)) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return json_ready(value.value)
    if isinstance(value, int):
        return value if -_SAFE_INT <= value <= _SAFE_INT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, dict):
        return {_json_key(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    return json_ready(to_plain(value))


def _json_key(key: Any) -> str:
    ready = json_ready(key)
    return ready if isinstance(ready, str) else json.dumps(ready)


def encode_json(value: Any) -> bytes:
    """Return JSON bytes. Raises TypeError for a value that cannot travel."""
    return json.dumps(json_ready(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _not_json(token: str) -> NoReturn:
    raise ValueError(f"{token} is not JSON")


_strict = json.JSONDecoder(parse_constant=_not_json)  # json.loads would make one for each body


def decode_json(body: bytes) -> Any:
    """Return the value. Raises ProtocolError for bytes that are not strict JSON, or text that is not Unicode."""
    try:
        value = _strict.decode(body.decode())
        if b"\\ud" in body or b"\\uD" in body:  # half of a pair: nothing could be made of it but an error later
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"body is not JSON: {error}") from error


ENCODERS: Final[dict[str, Callable[[Any], bytes]]] = {MSGPACK: encode_msgpack, JSON: encode_json}
DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {MSGPACK: decode_msgpack, JSON: decode_json}


def content_type(headers: Mapping[str, str] | None) -> str:
    """Content type that the headers name; JSON if none. Raises ProtocolError for one we do not speak."""
    named = headers.get("Content-Type") if headers else None
    if named is None or named == JSON:
        return JSON
    if named == MSGPACK:
        return MSGPACK
    plain = named.partition(";")[0].strip().lower()
    if plain in ENCODERS:
        return plain
    raise ProtocolError(f"Content-Type {named!r} is not spoken here: use {MSGPACK} or {JSON}")


def encode(value: Any, kind: str) -> bytes:
    """Encode by content type."""
    return ENCODERS[kind](value)


def decode(body: bytes, kind: str) -> Any:
    """Decode by content type; an empty body is None."""
    return DECODERS[kind](body) if body else None


MAX_TEXT = 64 * 1024


def sendable(text: str) -> str:
    """`text` as UTF-8 can say it, and no longer than a message holds: an error must always reach the caller."""
    return text[:MAX_TEXT].encode("utf-8", "backslashreplace").decode()


def encode_error(error: CallError, kind: str) -> tuple[int, bytes]:
    """Return the code and the encoded body of an error reply. Never raises: a detail that cannot travel is left out."""
    code, body = error_to_wire(error)
    detail = body.pop("detail", None)
    body = {key: sendable(value) for key, value in body.items()}
    try:
        whole = encode(body | {"detail": detail}, kind) if detail is not None else encode(body, kind)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return code, encode(body, kind)
    return code, whole if len(whole) < 4 * MAX_TEXT else encode(body, kind)
