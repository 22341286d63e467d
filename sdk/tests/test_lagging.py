"""In a cluster the server that is read from may be behind: what is older than what is known says nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jsnats.schemas import ExporterOffline, LeaseEnd, LeaseRecord, MethodNotFound, lease_key
from jsnats.sdk import AsyncLab, Caller, Job, NoResponders, _lab, _mirror
from jsnats.sdk._buckets import Record
from jsnats.sdk._connection import Connection
from jsnats.sdk._lease_hold import Hold
from jsnats.sdk._mirror import Mirror

GRANTED = 10
RELEASED = LeaseEnd(reason="released", by="bob").encode()


def over(*records: Record) -> list[str]:
    """Why the lease `mine` is over, by each of these records in turn."""
    connection = cast("Connection", SimpleNamespace(token="ann"))
    hold = Hold(connection, "mine", ["bench"], GRANTED, lambda: None, lambda why: None)
    hold._presence["bench"] = cast("Mirror", SimpleNamespace(get=lambda key: None))
    found = []
    for record in records:
        hold._leases["bench"] = cast("Mirror", SimpleNamespace(records={lease_key("bench"): record}))
        found.append(hold._why_over("bench"))
    return found


def test_the_end_of_the_lease_before_is_not_the_end_of_this_one() -> None:
    """A marker from before the grant, read after it, is not ours; one from after it is, and so is any once ours was
    seen."""
    mine = LeaseRecord(id="mine", holder="ann", boards=["bench"]).encode()
    assert over(Record(b"", 5, RELEASED)) == [""]
    assert over(Record(b"", 5, RELEASED), Record(mine, GRANTED)) == ["", ""]
    assert over(Record(b"", 11, RELEASED)) == ["released by bob"]
    assert over(Record(mine, GRANTED), Record(b"", 11, RELEASED)) == ["", "released by bob"]


@pytest.mark.parametrize("clustered", [True, False])
async def test_an_interface_that_another_server_has_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, clustered: bool
) -> None:
    """Who has the tree may not have it yet. A lab with one server has it, or nobody has."""
    answers = [None, None, Record(b"interface", 7)]

    async def last_record(*_: Any) -> Record | None:
        return answers.pop(0)

    monkeypatch.setattr(_lab, "last_record", last_record)
    lab = cast("AsyncLab", SimpleNamespace(connection=SimpleNamespace(clustered=clustered)))
    if clustered:
        assert await AsyncLab._published_interface(lab, "0123456789abcdef") == b"interface"
    else:
        with pytest.raises(MethodNotFound, match="does not know interface 0123456789ab"):
            await AsyncLab._published_interface(lab, "0123456789abcdef")


@pytest.mark.parametrize("there", [True, False])
async def test_a_record_that_is_missing_is_looked_for_once_more(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """What a new consumer did not deliver is gone only if a second reading does not find it either."""

    async def last_record(*_: Any) -> Record | None:
        return Record(b"lease", 7) if there else None

    monkeypatch.setattr(_mirror, "last_record", last_record)
    monkeypatch.setattr(_mirror, "BEHIND_S", 0.0)
    mirror = Mirror(cast("Connection", SimpleNamespace(clustered=True)), "lab", "lab.>")
    mirror.apply("lab.lease", Record(b"lease", 7))
    mirror.apply("lab.marker", Record(b"", 8))
    missing = await mirror._really_gone({"lab.lease", "lab.marker"})
    assert missing == ({"lab.marker"} if there else {"lab.lease", "lab.marker"})


@pytest.mark.parametrize("clustered", [True, False])
async def test_a_job_is_asked_again_while_its_exporter_goes_to_another_server(
    monkeypatch: pytest.MonkeyPatch, clustered: bool
) -> None:
    """Nobody answers for a moment when the server that the exporter is at dies. In a lab with one server it is
    offline."""
    connected = asyncio.Event()
    connected.set()
    connection = SimpleNamespace(
        clustered=clustered,
        just_back=False,
        reconnected_at=0.0,
        token="ann",
        on_reconnect=[],
        wait_connected=connected.wait,
    )
    caller = Caller(cast("Connection", connection))
    answers: list[dict[str, Any] | None] = [None, None, {"state": "running"}]

    async def probe(*_: Any) -> dict[str, Any]:
        if answer := answers.pop(0):
            return answer
        raise NoResponders

    monkeypatch.setattr(caller, "probe", probe)
    job = Job(cast("AsyncLab", SimpleNamespace(connection=connection, caller=caller)), "bench", "0" * 32)
    if clustered:
        assert await job.state() == "running"
    else:
        with pytest.raises(ExporterOffline):
            await job.state()
