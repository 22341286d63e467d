"""A hook works with its board as a user does: it flashes, switches on, and waits for the console to ask for a login."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from jsnats.agent import Hook, load
from jsnats.agent._agent import hosted, hosting
from jsnats.broker.testing import running_broker
from jsnats.schemas import EXPORTER, LOGS, LeaseRecord, LogRecord, lease_key, log_subject
from jsnats.sdk import follow, open_connection, put_record

BOARD = Path(__file__).parents[2] / "examples" / "demo" / "board.yaml"
BEFORE = """
set -e
head -c 1000000 /dev/zero > $TMPDIR/board.img
j dut storage flash $TMPDIR/board.img
j dut power on
jsnats console bench-1.dut.serial --watch --from-boot --until 'login: ' --timeout 20
j dut power read -n 2
"""


@pytest.mark.timeout(90)
async def test_a_hook_works_with_its_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, streams, consoles: while nobody else is let in, and all of it can be read afterwards."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (loaded,) = load([BOARD])
    with running_broker() as broker:
        context = await asyncio.to_thread(broker.add, EXPORTER, "bench-1")
        plain = hosted(loaded, context, "required")
        hook = Hook(script=BEFORE, on_failure="endLease")
        admin = await open_connection(broker.context())
        async with hosting([replace(plain, spec=replace(plain.spec, hooks={"beforeLease": hook}))]) as agent:
            await agent.settled()
            assert not agent.failures
            await put_record(admin, lease_key("bench-1"), LeaseRecord(holder="ann").encode())
            said = ""
            async for each in follow(admin, LOGS.name, log_subject("bench-1", "")):
                for line in each.message.data.splitlines():
                    said += LogRecord.decode(line).message + "\n"
                if "beforeLease: ok after" in said or "beforeLease: failed after" in said:
                    break
            assert "beforeLease: ok after" in said, said
            assert "beforeLease: sim-board login: " in said
            assert "--- power-on: dut.power.on by bench-1 ---" in said
        await admin.close()
