from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, SecretStr

from jsnats.schemas import (
    JSON,
    MSGPACK,
    ProtocolError,
    content_type,
    decode,
    decode_json,
    decode_msgpack,
    encode,
    encode_json,
    encode_msgpack,
)

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
UUID4 = UUID("12345678-1234-4678-9234-567812345678")


class Colour(enum.Enum):
    RED = "red"
    DEEP = 7


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "yes"


@dataclass
class Point:
    x: int
    at: datetime


class Reading(BaseModel):
    volts: Decimal
    raw: bytes


class Login(BaseModel):
    password: SecretStr


# value, what msgpack gives back, what JSON gives back
TABLE: list[tuple[Any, Any, Any]] = [
    (None, None, None),
    (True, True, True),
    (5, 5, 5),
    (5.0, 5.0, 5.0),
    (2**53, 2**53, 2**53),
    (2**53 + 1, 2**53 + 1, "9007199254740993"),
    (-(2**63), -(2**63), "-9223372036854775808"),
    (2**64 - 1, 2**64 - 1, "18446744073709551615"),
    (math.inf, math.inf, None),
    (-math.inf, -math.inf, None),
    ("zoë", "zoë", "zoë"),
    (b"\x00\xff", b"\x00\xff", "AP8="),
    (bytearray(b"ab"), b"ab", "YWI="),
    (memoryview(b"ab"), b"ab", "YWI="),
    ((1, "a"), [1, "a"], [1, "a"]),
    ({"k": [1, {"n": None}]}, {"k": [1, {"n": None}]}, {"k": [1, {"n": None}]}),
    ({2: "a"}, {2: "a"}, {"2": "a"}),
    ({7}, [7], [7]),
    (range(3), [0, 1, 2], [0, 1, 2]),
    (AT, AT, "2026-01-02T03:04:05.678000+00:00"),
    (AT.astimezone(timezone(timedelta(hours=2))), AT, "2026-01-02T03:04:05.678000+00:00"),
    (AT.replace(tzinfo=None), "2026-01-02T03:04:05.678000", "2026-01-02T03:04:05.678000"),
    (date(2026, 1, 2), "2026-01-02", "2026-01-02"),
    (time(3, 4), "03:04:00", "03:04:00"),
    (timedelta(seconds=1.5), "PT1.5S", "PT1.5S"),
    (timedelta(0), "PT0S", "PT0S"),
    (timedelta(seconds=10), "PT10S", "PT10S"),
    (timedelta(days=-1, seconds=3600), "-PT82800S", "-PT82800S"),
    (timedelta(days=2, microseconds=1), "P2DT0.000001S", "P2DT0.000001S"),
    (UUID4, str(UUID4), str(UUID4)),
    (Decimal("1.10"), "1.10", "1.10"),
    (PurePosixPath("/dev/ttyUSB0"), "/dev/ttyUSB0", "/dev/ttyUSB0"),
    (Colour.RED, "red", "red"),
    (Colour.DEEP, 7, 7),
    (Level.HIGH, 3, 3),
    (Word.YES, "yes", "yes"),
    (Point(1, AT), {"x": 1, "at": AT}, {"x": 1, "at": "2026-01-02T03:04:05.678000+00:00"}),
    (Reading(volts=Decimal("3.30"), raw=b"\x01"), {"volts": "3.30", "raw": b"\x01"}, {"volts": "3.30", "raw": "AQ=="}),
]


@pytest.mark.parametrize(("value", "packed", "text"), TABLE, ids=lambda value: repr(value).partition(" at ")[0][:40])
def test_what_arrives(value: Any, packed: Any, text: Any) -> None:
    """Every type the protocol knows arrives as this, by msgpack and by JSON, with the same Python type."""
    for kind, expected in ((MSGPACK, packed), (JSON, text)):
        arrived = decode(encode(value, kind), kind)
        assert arrived == expected
        assert type(arrived) is type(expected)


def test_nan() -> None:
    """Not-a-number stays one in msgpack and is null in JSON."""
    assert math.isnan(decode_msgpack(encode_msgpack(math.nan)))
    assert encode_json([math.nan]) == b"[null]"


