"""The header parser that sees a header which came twice."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from jsnats.sdk._nats import parse_headers

TABLE = [
    (b"NATS/1.0\r\n\r\n", {}),
    (b"NATS/1.0\r\nA: 1\r\nB: two words\r\n\r\n", {"A": "1", "B": "two words"}),
    (b"NATS/1.0\r\nA:1\r\nB:  padded \r\n\r\n", {"A": "1", "B": "padded"}),
    (b"NATS/1.0\r\nA: b:c\r\n\r\n", {"A": "b:c"}),
    (b"NATS/1.0\r\nA:\r\n\r\n", {"A": ""}),
    (b"NATS/1.0\r\nA: zo\xc3\xab\r\n\r\n", {"A": "zo\u00eb"}),
    (b"NATS/1.0\r\nA: \xff\r\n\r\n", {"A": "\ufffd"}),
    (b"NATS/1.0\r\nA: 1\r\nA: 2\r\n\r\n", {"A": "1,2"}),
    (b"NATS/1.0\r\nA: 1\r\nA: 1\r\nA: 1\r\n\r\n", {"A": "1,1,1"}),
    (b"NATS/1.0\r\nA: 1\r\na: 2\r\n\r\n", {"A": "1", "a": "2"}),
    (b"NATS/1.0 503\r\n\r\n", {"Status": "503"}),
    (b"NATS/1.0 404 No Messages\r\n\r\n", {"Status": "404", "Description": "No Messages"}),
    (b"NATS/1.0 100 Idle Heartbeat\r\nX: 1\r\n\r\n", {"Status": "100", "Description": "Idle Heartbeat", "X": "1"}),
    (b"NATS/1.0 404 x\r\nStatus: 200\r\n\r\n", {"Status": "404,200", "Description": "x"}),
    (b"NATS/1.0\r\nno colon\r\n\r\n", {}),
    (b"", {}),
]


@pytest.mark.parametrize(("raw", "headers"), TABLE)
def test_parse(raw: bytes, headers: dict[str, str]) -> None:
    """Headers, the inline status and equal names (joined by a comma) are read from a header block as sent."""
    assert parse_headers(raw) == headers


def test_forged_stamp_beside_the_brokers() -> None:
    """A stamp that a sender put beside the broker's own shows in the value, which then matches nothing."""
    raw = b"NATS/1.0\r\nNats-Stream: JSNATS_BLOBS\r\nNats-Stream: JSNATS_RESULTS\r\n\r\n"
    assert parse_headers(raw)["Nats-Stream"] not in ("JSNATS_BLOBS", "JSNATS_RESULTS")


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    """No header block, however broken, raises in the connection's read loop."""
    parse_headers(b"NATS/1.0" + raw)
    parse_headers(raw)
