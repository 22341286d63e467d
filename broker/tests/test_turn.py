"""Whose turn it is: one at a time, by a record of the lab."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from jsnats.broker import _turn
from jsnats.broker._turn import Turn
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.sdk import Connection, leader_record, open_connection, put_record

SUBJECT = "$KV.jsnats_lab.service.test"


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A lab."""
    with running_broker() as broker:
        yield broker


@pytest.fixture
async def nc(broker: TestBroker) -> AsyncIterator[Connection]:
    """The scheduler's connection; the turn is free."""
    async with await open_connection(broker.context("scheduler")) as nc:
        record = await leader_record(nc, "KV_jsnats_lab", SUBJECT)
        await put_record(nc, SUBJECT, b"", expect=record.revision if record else 0, delete=True)
        yield nc


async def test_one_has_it_until_it_is_given_back(nc: Connection) -> None:
    """Renewing keeps it; whoever looks meanwhile does not get it, and does at the first look afterwards."""
    first, second = Turn(nc, SUBJECT, "first"), Turn(nc, SUBJECT, "second")
    for _ in range(3):
        await first.attempt()
        await second.attempt()
        assert (first.mine.is_set(), second.mine.is_set()) == (True, False)
    await first.give_back()
    await second.attempt()
    assert (first.mine.is_set(), second.mine.is_set()) == (False, True)


async def test_who_does_not_renew_it_loses_it_first(nc: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it is over before it has expired at the broker, where others look."""
    monkeypatch.setattr(_turn, "TTL_S", 2)
    turn = Turn(nc, SUBJECT, "first")
    await turn.attempt()
    assert turn.mine.is_set()
    await turn.lost.wait()
    record = await leader_record(nc, "KV_jsnats_lab", SUBJECT)
    assert record
    assert record.body == b"first"


async def test_who_finds_another_there_has_lost_it(nc: Connection) -> None:
    """A turn that was taken over, however that came, is not fought for."""
    turn = Turn(nc, SUBJECT, "first")
    await turn.attempt()
    await put_record(nc, SUBJECT, b"second")
    await turn.attempt()
    assert not turn.mine.is_set()
    assert turn.lost.is_set()