@pytest.mark.parametrize("kind", [MSGPACK, JSON])
@pytest.mark.parametrize("value", [SecretStr("hunter2"), Login(password=SecretStr("hunter2")), {"k": [SecretStr("x")]}])
def test_secrets_never_travel(kind: str, value: Any) -> None:
    """A secret is refused at any depth, and the refusal does not show it."""
    with pytest.raises(TypeError, match="is a secret and never travels") as caught:
        encode(value, kind)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("kind", [MSGPACK, JSON])
@pytest.mark.parametrize("value", [object(), Point, lambda: None, 1j])
def test_strangers_are_refused(kind: str, value: Any) -> None:
    """A value of no known type is refused by the name of its type."""
    with pytest.raises(TypeError, match="cannot travel: return plain data"):
        encode(value, kind)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_integers_beyond_64_bits(value: int) -> None:
    """msgpack has 64 bits and says so; JSON carries any integer as text."""
    with pytest.raises(ValueError, match="64 bits"):
        encode_msgpack(value)
    assert decode_json(encode_json(value)) == str(value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x01\x02",
        b"\x92\x01",
        b"\xa5ab",
        b"\xa1\xff",
        b"\x81\x90\x01",
        b"\xd4\x05\x00",
        b"\x91" * 5000,
    ],
    ids=[
        "empty",
        "reserved",
        "two values",
        "short array",
        "short text",
        "no utf-8",
        "array as key",
        "extension",
        "deep",
    ],
)
def test_msgpack_garbage(body: bytes) -> None:
    """Bytes that are not one msgpack value of our types are a ProtocolError and nothing else."""
    with pytest.raises(ProtocolError, match="body is not msgpack"):
        decode_msgpack(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1,]",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"{'a':1}",
        b"1 2",
        b"\xff\xfe\xff",
        b"9" * 5000,
        b"[" * 100_000,
    ],
    ids=["empty", "open", "comma", "nan", "inf", "-inf", "quotes", "two values", "no utf-8", "digits", "deep"],
)
def test_json_garbage(body: bytes) -> None:
    """Bytes that are not strict JSON are a ProtocolError and nothing else."""
    with pytest.raises(ProtocolError, match="body is not JSON"):
        decode_json(body)


@pytest.mark.parametrize("kind", [MSGPACK, JSON])
def test_empty_body(kind: str) -> None:
    """An empty body is no value."""
    assert decode(b"", kind) is None


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        (None, JSON),
        ({}, JSON),
        ({"Jsnats-Call": "c"}, JSON),
        ({"Content-Type": "application/json"}, JSON),
        ({"Content-Type": "Application/JSON; charset=utf-8"}, JSON),
        ({"Content-Type": "application/msgpack"}, MSGPACK),
        ({"Content-Type": "application/msgpack; x=y"}, MSGPACK),
    ],
)
def test_content_type(headers: dict[str, str] | None, kind: str) -> None:
    """The header names the codec, parameters are ignored, none means JSON."""
    assert content_type(headers) == kind


def test_unknown_content_type() -> None:
    """Another content type is refused with those that are spoken."""
    with pytest.raises(ProtocolError, match="use application/msgpack or application/json"):
        content_type({"Content-Type": "text/plain"})


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_msgpack_round_trip(value: Any) -> None:
    """msgpack keeps plain data exactly as it was."""
    assert decode_msgpack(encode_msgpack(value)) == value


@given(st.binary(max_size=200))
def test_garbage_never_escapes(body: bytes) -> None:
    """Whatever bytes come in, a decoder gives a value or a ProtocolError."""
    for decoder in (decode_msgpack, decode_json):
        try:
            decoder(body)
        except ProtocolError:
            continue


def test_an_extension_of_msgpack_is_refused() -> None:
    """Only the timestamp extension is ours; another would reach a driver as something it never asked for."""
    with pytest.raises(ProtocolError, match="extension 42"):
        decode_msgpack(msgpack.packb(msgpack.ExtType(42, b"x")))


def test_half_a_surrogate_pair_is_no_text() -> None:
    """Nothing could ever send it again; a whole pair is a character."""
    assert decode_json(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}"
    for body in (b'"\\ud800"', b'{"a": ["\\uDC00"]}'):
        with pytest.raises(ProtocolError, match="surrogates"):
            decode_json(body)
