"""Backup and restore of what a broker holds, with real brokers; leases and exporters are in sdk/tests/e2e."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jsnats.broker import Broker, LabDir, nats_server_binary, run_broker
from jsnats.broker._archive import END, LAB, Writer, check, read
from jsnats.broker._backup import back_up
from jsnats.broker._outside import Node, Outside
from jsnats.broker._restore_lab import restore_lab
from jsnats.broker._retention import Keep
from jsnats.broker._services import serving_lab
from jsnats.broker._sites import Leaf
from jsnats.broker._transfer_stream import restore_stream
from jsnats.schemas import (
    BLOBS,
    CONSOLE,
    EVENTS,
    LAB as RECORDS,
    LOGS,
    BrokerUnfit,
    BrokerUnreachable,
    ConfigurationError,
)
from jsnats.sdk import Blobs, Connection, Context, NoResponders, last_record, open_connection, put_record, replay
from jsnats.testing import until_async

TOTAL = 1_000_000_000
HISTORY = (EVENTS, LOGS, CONSOLE, BLOBS)
CHUNK = 256 << 10
JSNATS = (sys.executable, "-m", "jsnats.sdk.cli", "broker")


async def connected(context: Context) -> Connection:
    """A connection that the test closes."""
    return await open_connection(context, name="test")


@asynccontextmanager
async def admin_of(broker: Broker) -> AsyncIterator[Connection]:
    """A connection of the broker's own admin."""
    async with await connected(broker.context()) as nc:
        yield nc


@asynccontextmanager
async def running(path: Path, **options: Any) -> AsyncIterator[Broker]:
    """The broker of a lab, without anybody who writes by himself."""
    async with run_broker(path, scheduler=False, **options) as broker:
        yield broker


async def save(lab: LabDir, nc: Connection, path: Path, **options: Any) -> None:
    """Write a backup."""
    with path.open("wb") as file:
        await back_up(lab, nc, Writer(file), **options)


async def history(nc: Connection) -> list[tuple[Any, ...]]:
    """Every message with its sequence, headers, content and time."""
    found: list[tuple[Any, ...]] = []
    for spec in HISTORY:
        async for sequence, message in replay(nc, spec.name, spec.subjects):
            stored = message.reply.split(".")[7]
            found.append((spec.name, sequence, message.subject, message.headers, bytes(message.data), stored))
    return found


async def whole_history(nc: Connection) -> list[tuple[Any, ...]]:
    """The same from a cluster, as soon as the server that answers has all that the leaders of the streams have."""
    states = [(await nc.api(f"STREAM.INFO.{spec.name}"))["state"]["messages"] for spec in HISTORY]
    async with asyncio.timeout(60):
        while len(found := await history(nc)) < sum(states):
            await asyncio.sleep(0.1)
    return found


async def fill(nc: Connection, chunks: int = 3) -> None:
    """Some of everything."""
    for number in range(300):
        await nc.request("jsnats.event.lab.x", b"%d" % number)
        await nc.request(f"jsnats.console.rack{number % 3}.dut", os.urandom(40), headers={"Jsnats-Offset": str(number)})
    await nc.request("jsnats.log.rack1.dut", b"")
    await Blobs(nc).put(os.urandom(chunks * CHUNK))


@pytest.fixture
async def archive(tmp_path: Path) -> Path:
    """A backup of a small lab."""
    path = tmp_path / "lab.tar"
    async with running(tmp_path / "old", total_bytes=TOTAL) as broker, admin_of(broker) as nc:
        await broker.add("user", "ann")
        await fill(nc)
        await save(broker.lab, nc, path)
    return path


