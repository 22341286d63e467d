from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from jsnats.schemas import (
    BLOB_CHUNK,
    BlobRecord,
    BookingRecord,
    ExporterNote,
    InterfaceRecord,
    InvalidArgument,
    LeaseEnd,
    LeaseRecord,
    MethodRecord,
    NodeRecord,
    PresenceRecord,
    ProtocolError,
    QueueRecord,
    TreeRecord,
    check_digest,
    chunks_of,
)

NODE = {"path": "dut", "client": "jsnats.client.DriverClient", "interface": "ab"}
# class, the least that a record of it holds, the fields that it cannot do without
LEAST: list[tuple[Any, dict[str, Any], tuple[str, ...]]] = [
    (MethodRecord, {"kind": "call"}, ("kind",)),
    (InterfaceRecord, {"methods": {}}, ("methods",)),
    (NodeRecord, NODE, ("path", "client", "interface")),
    (TreeRecord, {"name": "b", "instance": "i", "nodes": [NODE]}, ("name", "instance", "nodes")),
    (PresenceRecord, {"instance": "i"}, ("instance",)),
    (LeaseRecord, {"holder": "ann"}, ("holder",)),
    (
        QueueRecord,
        {"user": "ann", "selectors": ["board=rpi4"], "duration": 60.0},
        ("user", "selectors", "duration"),
    ),
    (BookingRecord, {"user": "ann", "boards": ["a"], "begin": 1.0, "end": 2.0}, ("user", "boards", "begin", "end")),
    (ExporterNote, {}, ()),
    (LeaseEnd, {}, ()),
    (BlobRecord, {"sha256": "ab", "size": 5, "chunks": 1}, ("sha256", "size", "chunks")),
]


@pytest.mark.parametrize(("cls", "least", "_"), LEAST)
def test_round_trip(cls: Any, least: dict[str, Any], _: object) -> None:
    """A record is what it was after being stored and read."""
    record = cls.from_map(least)
    assert cls.decode(record.encode()) == record


@pytest.mark.parametrize(("cls", "least", "_"), LEAST)
def test_unknown_fields_are_dropped(cls: Any, least: dict[str, Any], _: object) -> None:
    """A field that a newer version added does not disturb."""
    assert cls.decode(json.dumps({**least, "colour": "red"}).encode()) == cls.from_map(least)


@pytest.mark.parametrize(
    ("cls", "least", "field"), [(cls, least, name) for cls, least, names in LEAST for name in names]
)
def test_missing_field_is_named(cls: Any, least: dict[str, Any], field: str) -> None:
    """A record without a field it needs is refused, and the refusal names the field."""
    body = json.dumps({key: value for key, value in least.items() if key != field}).encode()
    with pytest.raises(ProtocolError, match=field):
        cls.decode(body)


@pytest.mark.parametrize(
    ("cls", "field", "value"),
    [
        (TreeRecord, "labels", {"board": ["rpi4"]}),
        (TreeRecord, "name", None),
        (PresenceRecord, "state", ["available"]),
        (PresenceRecord, "epoch", "42"),
        (PresenceRecord, "epoch", True),
        (PresenceRecord, "reason", {"a": 1}),
        (LeaseRecord, "end", None),
        (LeaseRecord, "boards", "bench-1"),
        (QueueRecord, "selectors", [1]),
    ],
)
def test_a_field_of_another_type_is_refused(cls: Any, field: str, value: object) -> None:
    """Whoever reads records of others is not undone by one of them; a whole number is a float too."""
    least = next(least for each, least, _ in LEAST if each is cls)
    with pytest.raises(ProtocolError, match=field):
        cls.decode(json.dumps({**least, field: value}).encode())
    assert LeaseRecord.decode(b'{"holder": "ann", "end": 7}').end == 7


@pytest.mark.parametrize("cls", [row[0] for row in LEAST])
@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"{", b""])
def test_not_a_record(cls: Any, body: bytes) -> None:
    """A body that is no JSON map is a ProtocolError."""
    with pytest.raises(ProtocolError):
        cls.decode(body)


def test_unknown_fields_inside() -> None:
    """Unknown fields are dropped at every depth: in the nodes of a tree and the methods of an interface."""
    tree = TreeRecord.from_map({"name": "b", "instance": "i", "nodes": [{**NODE, "colour": "red"}]})
    assert tree.nodes == [NodeRecord(**NODE)]
    methods = {"on": {"kind": "call", "colour": "red"}}
    assert InterfaceRecord.from_map({"methods": methods}).methods == {"on": MethodRecord(kind="call")}


def test_the_revision_of_the_first_version_is_kept() -> None:
    """The epoch of a lease and the arrival of a queue entry are the revision of their first version, whatever is
    written later."""
    grant = LeaseRecord(holder="ann").at(42)
    assert (grant.epoch, LeaseRecord.decode(grant.encode()).at(50).epoch) == (42, 42)
    entry = QueueRecord(user="ann", selectors=[""], duration=1.0).at(7)
    assert (entry.arrival, QueueRecord.decode(entry.encode()).at(9).arrival) == (7, 7)


@pytest.mark.parametrize("nodes", [None, {}, "dut", [5], [{"path": "dut"}]])
def test_bad_nodes(nodes: object) -> None:
    """A tree whose nodes are no list of nodes is refused."""
    with pytest.raises(ProtocolError):
        TreeRecord.from_map({"name": "b", "instance": "i", "nodes": nodes})


def interface(*names: str) -> InterfaceRecord:
    """An interface with one method of these parameters, in this order."""
    properties = {name: {"type": "integer", "default": 0} for name in names}
    return InterfaceRecord(
        methods={"go": MethodRecord(kind="call", params={"type": "object", "properties": properties})}
    )


def test_digest_is_that_of_the_stored_bytes() -> None:
    """Anybody can check a stored interface against the name it is stored under."""
    record = interface("a", "b")
    assert record.digest == hashlib.sha256(record.encode()).hexdigest()
    assert InterfaceRecord.decode(record.encode()).digest == record.digest


def test_digest_sees_the_order_of_arguments() -> None:
    """Two methods with the same arguments in another order are two interfaces: calls by position differ."""
    assert interface("a", "b").digest != interface("b", "a").digest


@pytest.mark.parametrize(
    ("size", "chunks"), [(0, 0), (1, 1), (BLOB_CHUNK, 1), (BLOB_CHUNK + 1, 2), (10 * BLOB_CHUNK - 1, 10)]
)
def test_chunks_of(size: int, chunks: int) -> None:
    """A file has as many chunks as it needs, none when it is empty."""
    assert chunks_of(size) == chunks


@pytest.mark.parametrize("text", ["", "ab", "A" * 64, "g" * 64, "a" * 65, "a" * 63 + "\n", 5, None])
def test_not_a_digest(text: object) -> None:
    """What is not 64 hex digits in lower case is refused, before it becomes part of a subject."""
    with pytest.raises(InvalidArgument, match="64 hex digits"):
        check_digest(text)
    assert check_digest("0a" * 32) == "0a" * 32
