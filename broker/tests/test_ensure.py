from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jsnats.broker import BrokerConfig, BrokerProcess, check_fit, df, ensure_streams, run_broker, stream_config
from jsnats.schemas import BLOBS, CONSOLE, LAB, PRESENCE, RESULTS, STREAMS, BrokerUnfit
from jsnats.sdk import Connection, Context, open_connection

TOTAL = 100_000_000


async def config_of(nc: Connection, name: str) -> dict[str, Any]:
    """The definition that the broker has of a stream."""
    info = await nc.api(f"STREAM.INFO.{name}")
    config: dict[str, Any] = info["config"]
    return config


async def test_streams_are_as_the_table_says(tmp_path: Path, connect) -> None:
    """After a start each stream stands with the definition of the table, sizes as shares of the total."""
    async with run_broker(tmp_path, total_bytes=TOTAL) as broker:
        nc = await connect(broker.context())
        for spec in STREAMS:
            present = await config_of(nc, spec.name)
            wanted = stream_config(spec, TOTAL)
            assert {key: present.get(key) for key in wanted} == wanted
        assert sum(row.max_bytes for row in await df(nc)) <= TOTAL


def test_definitions() -> None:
    """What the design asks of single streams is in their definitions."""
    assert stream_config(BLOBS, TOTAL)["discard_new_per_subject"] is True
    assert stream_config(LAB, TOTAL)["allow_atomic"] is True
    assert stream_config(PRESENCE, TOTAL)["allow_msg_ttl"] is True
    assert stream_config(RESULTS, TOTAL)["republish"] == {"src": "jsnats.result.>", "dest": "jsnats.live.>"}
    assert stream_config(CONSOLE, TOTAL)["discard"] == "old"
    assert not any(stream_config(spec, TOTAL)["allow_rollup_hdrs"] for spec in STREAMS)


async def test_more_than_a_thousand_read_at_once(tmp_path: Path, connect) -> None:
    """Every exporter follows its lease by a consumer of its own: nobody is turned away in a large lab."""
    async with run_broker(tmp_path, total_bytes=TOTAL) as broker:
        nc = await connect(broker.context())
        for number in range(1100):
            config = {"name": f"c{number}", "ack_policy": "none", "mem_storage": True, "inactive_threshold": 60 * 10**9}
            await nc.api(f"CONSUMER.CREATE.{LAB.name}.c{number}", {"stream_name": LAB.name, "config": config})


async def test_ensure_twice_changes_nothing(tmp_path: Path, connect) -> None:
    """A second run leaves definitions, sizes and messages alone."""
    async with run_broker(tmp_path, total_bytes=TOTAL) as broker:
        nc = await connect(broker.context())
        await nc.request("jsnats.event.lab.x", b"kept")
        before = [await config_of(nc, spec.name) for spec in STREAMS]
        await ensure_streams(nc)
        assert [await config_of(nc, spec.name) for spec in STREAMS] == before
        assert {row.stream: row.messages for row in await df(nc)}["JSNATS_EVENTS"] == 1