async def test_a_lab_comes_back_as_it_was(tmp_path: Path) -> None:
    """Each message with its sequence, time, headers and bytes; records; who may connect, by the credential that he
    has; settings and policy. Twice from one archive, and revisions go on beyond all that were ever given out."""
    lab, path = LabDir(tmp_path / "old"), tmp_path / "lab.tar"
    key = "$KV.jsnats_lab.exporter.rack1"
    async with running(lab.path, total_bytes=TOTAL) as broker, admin_of(broker) as nc:
        ann = await broker.add("user", "ann")
        login = await asyncio.to_thread(lab.add_mqtt, "phone")
        lab.policy.write_text("max_priority: 7\n")
        lab.save_settings(replace(lab.settings(), sync="10s", retention={"events": Keep(0, 50_000_000)}))
        await fill(nc)
        await put_record(nc, key, b'{"disabled": true}')
        before = await history(nc)
        await save(lab, nc, path)
        last = max([await put_record(nc, key, b'{"disabled": false}') for _ in range(5)])
    assert len(before) > 600
    for name in ("one", "two"):
        new = LabDir(tmp_path / name)
        await restore_lab(path, new)
        assert new.settings() == lab.settings()
        assert new.policy.read_text() == "max_priority: 7\n"
        assert {each.name for each in new.principals()} == {"ann", "broker", "phone", "scheduler"}
        assert not any("ann" in each.name for each in new.creds.iterdir())
        assert next(each for each in new.principals() if each.name == "phone").password in login.read_text()
        async with running(new.path, port=None) as broker, admin_of(broker) as nc:
            assert await history(nc) == before
            assert (await nc.api(f"STREAM.INFO.{EVENTS.name}"))["config"]["max_bytes"] == 50_000_000
            record = await last_record(nc, RECORDS.name, key)
            assert record
            assert record.body == b'{"disabled": true}'
            assert record.revision > last
            last = await put_record(nc, key, b"{}", expect=record.revision)
            await (await connected(ann)).close()


