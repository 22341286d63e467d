"""The protocol text says what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from jsnats.schemas import (
    CATALOGUE,
    EXPORTER_STATES,
    LEASE_STATES,
    MAX_DEPTH,
    MAX_SUBJECT,
    ROLES,
    STREAMS,
    SUBJECTS,
    BlobRecord,
    BookingRecord,
    ExporterNote,
    InterfaceRecord,
    LeaseEnd,
    LeaseRecord,
    LinkRecord,
    LogRecord,
    MethodRecord,
    NodeRecord,
    PresenceRecord,
    QueueRecord,
    StreamSpec,
    TreeRecord,
    decode_json,
    encode_msgpack,
    headers,
)

TEXT = (Path(__file__).resolve().parents[1] / "README.md").read_text()
RECORDS: dict[str, Any] = {
    "tree": TreeRecord,
    "interface": InterfaceRecord,
    "presence": PresenceRecord,
    "lease": LeaseRecord,
    "queue": QueueRecord,
    "booking": BookingRecord,
    "exporter": ExporterNote,
    "link": LinkRecord,
    "end": LeaseEnd,
    "manifest": BlobRecord,
    "log": LogRecord,
}
BUILTINS = {
    "ValueError",
    "LookupError",
    "TimeoutError",
    "PermissionError",
    "ConnectionError",
    "OSError",
    "NotImplementedError",
}


def section(title: str) -> str:
    """Text under a heading, up to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title!r}"
    return found[1]


def rows(title: str, table: int = 0) -> list[list[str]]:
    """Cells of a table of a section, without its head."""
    tables = re.findall(r"(?:^\|.*\n)+", section(title), re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in tables[table].splitlines()[2:]]


def roles(cell: str) -> set[str]:
    """The roles that a cell names."""
    return set(re.findall("|".join(ROLES), cell))


def test_subjects() -> None:
    """The table of subjects is that of the code, with who publishes and who receives."""
    told = [(pattern.strip("`"), roles(publish), roles(receive)) for pattern, publish, receive, _ in rows("Subjects")]
    assert told == [(row.pattern, set(row.publish), set(row.receive)) for row in SUBJECTS]


def test_headers() -> None:
    """The table of headers has each of ours that a message can carry."""
    told = {row[0].strip("`") for row in rows("Headers")}
    assert told == {
        value for value in vars(headers).values() if isinstance(value, str) and re.match("Jsnats-[A-Z]", value)
    }


def test_errors() -> None:
    """The table of errors is the catalogue: code, class and builtin."""
    told = {int(code): (name, builtin) for code, name, builtin, _ in rows("Errors")}
    assert {code: name for code, (name, _) in told.items()} == {code: cls.__name__ for code, cls in CATALOGUE.items()}
    for code, (_, builtin) in told.items():
        ours = {base.__name__ for base in CATALOGUE[code].__bases__} & BUILTINS
        assert ours == ({builtin} if builtin else set())


@pytest.mark.parametrize(
    ("title", "table"), [("States of an exporter", EXPORTER_STATES), ("States of a lease", LEASE_STATES)]
)
def test_states(title: str, table: Mapping[Any, Any]) -> None:
    """The tables of states are the two state machines."""
    assert {(row[0], row[1]): row[2] for row in rows(title)} == table


def told_of(spec: StreamSpec) -> tuple[str, str, str, str, str]:
    """What the table of streams has to say of one, the last cell reduced to its facts."""
    days, hours = divmod(spec.max_age_s, 86_400)
    age = f"{days} d" if days else f"{hours // 3600} h" if hours else "ever"
    several = f"{spec.max_msgs_per_subject:,}".replace(",", " ")
    facts = {1: "one" if spec.write_once else "last", -1: ""}.get(spec.max_msgs_per_subject, several)
    return spec.name, spec.subjects, f"{spec.share * 100:g} %", age, facts


def test_streams() -> None:
    """The table of streams has the names, subjects, shares, ages and limits of the code, in the order of creation."""
    told = rows("Streams and buckets")
    assert [(row[0].strip("`"), row[1].strip("`"), row[2], row[3]) for row in told] == [
        told_of(spec)[:4] for spec in STREAMS
    ]
    for row, spec in zip(told, STREAMS, strict=True):
        assert row[4].startswith(told_of(spec)[4])
        assert ("Nats-TTL" in row[4], "atomic" in row[4]) == (spec.record_ttl, spec.atomic)
        assert ("refuses when full" in row[4]) == spec.discard_new


def test_names() -> None:
    """The limits of names are those of the code."""
    assert f"at most {MAX_DEPTH}; the root" in section("Names")
    assert f"at most {MAX_SUBJECT} bytes" in section("Names")


@pytest.mark.parametrize(("what", "packed", "text"), rows("Bodies", 1), ids=lambda cell: cell[:20])
def test_bodies(what: str, packed: str, text: str) -> None:
    """Each example body is the same value in msgpack and in JSON, byte for byte."""
    assert encode_msgpack(decode_json(text.strip("`").encode())).hex() == packed.strip("`"), what


def names(cls: Any) -> set[str]:
    """Fields of a record."""
    return {field.name for field in fields(cls)}


@pytest.mark.parametrize("title", RECORDS)
def test_records(title: str) -> None:
    """Each example record is read by the code, and shows every field there is."""
    blocks = re.findall(r"```json\n(.*?)```", section(title), re.DOTALL)
    shown = json.loads(blocks[0])
    assert set(shown) == names(RECORDS[title])
    assert RECORDS[title].decode(blocks[0].encode())
    assert all(set(node) == names(NodeRecord) for node in shown.get("nodes", ()))
    assert all(set(method) == names(MethodRecord) for method in shown.get("methods", {}).values())


def test_interface_example_has_its_name() -> None:
    """The example tree names the example interface by its digest."""
    blocks = {title: re.findall(r"```json\n(.*?)```", section(title), re.DOTALL)[0] for title in ("tree", "interface")}
    written = InterfaceRecord.decode(blocks["interface"].encode()).digest
    assert TreeRecord.decode(blocks["tree"].encode()).nodes[-1].interface == written


def test_wire_example_counts_its_bytes() -> None:
    """The HPUB of the example gives the true sizes of its headers and of the whole."""
    found = re.search(r"    HPUB \S+ \S+ (\d+) (\d+)\n((?:    .*\n)+)\n    (.*)\n", section("A call"))
    assert found
    block = "".join(f"{line.strip()}\r\n" for line in found[3].splitlines()) + "\r\n"
    assert (int(found[1]), int(found[2])) == (len(block), len(block) + len(found[4]))


def test_links() -> None:
    """Every link to a section of the text finds it."""
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
