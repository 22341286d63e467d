"""Uploads and downloads when something dies."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from jsnats.broker.testing import TestBroker, running_broker
from jsnats.schemas import BLOB_CHUNK
from jsnats.sdk import AsyncLab, Connection, Message, connect_async
from jsnats.sdk._blob_store import ANSWER_S
from jsnats.sdk._broker_errors import is_no_responders
from jsnats.sdk._numbered import Numbered

SIZE = 256 * BLOB_CHUNK


@pytest.fixture
def broker() -> Iterator[TestBroker]:
    """A broker of this test alone."""
    with running_broker(principals={"user": ["alice"]}) as broker:
        yield broker


@pytest.fixture
async def lab(broker: TestBroker) -> AsyncIterator[AsyncLab]:
    """A connection of alice."""
    async with connect_async(context=broker.context("alice")) as lab:
        yield lab


class KillAt:
    """Kills the broker when a share of a transfer is done, as often as there are shares."""

    def __init__(self, broker: TestBroker, *shares: float) -> None:
        self._broker = broker
        self._shares = list(shares)
        self._killing: set[asyncio.Task[None]] = set()
        self.done = 0
        self.reached: list[int] = []

    def __call__(self, done: int, total: int) -> None:
        self.done = done
        if self._shares and done >= self._shares[0] * total:
            self._shares.pop(0)
            self._killing.add(asyncio.create_task(self._kill()))

    async def _kill(self) -> None:
        await asyncio.to_thread(self._broker.kill)
        self.reached.append(self.done)


async def test_the_broker_is_killed_during_an_upload(broker: TestBroker, lab: AsyncLab, tmp_path: Path) -> None:
    """Across two SIGKILLs of the broker an upload finishes, and the file is what it was."""
    data = os.urandom(SIZE)
    (tmp_path / "image").write_bytes(data)
    kill = KillAt(broker, 0.2, 0.6)
    info = await lab.blobs.put(tmp_path / "image", on_progress=kill)
    assert len(kill.reached) == 2
    assert all(SIZE // 5 <= done < SIZE for done in kill.reached)
    digest = hashlib.sha256()
    async for piece in lab.blobs.chunks(info.sha256):
        digest.update(piece)
    assert digest.hexdigest() == hashlib.sha256(data).hexdigest() == info.sha256


async def test_the_broker_is_killed_during_a_download(broker: TestBroker, lab: AsyncLab, tmp_path: Path) -> None:
    """Across two SIGKILLs of the broker a download finishes, and the file is what it was."""
    info = await lab.blobs.put(os.urandom(SIZE))
    kill = KillAt(broker, 0.2, 0.6)
    await lab.blobs.get(info.sha256, tmp_path / "copy", kill)
    assert len(kill.reached) == 2
    assert all(SIZE // 5 <= done < SIZE for done in kill.reached)
    with (tmp_path / "copy").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == info.sha256


async def test_the_broker_is_away_when_an_upload_begins(broker: TestBroker, lab: AsyncLab) -> None:
    """An upload that begins during an outage waits for its end."""
    broker.stop()
    upload = asyncio.create_task(lab.blobs.put(b"x" * BLOB_CHUNK * 3))
    await asyncio.sleep(0)
    await asyncio.to_thread(broker.start)
    assert (await upload).sent == 3 * BLOB_CHUNK


_HALF_AN_UPLOAD = """
import sys, time
from jsnats.sdk import connect

def told(done, total):
    if done >= total // 2:
        print("half", flush=True)
        time.sleep(1000)

with connect() as lab:
    lab.blobs.put(sys.argv[1], on_progress=told)
"""


async def test_a_killed_upload_is_resumed(broker: TestBroker, lab: AsyncLab, tmp_path: Path) -> None:
    """After SIGKILL of the uploading process at half, another upload sends only what is missing."""
    path = tmp_path / "image"
    path.write_bytes(os.urandom(SIZE))
    environment = os.environ | {"JSNATS_CONTEXT": str(broker.context_path("alice"))}
    command = [sys.executable, "-c", _HALF_AN_UPLOAD, str(path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:  # noqa: ASYNC220
        assert process.stdout
        assert await asyncio.to_thread(process.stdout.readline) == b"half\n"
        process.send_signal(signal.SIGKILL)
    info = await lab.blobs.put(path)
    assert 0 < info.sent <= SIZE // 2
    assert await lab.blobs.report_bad(info.sha256) == ""


async def test_a_store_that_dies_with_a_request_is_asked_again(lab: AsyncLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its successor answers; nobody has to wait until the request is given up."""
    request, swallowed = lab.connection.request, []

    async def swallowing(subject: str, *arguments: Any, **options: Any) -> Any:
        if not swallowed:
            swallowed.append(options["timeout_s"])
            raise TimeoutError
        return await request(subject, *arguments, **options)

    monkeypatch.setattr(lab.connection, "request", swallowing)
    assert await lab.blobs.ls() == []
    assert swallowed == [ANSWER_S]


