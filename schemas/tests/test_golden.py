"""Bytes of version 1 of the protocol. A change here is a change of what older clients and agents see."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from jsnats.schemas import (
    BookingRecord,
    Busy,
    DriverTimeout,
    ExporterNote,
    InterfaceRecord,
    LeaseEnd,
    LeaseRecord,
    MethodRecord,
    NodeRecord,
    PresenceRecord,
    QueueRecord,
    TreeRecord,
    decode_json,
    decode_msgpack,
    encode_json,
    encode_msgpack,
    error_to_wire,
    headers,
)

EVERYTHING = {
    "none": None,
    "yes": True,
    "int": -5,
    "big": 2**63,
    "float": 1.5,
    "text": "é",
    "bytes": b"\x00\xff",
    "at": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
    "list": [1, "a"],
}
# value, msgpack in hex, JSON
MESSAGES: list[tuple[Any, str, bytes]] = [
    (
        EVERYTHING,
        "89a46e6f6e65c0a3796573c3a3696e74fba3626967cf8000000000000000a5666c6f6174cb3ff8000000000000a474657874a2c3a9"
        "a56279746573c40200ffa26174d7ffa1a5d600695735a5a46c6973749201a161",
        b'{"none":null,"yes":true,"int":-5,"big":"9223372036854775808","float":1.5,"text":"\xc3\xa9","bytes":"AP8=",'
        b'"at":"2026-01-02T03:04:05.678000+00:00","list":[1,"a"]}',
    ),
    ([2.5], "91cb4004000000000000", b"[2.5]"),
    ({"wait": 2}, "81a47761697402", b'{"wait":2}'),
    ({"used": 0, "credit": 4097}, "82a47573656400a6637265646974cd1001", b'{"used":0,"credit":4097}'),
    (
        error_to_wire(DriverTimeout("no rail", path="dut.power", method="on", detail=[5], cause="TimeoutError"))[1],
        "86a474797065ad44726976657254696d656f7574a76d657373616765a76e6f207261696ca470617468a96475742e706f776572a66d6574"
        "686f64a26f6ea664657461696c9105a56361757365ac54696d656f75744572726f72",
        b'{"type":"DriverTimeout","message":"no rail","path":"dut.power","method":"on","detail":[5],'
        b'"cause":"TimeoutError"}',
    ),
    (
        error_to_wire(Busy("later"))[1],
        "82a474797065a442757379a76d657373616765a56c61746572",
        b'{"type":"Busy","message":"later"}',
    ),
]

RECORDS: list[tuple[Any, bytes]] = [
    (
        TreeRecord(
            name="bench-1",
            instance="3fef62b51a737382",
            nodes=[
                NodeRecord(path="", client="a.B", interface="ab"),
                NodeRecord(path="p", client="c.D", interface="cd", driver="e.F", package="g-h", description="relay 3"),
            ],
            labels={"board": "rpi4"},
            lease="required",
            version="0.1.0",
        ),
        b'{"name":"bench-1","instance":"3fef62b51a737382","nodes":[{"path":"","client":"a.B","interface":"ab","driver":"",'
        b'"package":"","description":""},{"path":"p","client":"c.D","interface":"cd","driver":"e.F","package":"g-h",'
        b'"description":"relay 3"}],"labels":{"board":"rpi4"},"lease":"required","version":"0.1.0","protocol":"1"}',
    ),
    (
        InterfaceRecord(
            methods={"on": MethodRecord(kind="call", doc="On.", params={"type": "object"}, result={"type": "null"})}
        ),
        b'{"methods":{"on":{"kind":"call","doc":"On.","params":{"type":"object"},"result":{"type":"null"}}}}',
    ),
    (
        PresenceRecord(instance="i", host="h", pid=7, since=1.5),
        b'{"instance":"i","state":"available","host":"h","pid":7,"since":1.5,"reason":"","epoch":0,"ended":0,"before":""}',
    ),
    (
        LeaseRecord(holder="ann", epoch=42, end=2.0, co_holders=["bob"]),
        b'{"holder":"ann","id":"","epoch":42,"begin":0.0,"end":2.0,"tether":0.0,"co_holders":["bob"],"boards":[],"note":""}',
    ),
    (
        QueueRecord(user="ann", selectors=["board=rpi4"], duration=60.0),
        b'{"user":"ann","selectors":["board=rpi4"],"duration":60.0,"priority":0,"tether":0.0,"arrival":0,"asked":0.0,'
        b'"until":0.0,"note":""}',
    ),
    (
        BookingRecord(user="ann", boards=["bench-1"], begin=1.0, end=2.0),
        b'{"user":"ann","boards":["bench-1"],"begin":1.0,"end":2.0,"asked":0.0,"note":""}',
    ),
    (ExporterNote(disabled=True), b'{"disabled":true,"comment":"","by":"","since":0.0}'),
    (
        LeaseEnd(reason="released", by="ann"),
        b'{"reason":"released","by":"ann","boards":[]}',
    ),
]

HEADERS = {
    "VERSION": "Jsnats-Version",
    "CALL": "Jsnats-Call",
    "DEADLINE": "Jsnats-Deadline",
    "EPOCH": "Jsnats-Epoch",
    "RETRY": "Jsnats-Retry",
    "PARTS": "Jsnats-Parts",
    "DETACH": "Jsnats-Detach",
    "PROGRESS": "Jsnats-Progress",
    "INTERIM": "Jsnats-Interim",
    "INDEX": "Jsnats-Index",
    "PART": "Jsnats-Part",
    "END": "Jsnats-End",
    "CTL": "Jsnats-Ctl",
    "CONTENT_TYPE": "Content-Type",
    "TRACE": "traceparent",
    "ERROR": "Nats-Service-Error",
    "ERROR_CODE": "Nats-Service-Error-Code",
}


@pytest.mark.parametrize(("value", "packed", "text"), MESSAGES)
def test_message(value: Any, packed: str, text: bytes) -> None:
    """A message of version 1 is written with these bytes and read from them."""
    assert encode_msgpack(value).hex() == packed
    assert decode_msgpack(bytes.fromhex(packed)) == value
    assert encode_json(value) == text
    assert encode_json(decode_json(text)) == text


@pytest.mark.parametrize(("record", "body"), RECORDS, ids=lambda value: type(value).__name__)
def test_record(record: Any, body: bytes) -> None:
    """A record of version 1 is written with these bytes and read from them."""
    assert record.encode() == body
    assert type(record).decode(body) == record


def test_interface_digest() -> None:
    """The name of an interface is the same in every version."""
    digest = "ecaa69a53ba7d79b6803a27b2e023060f6b81b090f8f6364f8a7ee8547c4f41d"
    assert RECORDS[1][0].digest == digest


@pytest.mark.parametrize(("name", "header"), HEADERS.items())
def test_header(name: str, header: str) -> None:
    """The headers of version 1 keep their names."""
    assert getattr(headers, name) == header
    assert headers.PROTOCOL == "1"