async def test_ensure_brings_an_old_definition_up_to_date(tmp_path: Path, connect) -> None:
    """A stream that differs from the table is changed to it; its size stays unless a total is given."""
    async with run_broker(tmp_path, total_bytes=TOTAL) as broker:
        nc = await connect(broker.context())
        present = await config_of(nc, CONSOLE.name)
        await nc.api(f"STREAM.UPDATE.{CONSOLE.name}", present | {"max_age": 10**12, "max_bytes": 7_000_000})
        await ensure_streams(nc)
        changed = await config_of(nc, CONSOLE.name)
        assert (changed["max_age"], changed["max_bytes"]) == (present["max_age"], 7_000_000)
        await ensure_streams(nc, TOTAL // 2)
        assert (await config_of(nc, CONSOLE.name))["max_bytes"] == TOTAL // 8


@pytest.mark.parametrize("later", [TOTAL // 4, None, TOTAL * 3])
async def test_size_of_a_lab(tmp_path: Path, connect, later: int | None) -> None:
    """A later run keeps the size of the first one, or takes the one it is given, smaller or larger."""
    async with run_broker(tmp_path, total_bytes=TOTAL):
        pass
    async with run_broker(tmp_path, total_bytes=later) as broker:
        nc = await connect(broker.context())
        assert (await config_of(nc, BLOBS.name))["max_bytes"] == (later or TOTAL) // 2


async def test_no_room_is_said(tmp_path: Path, connect) -> None:
    """Streams larger than the broker's store are refused with the way out."""
    async with run_broker(tmp_path, total_bytes=TOTAL) as broker:
        nc = await connect(broker.context())
        with pytest.raises(BrokerUnfit, match="--store-size"):
            await ensure_streams(nc, TOTAL * 10)


async def test_df_shows_use_and_age(tmp_path: Path, connect) -> None:
    """df tells bytes, messages and the age of the oldest message kept."""
    async with run_broker(tmp_path, total_bytes=TOTAL) as broker:
        nc = await connect(broker.context())
        await nc.request("jsnats.log.rack1.dut", b"x" * 1000)
        row = {each.stream: each for each in await df(nc)}["JSNATS_LOGS"]
        assert row.bytes > 1000
        assert row.messages == 1
        assert row.age_s is not None
        assert 0 <= row.age_s < 60


async def test_blob_chunk_cannot_be_overwritten(tmp_path: Path, connect) -> None:
    """A second write of a chunk is refused and the first one stays."""
    async with run_broker(tmp_path, total_bytes=TOTAL) as broker:
        nc = await connect(broker.context())
        await nc.request("jsnats.blob.aa.0", b"first")
        assert b'"error"' in (await nc.request("jsnats.blob.aa.0", b"evil")).data
        assert (await nc.request("$JS.API.DIRECT.GET.JSNATS_BLOBS.jsnats.blob.aa.0")).data == b"first"


async def bare_server(folder: Path, port: int, extra: str = "") -> BrokerProcess:
    """A nats-server that is no lab of ours."""
    text = f'server_name: other\nhost: 127.0.0.1\nport: {port}\nlog_file: "{folder}/nats.log"\n{extra}'
    (folder / "nats.conf").write_text(text)
    return BrokerProcess(BrokerConfig(server_name="other", host="127.0.0.1", port=port, directory=folder, max_file=0))


async def connected(port: int) -> Connection:
    """To a broker without roles."""
    return await open_connection(Context(url=f"nats://127.0.0.1:{port}", name="x"))


async def test_no_jetstream_is_said(tmp_path: Path, unused_tcp_port: int) -> None:
    """A broker without JetStream gives one clear error."""
    async with await bare_server(tmp_path, unused_tcp_port), await connected(unused_tcp_port) as nc:
        with pytest.raises(BrokerUnfit, match="JetStream"):
            await check_fit(nc)


async def test_jetstream_off_for_the_account_is_said(tmp_path: Path, unused_tcp_port: int) -> None:
    """An account without JetStream on a broker that has it gives one clear error."""
    users = "accounts { A { users [{user: u, password: p}] } }\nno_auth_user: u\n"
    extra = f'jetstream {{store_dir: "{tmp_path}/s"}}\n{users}'
    async with await bare_server(tmp_path, unused_tcp_port, extra), await connected(unused_tcp_port) as nc:
        with pytest.raises(BrokerUnfit, match="JetStream"):
            await check_fit(nc)


async def test_too_old_program_is_said(tmp_path: Path, old_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A nats-server program older than 2.12 is refused, with its version and the one that is needed."""
    monkeypatch.setenv("JSNATS_NATS_SERVER", str(old_server))
    with pytest.raises(BrokerUnfit, match=r"too old \(nats-server: v2.*\): jsnats needs 2\.12"):
        async with run_broker(tmp_path, total_bytes=TOTAL):
            pass


async def test_too_old_broker_is_said(tmp_path: Path, old_server: Path, unused_tcp_port: int) -> None:
    """A running broker older than 2.12, which somebody else started, is refused."""
    command = [str(old_server), "-a", "127.0.0.1", "-p", str(unused_tcp_port), "-js", "-sd", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr
    try:
        while b"Server is ready" not in await process.stderr.readline():
            assert process.returncode is None
        async with await connected(unused_tcp_port) as nc:
            with pytest.raises(BrokerUnfit, match=r"too old: jsnats needs 2\.12"):
                await check_fit(nc)
    finally:
        process.terminate()
        await process.communicate()
