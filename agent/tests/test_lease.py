"""Admission: what the agent does with the lease record, which nobody but a scheduler may write."""

from __future__ import annotations

from typing import Any

import pytest

from jsnats.agent import Exporter, Spec
from jsnats.agent.testing import Bench
from jsnats.broker.testing import TestBroker
from jsnats.common.exceptions import AccessDenied, LeaseRequired
from jsnats.schemas import LeasePolicy, LeaseRecord, call_subject, headers as h, lease_key
from jsnats.sdk import AsyncLab, Caller, connect_async, put_record


@pytest.fixture
async def lease(leases: Any) -> None:
    """`bench` is held by mallory, with tester2 beside her, in epoch 7000000: later than any that has ended here."""
    await leases.write(LeaseRecord(holder="mallory", epoch=7_000_000, co_holders=["tester2"]))


async def ping(broker: TestBroker, user: str, policy: LeasePolicy, epoch: str = "") -> object:
    """Call `ping` as `user` on a `bench` of that policy; return the error, None if it was answered."""
    spec = Spec(name="bench", root=Bench(), lease=policy)
    async with (
        Exporter(spec, broker.context("bench")),
        connect_async(context=broker.context(user)) as lab,
    ):
        headers = {h.EPOCH: epoch} if epoch else {}
        answer = await lab.connection.request(call_subject("bench", user, "", "ping"), b"[1]", headers=headers)
        return Caller.remote_error(answer) if answer.headers and h.ERROR in answer.headers else None


@pytest.mark.parametrize("policy", ["if-held", "required"])
async def test_a_free_exporter_answers_anyone_unless_a_lease_is_required(
    broker: TestBroker, policy: LeasePolicy
) -> None:
    """`required` refuses in one line that says what to do."""
    error = await ping(broker, "tester", policy)
    assert (error is None) == (policy == "if-held")
    if error:
        assert isinstance(error, LeaseRequired)
        assert "nobody holds it: `jsnats lease create -l name=bench`" in str(error)


@pytest.mark.usefixtures("lease")
async def test_a_held_exporter_answers_its_holder_only(broker: TestBroker) -> None:
    """Somebody else is told who has it; the holder gets through under either policy."""
    error = await ping(broker, "tester", "if-held")
    assert isinstance(error, LeaseRequired)
    assert "held by mallory" in str(error)
    assert await ping(broker, "mallory", "if-held") is None
    assert await ping(broker, "mallory", "required") is None


@pytest.mark.usefixtures("lease")
async def test_an_old_epoch_is_refused(broker: TestBroker) -> None:
    """A client that still believes in a lease that has ended is told so, even if its user holds the next one."""
    error = await ping(broker, "mallory", "required", epoch="6")
    assert isinstance(error, LeaseRequired)
    assert "epoch 6" in str(error)
    assert await ping(broker, "mallory", "required", epoch="7000000") is None


async def test_a_user_cannot_grant_himself_a_lease(exporter: Exporter, lab: AsyncLab) -> None:
    """Writing the record is denied by the broker."""
    record = LeaseRecord(holder="tester", epoch=1)
    with pytest.raises(AccessDenied):
        await put_record(lab.connection, lease_key("bench"), record.encode())