async def test_a_file_is_not_read_again_while_it_is_being_read(lab: AsyncLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store takes minutes for a large one, and the answer to a request that was given up reaches nobody."""
    request, asked = lab.connection.request, []

    async def noting(subject: str, *arguments: Any, **options: Any) -> Any:
        if subject.endswith(".bad"):
            asked.append(options["timeout_s"])
        return await request(subject, *arguments, **options)

    monkeypatch.setattr(lab.connection, "request", noting)
    info = await lab.blobs.put(b"good")
    assert await lab.blobs.report_bad(info.sha256) == ""
    assert asked == [60.0]


async def test_a_request_that_is_not_answered_is_sent_again(
    lab: AsyncLab, broker: TestBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbered requests whose answers a broker swallowed are asked again after a while, the oldest first."""
    monkeypatch.setattr("jsnats.sdk._numbered.STALL_S", 0.05)
    seen: list[int] = []
    async with connect_async(context=broker.context()) as admin:

        async def answer(message: Message) -> None:
            number = int(message.subject.rpartition(".")[2])
            seen.append(number)
            if seen.count(number) == 2:
                await admin.connection.publish(message.reply, b"%d" % number)

        await admin.connection.subscribe("jsnats.call.bench.alice.*", answer)
        await admin.connection.flush()
        assert sorted(await everything(lab.connection)) == list(range(8))
    assert all(seen.count(number) == 2 for number in range(8))


async def everything(connection: Connection) -> list[int]:
    """The numbers of all answers to eight requests."""
    found: list[int] = []
    async with Numbered(connection, range(8), 8) as requests:
        while requests.open:
            while requests.due and requests.room:
                number = requests.due.popleft()
                await requests.send(number, f"jsnats.call.bench.alice.{number}")
            if reply := await requests.take():
                found.append(int(reply[1].data))
    return found


async def test_what_nobody_takes_yet_is_asked_again(lab: AsyncLab, broker: TestBroker) -> None:
    """Numbered requests that come before the one who answers are due again, after a pause, and all are answered."""
    refused = 0
    async with connect_async(context=broker.context()) as admin:

        async def answer(message: Message) -> None:
            await admin.connection.publish(message.reply, message.subject.rpartition(".")[2].encode())

        async with Numbered(lab.connection, range(8), 4) as requests:
            found: list[int] = []
            while requests.open:
                while requests.due and requests.room:
                    number = requests.due.popleft()
                    await requests.send(number, f"jsnats.call.bench.alice.{number}")
                reply = await requests.take()
                if reply and is_no_responders(reply[1]):
                    refused += 1
                    requests.later(reply[0])
                    assert requests.room == 0
                    if refused == 4:
                        await admin.connection.subscribe("jsnats.call.bench.alice.*", answer)
                        await admin.connection.flush()
                elif reply:
                    found.append(int(reply[1].data))
    assert refused == 4
    assert sorted(found) == list(range(8))


_PUT_AND_GET = """
import re, sys
from jsnats.sdk import connect

with connect() as lab:
    lab.blobs.get(lab.blobs.put(sys.argv[1]).sha256, sys.argv[2])
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


async def test_memory_does_not_grow_with_the_file(broker: TestBroker, tmp_path: Path) -> None:
    """A process that uploads and downloads 160 MiB never holds more than 80 MiB, half of which is Python."""
    with (tmp_path / "image").open("wb") as file:
        for _ in range(160):
            file.write(os.urandom(16) * 65536)
    environment = os.environ | {"JSNATS_CONTEXT": str(broker.context_path("alice"))}
    command = [sys.executable, "-c", _PUT_AND_GET, str(tmp_path / "image"), str(tmp_path / "copy")]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert int(out) < 80