async def test_it_moves_into_a_cluster_and_back(tmp_path: Path, archive: Path) -> None:
    """From one server to three, where everything is stored on three, and from there to one again: the same messages.
    The policy and everybody come along; who serves there has to stop first; data there is not overwritten."""
    nodes = tuple(Node("127.0.0.1", free_port(), free_port()) for _ in range(3))
    lab = LabDir(tmp_path / "cluster")
    lab.add("scheduler", "scheduler")
    store = str(tmp_path / "data")
    outside = Outside(nodes=nodes, listen="127.0.0.1", store=store, max_file=TOTAL * 5 // 4, password="between-them")
    lab.configure_outside(outside, TOTAL)
    commands = [[str(nats_server_binary()), "-c", str(lab.conf / f"{node.name}.conf")] for node in nodes]
    servers = [start(command) for command in commands]
    try:
        await until_async(lambda: serve_for_a_moment(lab), 60, despite=BrokerUnreachable)
        await restore_lab(archive, lab)
        assert "ann" in {each.name for each in lab.principals()}
        nc = await connected(lab.context("broker"))
        for spec in (RECORDS, CONSOLE):
            assert (await nc.api(f"STREAM.INFO.{spec.name}"))["config"]["num_replicas"] == 3
        moved = await whole_history(nc)
        with pytest.raises(ConfigurationError, match="a lab with data"):
            await restore_lab(archive, lab)
        async with serving_lab(lab):
            with pytest.raises(ConfigurationError, match="stop `jsnats broker serve`"):
                await restore_lab(archive, lab, replace=True)
        await restore_lab(archive, lab, replace=True)
        await save(lab, nc, tmp_path / "back.tar")
        await nc.close()
    finally:
        for server in servers:
            server.kill()
            server.wait()
    one = LabDir(tmp_path / "one")
    await restore_lab(tmp_path / "back.tar", one)
    async with running(one.path) as broker, admin_of(broker) as nc:
        assert await history(nc) == moved
        assert len(moved) > 600
        assert (await nc.api(f"STREAM.INFO.{CONSOLE.name}"))["config"]["num_replicas"] == 1


def start(words: list[str]) -> subprocess.Popen[bytes]:
    """Start a server."""
    return subprocess.Popen(words, stderr=subprocess.DEVNULL)


def free_port() -> int:
    """A port of loopback that nobody has right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def serve_for_a_moment(lab: LabDir) -> bool:
    """Make the streams, which is refused until the cluster stands."""
    async with serving_lab(lab):
        return True


async def test_while_traffic_goes_on(tmp_path: Path) -> None:
    """Nobody waits, and what is restored is a beginning of what was published: no hole, nothing twice."""
    path, new = tmp_path / "lab.tar", LabDir(tmp_path / "new")
    async with running(tmp_path / "old", total_bytes=TOTAL) as broker, admin_of(broker) as nc:
        await fill(nc, chunks=40)
        sent = 0
        slowest = 0.0

        async def talk() -> None:
            nonlocal sent, slowest
            while True:
                begin = time.monotonic()
                await nc.request("jsnats.event.lab.n", b"%d" % sent)
                sent, slowest = sent + 1, max(slowest, time.monotonic() - begin)

        talking = asyncio.ensure_future(talk())
        own = await connected(broker.context())
        await save(broker.lab, own, path)
        await own.close()
        talking.cancel()
        assert sent > 20
        assert slowest < 5
    await restore_lab(path, new)
    async with running(new.path) as broker, admin_of(broker) as nc:
        found = [bytes(m.data) async for _, m in replay(nc, EVENTS.name, "jsnats.event.lab.n")]
        assert found == [b"%d" % number for number in range(len(found))]
        state = check(path).streams[EVENTS.name]["state"]
        assert (await nc.api(f"STREAM.INFO.{EVENTS.name}"))["state"]["last_seq"] == state["last_seq"]


def names(folder: Path) -> list[str]:
    """What lies there."""
    return sorted(each.name for each in folder.iterdir())


def exists(path: Path) -> bool:
    """Whether it is there."""
    return path.exists()


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file."""
    path.write_bytes(change(path.read_bytes()))


def truncated(data: bytes) -> bytes:
    """Without its last third."""
    return data[: len(data) * 2 // 3]


def ended_early(data: bytes) -> bytes:
    """Without the end, at a boundary of members."""
    return data[: data.index(END.encode())]


def flipped(data: bytes) -> bytes:
    """One byte of a chunk is another."""
    at = data.index(b"jsnats.console") if b"jsnats.console.rack1" in data else len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("damage", [truncated, ended_early, flipped, lambda data: b"no archive", lambda data: b""])
async def test_a_damaged_archive_restores_nothing(
    tmp_path: Path, archive: Path, damage: Callable[[bytes], bytes]
) -> None:
    """One clear error, and no directory."""
    rewrite(archive, damage)
    with pytest.raises(ConfigurationError, match=r"lab\.tar (is damaged|is not whole|is no backup)") as caught:
        await restore_lab(archive, LabDir(tmp_path / "new"))
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["lab.tar", "old"]


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """An archive that is whole, with other content."""
    new = path.with_name("other.tar")
    with new.open("wb") as file:
        writer = Writer(file)
        for name, data in list(read(path)):
            if name != END:
                writer.put(name, change(name, data))
        writer.finish()
    return new


async def test_what_the_broker_refuses_leaves_nothing(tmp_path: Path, archive: Path) -> None:
    """A snapshot that only the server can judge, a format of later days, a newer server: one line, no directory."""
    new = LabDir(tmp_path / "new")
    cases = {
        "could not restore JSNATS_CONSOLE": ("streams/JSNATS_CONSOLE/00000001", b"", b"rubbish"),
        "has format 9": (LAB, b'"format": 1', b'"format": 9'),
        "newer nats-server": (LAB, b'"api_level": ', b'"api_level": 9'),
        "--store-size of at least": ("streams/JSNATS_BLOBS/stream.json", b'"bytes": ', b'"bytes": 9999'),
    }
    for told, (member, old, text) in cases.items():

        def change(name: str, data: bytes, member: str = member, old: bytes = old, text: bytes = text) -> bytes:
            return data if name != member else data.replace(old, text, 1) if old else text

        with pytest.raises((ConfigurationError, ConnectionError), match=told) as caught:
            await restore_lab(rewritten(archive, change), new)
        assert "\n" not in str(caught.value)
        assert names(tmp_path) == ["lab.tar", "old", "other.tar"]


@pytest.mark.parametrize(
    "row",
    [
        {"name": "../../..", "role": "site", "site": "../../.."},
        {"name": "berlin", "role": "site", "site": "../../.."},
        {"name": "ann@hub", "role": "user", "site": "../../.."},
        {"name": "ann", "role": "../../../user"},
        {"name": "../../../ann", "role": "exporter"},
    ],
)
async def test_an_archive_writes_nothing_elsewhere(tmp_path: Path, archive: Path, row: dict[str, str]) -> None:
    """A principal whose name, role or site is a path is refused: his file could lie anywhere."""

    def change(name: str, data: bytes) -> bytes:
        lab = json.loads(data) if name == LAB else {}
        return json.dumps(lab | {"principals": [row | {"key": "U"}]}).encode() if lab else data

    with pytest.raises(ConfigurationError, match=r"no name for a site|is not the site|no role|exporter name"):
        await restore_lab(rewritten(archive, change), LabDir(tmp_path / "new"))
    assert names(tmp_path) == ["lab.tar", "old", "other.tar"]


async def test_a_broker_that_dies_meanwhile(tmp_path: Path) -> None:
    """SIGKILL in the middle of a backup: an error that says so, soon."""
    async with running(tmp_path / "old", total_bytes=TOTAL) as broker, admin_of(broker) as nc:
        await fill(nc, chunks=400)
        killed: list[int] = []

        def kill(done: int, total: int) -> None:
            if done > 1 << 20 and not killed:
                killed.append(done)
                os.kill(broker.process.pid, signal.SIGKILL)

        with pytest.raises(BrokerUnreachable, match="went away while"):
            async with asyncio.timeout(25):
                await save(broker.lab, nc, tmp_path / "lab.tar", progress=kill)
        with pytest.raises(ConfigurationError, match="is not whole|is damaged"):
            check(tmp_path / "lab.tar")


async def test_the_server_that_takes_a_stream_may_not_be_heard_of_yet() -> None:
    """In a cluster it may be another than ours: the first chunk is offered again, and each arrives once."""
    taken: list[bytes] = []
    deaf = [NoResponders("nobody")] * 3

    class Asked:
        """Answers as JetStream does."""

        async def request(self, subject: str, body: bytes, **_: Any) -> Any:
            if subject.startswith("$JS."):
                return SimpleNamespace(data=b'{"deliver_subject": "to"}')
            if deaf:
                raise deaf.pop()
            taken.append(body)
            return SimpleNamespace(data=b"" if body else b'{"state": {"messages": 2}}')

    state = await restore_stream(cast("Connection", Asked()), {"name": "S"}, [b"one", b"two"])
    assert (state, taken) == ({"messages": 2}, [b"one", b"two", b""])


async def test_a_server_that_dies_in_a_restore(tmp_path: Path) -> None:
    """SIGKILL in the middle: one error, and no directory. A second try succeeds."""
    async with running(tmp_path / "old", total_bytes=TOTAL) as broker, admin_of(broker) as nc:
        await fill(nc, chunks=400)
        await save(broker.lab, nc, tmp_path / "lab.tar")
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        if done > 1 << 20 and not killed:
            killed.append(int((tmp_path / ".new.restoring" / "nats.pid").read_text()))
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(BrokerUnreachable, match=f"went away while {BLOBS.name} was restored"):
        await restore_lab(tmp_path / "lab.tar", LabDir(tmp_path / "new"), progress=kill)
    assert names(tmp_path) == ["lab.tar", "old"]
    process = await asyncio.create_subprocess_exec(*JSNATS, "restore", tmp_path / "lab.tar", "--dir", tmp_path / "new")
    async with asyncio.timeout(30):
        while not exists(tmp_path / ".new.restoring" / "nats.pid"):
            await asyncio.sleep(0.002)
    process.kill()
    await process.wait()
    assert names(tmp_path) == [".new.restoring", "lab.tar", "old"]
    await restore_lab(tmp_path / "lab.tar", LabDir(tmp_path / "new"))
    assert names(tmp_path) == ["lab.tar", "new", "old"]


async def test_a_lab_that_is_there(tmp_path: Path, archive: Path) -> None:
    """It is not overwritten; with `replace` it is moved aside, whole, unless it runs."""
    lab = LabDir(tmp_path / "old")
    with pytest.raises(ConfigurationError, match="there is a lab in"):
        await restore_lab(archive, lab)
    async with running(lab.path):
        with pytest.raises(ConfigurationError, match="already running"):
            await restore_lab(archive, lab, replace=True)
    names = {each.name for each in lab.principals()}
    _, aside = await restore_lab(archive, lab, replace=True)
    assert aside
    assert LabDir(aside).context("ann") == LabDir(aside).context("ann")
    assert {each.name for each in lab.principals()} == names
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(ConfigurationError, match="is not empty"):
        await restore_lab(archive, LabDir(tmp_path / "full"), replace=True)


async def test_a_restored_lab_beside_the_one_that_it_was(tmp_path: Path, archive: Path) -> None:
    """They have name and port in common: the port is in use, and who holds it is not taken for the restored one."""
    old, new = tmp_path / "old", LabDir(tmp_path / "new")
    await restore_lab(archive, new)
    assert new.settings() == LabDir(old).settings()
    async with running(old, port=None):
        with pytest.raises(BrokerUnfit, match=f":{new.settings().port} is in use: .*--port"):
            async with running(new.path, port=None):
                pass


async def test_context_files_only_if_asked_for(tmp_path: Path) -> None:
    """With `creds` they come along, and lead to where the restored lab listens; so does a site's way to its hub."""
    leaf = Leaf(site="berlin", urls=("nats-leaf://hub.example:7422",), seed="secret")
    async with running(tmp_path / "old", total_bytes=TOTAL) as broker, admin_of(broker) as nc:
        ann = await broker.add("user", "ann")
        broker.lab.join(leaf)
        await save(broker.lab, nc, tmp_path / "without.tar", without=["blobs", "console"])
        await save(broker.lab, nc, tmp_path / "with.tar", creds=True, without=["blobs", "console"])
    new = LabDir(tmp_path / "new")
    contents, _ = await restore_lab(tmp_path / "with.tar", new)
    assert set(contents.streams) == {EVENTS.name, LOGS.name}
    assert b"secret" not in (tmp_path / "without.tar").read_bytes()
    assert new.leaf() == leaf
    assert new.context("ann").seed == ann.seed
    assert new.context_path("ann").stat().st_mode & 0o777 == 0o600
    assert new.context("broker").seed != LabDir(tmp_path / "old").context("broker").seed


async def command(*words: object, text: bool = True) -> subprocess.CompletedProcess[Any]:
    """Run `jsnats broker`."""
    line = [*JSNATS, *(str(word) for word in words)]
    return await asyncio.to_thread(subprocess.run, line, capture_output=True, text=text, check=False, timeout=60)


async def test_the_commands(tmp_path: Path) -> None:
    """A file for its owner only, or a pipe; errors are one line and leave no file."""
    file, old = tmp_path / "lab.tar", tmp_path / "old"
    async with running(old, total_bytes=TOTAL) as broker:
        said = await command("backup", file, "--dir", old)
        assert said.returncode == 0, said.stdout
        assert file.stat().st_mode & 0o777 == 0o600
        piped = await command("backup", "-", "--dir", old, text=False)
        (tmp_path / "piped.tar").write_bytes(piped.stdout)
        assert check(tmp_path / "piped.tar").streams.keys() == check(file).streams.keys()
        nowhere = await command("backup", tmp_path / "no" / "lab.tar", "--dir", old)
        assert (nowhere.returncode, len(nowhere.stderr.splitlines())) == (2, 1)
        assert broker.lab.path == old
    gone = await command("backup", tmp_path / "x.tar", "--dir", old)
    assert (gone.returncode, len(gone.stderr.splitlines())) == (3, 1)
    assert f"`jsnats broker run --dir {old}` starts it" in gone.stderr
    assert names(tmp_path) == ["lab.tar", "old", "piped.tar"]
    said = await command("restore", file, "--dir", tmp_path / "new", "--json")
    assert '"principals": 2' in said.stdout
    said = await command("restore", file, "--dir", tmp_path / "plain")
    assert said.stdout.splitlines()[-1] == f"next       jsnats broker run --dir {tmp_path / 'plain'}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_leaves_no_file(tmp_path: Path, number: signal.Signals) -> None:
    """In the middle of a backup whose reader is slow."""
    async with running(tmp_path / "old", total_bytes=TOTAL) as broker, admin_of(broker) as nc:
        await fill(nc, chunks=400)
        words = ("backup", tmp_path / "lab.tar", "--dir", broker.lab.path)
        process = await asyncio.create_subprocess_exec(*JSNATS, *words)
        part = tmp_path / ".lab.tar.part"
        async with asyncio.timeout(30):
            while not (part.exists() and part.stat().st_size > 0):
                await asyncio.sleep(0.002)
        process.send_signal(number)
        assert await process.wait() == 130
        assert names(tmp_path) == ["old"]
