from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from jsnats.broker import Storekeeper
from jsnats.broker._requests import Requests
from jsnats.broker._storekeeper import COMING_S
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.schemas import (
    BLOB_CHUNK,
    BLOBS,
    AccessDenied,
    BlobNotFound,
    DriverError,
    InvalidArgument,
    StorageFull,
    TooLarge,
    chunk_subject,
    headers as h,
    manifest_subject,
    store_key,
    store_subject,
)
from jsnats.sdk import Connection, Disconnected, Message, open_connection

HOUR, DAY = 3600.0, 86_400.0
MB = 1_000_000


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A small lab: 20 MB for files, 10 MB for each principal."""
    with running_broker(total_bytes=40 * MB, principals={"user": ["ann", "bob"], "exporter": ["rack1"]}) as running:
        yield running


MANIFEST, CHUNKS, ENTRY = range(3)
"""The steps of a removal."""


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time the keeper believes."""
    return Clock()


@pytest.fixture
async def keeper(broker: TestBroker, clock: Clock) -> AsyncIterator[Storekeeper]:
    """A second keeper of the same store, which lives in its own time. `root` is an admin. The store is empty."""
    connection = await open_connection(broker.context("scheduler"), name="test keeper")
    keeper = Storekeeper(connection, lambda who: who == "root", clock=clock)
    for sha256 in {**await keeper.shelf.hashes(), **await keeper.shelf.entries()}:
        await keeper.shelf.drop(sha256)
    yield keeper
    await connection.close()


@pytest.fixture
async def ann(broker: TestBroker) -> AsyncIterator[Connection]:
    """A connection of a user."""
    async with await open_connection(broker.context("ann"), name="ann") as connection:
        yield connection


def wanted(data: bytes, name: str = "f") -> dict[str, Any]:
    """The fields of `put` and `commit`."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "name": name}


async def send(connection: Connection, data: bytes, only: slice = slice(None)) -> None:
    """Store the chunks of some data, or some of them."""
    sha256 = hashlib.sha256(data).hexdigest()
    for index in list(range(-(-len(data) // BLOB_CHUNK)))[only]:
        piece = data[index * BLOB_CHUNK : (index + 1) * BLOB_CHUNK]
        answer = await connection.request(chunk_subject(sha256, index), piece)
        assert b'"error"' not in answer.data


async def store(keeper: Storekeeper, who: str, data: bytes) -> str:
    """Upload some data whole."""
    await keeper.verbs["put"](who, wanted(data))
    await send(keeper.shelf.connection, data)
    assert (await keeper.verbs["commit"](who, wanted(data)))["state"] == "have"
    return hashlib.sha256(data).hexdigest()


async def ask(connection: Connection, verb: str, body: bytes | dict[str, Any], **options: Any) -> tuple[str, Any]:
    """A request to the service: its error code, "" if there is none, and the body of its answer."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    message = await connection.request(store_subject(connection.token, verb), body, **options)
    return (message.headers or {}).get(h.ERROR_CODE, ""), json.loads(message.data)


# ---------------------------------------------------------------------- uploading


async def test_what_is_missing(keeper: Storekeeper) -> None:
    """`put` tells the chunks that are there as ranges, `commit` does while any is missing, then it writes the manifest
    with the owner from the subject."""
    data = os.urandom(6 * BLOB_CHUNK + 1)
    assert await keeper.verbs["put"]("ann", wanted(data)) == {"state": "send", "have": []}
    await send(keeper.shelf.connection, data, slice(0, 2))
    await send(keeper.shelf.connection, data, slice(4, 5))
    for verb in ("put", "commit"):
        assert await keeper.verbs[verb]("ann", wanted(data)) == {"state": "send", "have": [[0, 2], [4, 5]]}
    await send(keeper.shelf.connection, data, slice(2, 4))
    await send(keeper.shelf.connection, data, slice(5, 7))
    assert await keeper.verbs["put"]("ann", wanted(data)) == {"state": "send", "have": [[0, 7]]}
    done = await keeper.verbs["commit"]("ann", wanted(data))
    assert done["state"] == "have"
    assert done["blob"] == {**wanted(data), "chunks": 7, "chunk": BLOB_CHUNK, "owner": "ann", "created": 1e9}
    assert await keeper.verbs["put"]("bob", wanted(data)) == done


async def test_an_upload_that_goes_on_can_be_followed(keeper: Storekeeper, clock: Clock) -> None:
    """`use` says what the file will be, until it is whole, and as long as somebody was heard to upload it."""
    data = os.urandom(2 * BLOB_CHUNK)
    use = {"sha256": wanted(data)["sha256"]}
    await keeper.verbs["put"]("ann", wanted(data))
    coming = await keeper.verbs["use"]("bench", use)
    assert (coming["state"], coming["blob"]["size"], coming["blob"]["owner"]) == ("coming", len(data), "ann")
    clock.now += COMING_S - 1
    await keeper.verbs["use"]("ann", use)
    for _ in range(2):
        clock.now += COMING_S - 1
        assert (await keeper.verbs["use"]("bench", use))["state"] == "coming"
        clock.now += 2
        with pytest.raises(BlobNotFound):
            await keeper.verbs["use"]("bench", use)  # who reads is not who uploads
        with pytest.raises(BlobNotFound):
            await keeper.verbs["use"]("ann", use)
    await send(keeper.shelf.connection, data)
    await keeper.verbs["commit"]("ann", wanted(data))
    assert (await keeper.verbs["use"]("bench", use))["state"] == "have"


@pytest.mark.parametrize("size", [0, 1, BLOB_CHUNK])
async def test_small_files(keeper: Storekeeper, size: int) -> None:
    """An empty file has a manifest and no chunk, and one of exactly a chunk has one."""
    sha256 = await store(keeper, "ann", b"x" * size)
    blob = await keeper.shelf.manifest(sha256)
    assert blob
    assert (blob.size, blob.chunks) == (size, min(size, 1))


async def test_two_uploads_of_one_file(keeper: Storekeeper) -> None:
    """Two who upload the same at the same time both succeed; the file is whose who was first."""
    data = os.urandom(3 * BLOB_CHUNK)
    for who in ("ann", "bob"):
        assert (await keeper.verbs["put"](who, wanted(data)))["state"] == "send"
    await send(keeper.shelf.connection, data)
    answers = await asyncio.gather(*(keeper.verbs["commit"](who, wanted(data)) for who in ("ann", "bob")))
    assert [answer["blob"]["owner"] for answer in answers] in (["ann", "ann"], ["bob", "bob"])


async def test_a_name_is_for_people(keeper: Storekeeper) -> None:
    """Control characters and lone surrogates in a name are left out, and it is cut at its front."""
    data = b"named"
    name = "\ud800\x1b[31m" + "n" * 200 + ".img\n"
    await keeper.verbs["put"]("ann", wanted(data, name))
    await send(keeper.shelf.connection, data)
    done = await keeper.verbs["commit"]("ann", wanted(data, name))
    assert done["blob"]["name"] == "n" * 116 + ".img"


async def test_too_large(keeper: Storekeeper) -> None:
    """A file of more chunks than JetStream lists is refused before anything is sent."""
    with pytest.raises(TooLarge, match=r"26\.2 GB"):
        await keeper.verbs["put"]("ann", wanted(b"") | {"size": 100_001 * BLOB_CHUNK})


async def test_a_manifest_with_a_wrong_size_is_found_out(keeper: Storekeeper) -> None:
    """Somebody who stored nonsense under the hash of a file of another size does not keep its owner from uploading;
    a wrong size of a file that is right is refused."""
    data = os.urandom(BLOB_CHUNK)
    await keeper.verbs["put"]("bob", wanted(data) | {"size": 1})
    await keeper.shelf.connection.request(chunk_subject(wanted(data)["sha256"], 0), b"x")
    assert (await keeper.verbs["commit"]("bob", wanted(data) | {"size": 1}))["state"] == "have"
    assert await keeper.verbs["put"]("ann", wanted(data)) == {"state": "send", "have": []}
    await store(keeper, "ann", data)
    with pytest.raises(InvalidArgument, match="bytes"):
        await keeper.verbs["put"]("bob", wanted(data) | {"size": 1})


# ---------------------------------------------------------------------- the other verbs


async def test_ls_and_rm_are_for_ones_own(keeper: Storekeeper, clock: Clock) -> None:
    """Everybody lists his own, last used first, an admin all; only the owner and an admin remove."""
    first = await store(keeper, "ann", b"one")
    clock.now += HOUR
    second = await store(keeper, "ann", b"two")
    third = await store(keeper, "bob", b"three")
    await keeper.verbs["put"]("bob", wanted(b"unfinished"))

    async def listed(who: str, **fields: Any) -> list[str]:
        return [each["sha256"] for each in (await keeper.verbs["ls"](who, fields))["blobs"]]

    assert await listed("ann") == [second, first]
    assert await listed("ann", offset=1) == [first]
    assert set(await listed("root")) == {first, second, third}
    clock.now += HOUR
    await keeper.verbs["use"]("bob", {"sha256": first})
    assert await listed("ann") == [first, second]
    with pytest.raises(BlobNotFound, match="ann or an admin"):
        await keeper.verbs["rm"]("bob", {"sha256": first})
    await keeper.verbs["rm"]("ann", {"sha256": first})
    await keeper.verbs["rm"]("root", {"sha256": third})
    assert await listed("root") == [second]
    for verb in ("rm", "use", "bad"):
        with pytest.raises(BlobNotFound, match="no file"):
            await keeper.verbs[verb]("ann", {"sha256": first})
    assert first not in await keeper.shelf.hashes()


async def test_ls_when_the_entries_are_read_from_a_server_that_is_behind(
    keeper: Storekeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it still has, or not yet, is no matter: `ls` tells what is there."""
    removed, stays = [await store(keeper, "ann", each) for each in (b"removed", b"stays")]
    behind = await keeper.shelf.entries()
    await keeper.verbs["rm"]("ann", {"sha256": removed})
    new = await store(keeper, "ann", b"new")

    async def entries() -> dict[str, Any]:
        return behind

    monkeypatch.setattr(keeper.shelf, "entries", entries)
    listed = (await keeper.verbs["ls"]("ann", {}))["blobs"]
    assert {each["sha256"] for each in listed} == {stays, new}


async def test_a_removal_may_be_asked_for_again(keeper: Storekeeper) -> None:
    """Under the same `request` it has the same answer: the first may have been lost. Under another it has not."""
    sha256 = await store(keeper, "ann", b"one")
    fields = {"sha256": sha256, "request": "r1"}
    dropped = {"state": "dropped", "owner": "ann"}
    assert [await keeper.verbs["rm"]("ann", fields) for _ in range(2)] == [dropped, dropped]
    for who, request in (("ann", "r2"), ("bob", "r1"), ("ann", "")):
        with pytest.raises(BlobNotFound, match="no file"):
            await keeper.verbs["rm"](who, fields | {"request": request})


@pytest.mark.parametrize("purged", [MANIFEST, CHUNKS, ENTRY])
async def test_a_removal_that_broke_off_is_finished(
    broker: TestBroker, keeper: Storekeeper, monkeypatch: pytest.MonkeyPatch, purged: int
) -> None:
    """The store loses the broker behind a step of a removal, the last one too: whoever asks again is told that the file
    is gone, also by the store that has taken its place."""
    sha256 = await store(keeper, "ann", b"one")
    fields = {"sha256": sha256, "request": "r1"}
    connection = keeper.shelf.connection
    steps = itertools.count()
    read = connection.read

    async def lost(subject: str, *args: Any, **options: Any) -> Message:
        answer = await read(subject, *args, **options)
        changes = "STREAM.PURGE" in subject or subject == store_key(sha256)
        if changes and next(steps) == purged:
            raise Disconnected("the broker is gone")
        return answer

    monkeypatch.setattr(connection, "read", lost)
    with pytest.raises(Disconnected):
        await keeper.verbs["rm"]("ann", fields)
    other = Storekeeper(await open_connection(broker.context("scheduler"), name="another keeper"), lambda _: False)
    try:
        for each in (keeper, other):
            assert await each.verbs["rm"]("ann", fields) == {"state": "dropped", "owner": "ann"}
    finally:
        await other.shelf.connection.close()
    assert (await keeper.shelf.hashes(), await keeper.shelf.entries()) == ({}, {})


async def test_bad(keeper: Storekeeper) -> None:
    """A file that is right stays whatever is said of it; a wrong one is dropped, its owner named, and can be uploaded
    again."""
    good = await store(keeper, "ann", os.urandom(2 * BLOB_CHUNK))
    assert await keeper.verbs["bad"]("bob", {"sha256": good}) == {"state": "good"}
    assert await keeper.shelf.manifest(good)
    data = os.urandom(5 * BLOB_CHUNK)
    sha256 = hashlib.sha256(data).hexdigest()
    await keeper.shelf.connection.request(chunk_subject(sha256, 3), b"x" * BLOB_CHUNK)
    await keeper.verbs["put"]("bob", wanted(data))
    await send(keeper.shelf.connection, data, slice(0, 3))
    await send(keeper.shelf.connection, data, slice(4, 5))
    await keeper.verbs["commit"]("bob", wanted(data))
    assert await keeper.verbs["bad"]("ann", {"sha256": sha256}) == {"state": "dropped", "owner": "bob"}
    assert await store(keeper, "ann", data) == sha256
    assert await keeper.verbs["bad"]("ann", {"sha256": sha256}) == {"state": "good"}


async def test_a_lost_chunk_is_bad(keeper: Storekeeper) -> None:
    """A file one of whose chunks is gone from the broker's disk is dropped too."""
    sha256 = await store(keeper, "ann", os.urandom(3 * BLOB_CHUNK))
    await keeper.shelf.connection.api(f"STREAM.PURGE.{BLOBS.name}", {"filter": chunk_subject(sha256, 1)})
    assert (await keeper.verbs["bad"]("ann", {"sha256": sha256}))["state"] == "dropped"


# ---------------------------------------------------------------------- room


async def test_quota(keeper: Storekeeper, clock: Clock) -> None:
    """Beyond his share a principal's own files make room, last used first to stay, and none of the last hour; those of
    others do not."""
    theirs = await store(keeper, "bob", os.urandom(1 * MB))
    clock.now += HOUR
    mine = []
    for _ in range(3):
        mine.append(await store(keeper, "ann", os.urandom(3 * MB)))
        clock.now += HOUR
    await keeper.verbs["use"]("ann", {"sha256": mine[0]})
    fourth = await store(keeper, "ann", os.urandom(3 * MB))
    assert (await keeper.shelf.entries()).keys() == {theirs, mine[0], mine[2], fourth}
    with pytest.raises(StorageFull, match=r"no room for the 7\.0 MB of f: you may store 10\.0 MB and have 9\.0 MB"):
        await keeper.verbs["put"]("ann", wanted(os.urandom(7 * MB)))
    assert (await keeper.shelf.entries()).keys() == {theirs, mine[0], mine[2], fourth}
    await store(keeper, "bob", b"there is room for bob")


async def test_full_store(keeper: Storekeeper, clock: Clock) -> None:
    """When the store is full, the file that anybody used longest ago makes room; without one, nothing is accepted."""
    oldest = await store(keeper, "bob", os.urandom(6 * MB))
    clock.now += 60
    second = await store(keeper, "ann", os.urandom(6 * MB))
    clock.now += 60
    with pytest.raises(StorageFull, match=r"the lab's store has 8\.0 MB left of 20\.0 MB"):
        await keeper.verbs["put"]("cid", wanted(os.urandom(9 * MB)))
    clock.now += HOUR
    last = await store(keeper, "cid", os.urandom(9 * MB))
    assert (await keeper.shelf.entries()).keys() == {second, last}
    assert oldest not in await keeper.shelf.hashes()


async def test_commit_does_not_go_round_the_quota(keeper: Storekeeper) -> None:
    """Chunks that were sent without `put` are counted when their file is to be finished."""
    data = os.urandom(11 * MB)
    await send(keeper.shelf.connection, data)
    with pytest.raises(StorageFull, match="you may store"):
        await keeper.verbs["commit"]("ann", wanted(data))


async def test_tiny_files_are_limited_too(keeper: Storekeeper) -> None:
    """A principal cannot fill the bucket of the store with entries of nothing."""
    with pytest.raises(StorageFull):
        for number in range(200):
            await keeper.verbs["put"]("ann", wanted(str(number).encode()))
    assert len(await keeper.shelf.entries()) < 100


# ---------------------------------------------------------------------- garbage


async def test_sweep_by_age(keeper: Storekeeper, clock: Clock) -> None:
    """Unused for 30 days, a file goes; what is used stays; an upload that was given up goes after a day."""
    unused, used = await store(keeper, "ann", b"unused"), await store(keeper, "ann", b"used")
    data = os.urandom(2 * BLOB_CHUNK)
    await keeper.verbs["put"]("ann", wanted(data))
    await send(keeper.shelf.connection, data, slice(0, 1))
    clock.now += 23 * HOUR
    await keeper.sweep()
    assert len(await keeper.shelf.hashes()) == 3
    clock.now += 2 * HOUR
    await keeper.sweep()
    assert (await keeper.shelf.hashes()).keys() == {unused, used}
    clock.now += 28 * DAY
    await keeper.verbs["put"]("bob", wanted(b"used"))
    clock.now += 2 * DAY
    await keeper.sweep()
    assert (await keeper.shelf.hashes()).keys() == (await keeper.shelf.entries()).keys() == {used}


async def test_sweep_of_what_belongs_to_nobody(keeper: Storekeeper, ann: Connection) -> None:
    """Chunks that no `put` announced go, and so do those beyond a file's end; a file whose entry was lost gets one."""
    sha256 = await store(keeper, "bob", os.urandom(2 * BLOB_CHUNK))
    await keeper.shelf.connection.api("STREAM.PURGE.KV_jsnats_store", {"filter": store_key(sha256)})
    for subject in (chunk_subject("f" * 64, 0), chunk_subject("junk", 5), f"{manifest_subject(sha256)}.x"):
        await ann.request(subject, b"junk")
    await keeper.sweep()
    assert next(iter((await keeper.shelf.entries()).values())).owner == "bob"
    await keeper.sweep()
    assert await keeper.shelf.hashes() == {sha256: 2}


async def test_a_sweep_goes_by_the_manifest_of_now(keeper: Storekeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file announced too small, which is dropped and uploaded again while the sweep looks round, stays whole."""
    data = os.urandom(3 * BLOB_CHUNK)
    await send(keeper.shelf.connection, data)
    assert (await keeper.verbs["commit"]("ann", wanted(data) | {"size": BLOB_CHUNK}))["state"] == "have"
    look_round = keeper.shelf.hashes

    async def meanwhile() -> dict[str, int]:
        there = await look_round()
        assert (await keeper.verbs["bad"]("bob", wanted(data)))["state"] == "dropped"
        await store(keeper, "bob", data)
        return there

    monkeypatch.setattr(keeper.shelf, "hashes", meanwhile)
    await keeper.sweep()
    assert (await keeper.verbs["bad"]("bob", wanted(data)))["state"] == "good"


@pytest.mark.parametrize("subject", ["jsnats.blob.*.0", "jsnats.blob.*.*", "jsnats.blob.>.0", "{own}.*", "{own}.>"])
async def test_sweep_of_wildcards(keeper: Storekeeper, ann: Connection, subject: str) -> None:
    """A subject with a literal wildcard, which the broker stores, is removed without being taken for a pattern."""
    sha256 = await store(keeper, "bob", os.urandom(2 * BLOB_CHUNK))
    with contextlib.suppress(AccessDenied):
        await ann.request(subject.format(own=manifest_subject(sha256)), b"junk")
    await keeper.sweep()
    assert await keeper.shelf.hashes() == {sha256: 2}
    assert await keeper.verbs["bad"]("bob", {"sha256": sha256}) == {"state": "good"}


# ---------------------------------------------------------------------- the service

GARBAGE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"5",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"sha256": null}',
    b'{"sha256": "../../etc"}',
    b'{"sha256": "' + b"*" * 64 + b'"}',
    b'{"sha256": "' + b"a" * 64 + b'", "size": -1}',
    b'{"sha256": "' + b"a" * 64 + b'", "size": true}',
    b'{"sha256": "' + b"a" * 64 + b'", "size": 1e400}',
    b'{"sha256": "' + b"a" * 64 + b'", "size": "5"}',
    b'{"sha256": "' + b"a" * 64 + b'", "size": 99999999999999999999999999}',
    b'{"sha256": "' + b"a" * 64 + b'", "size": 5, "name": ["x"]}',
    b'{"sha256": ["' + b"a" * 64 + b'"], "size": 5, "offset": -1}',
]


@pytest.mark.parametrize("verb", ["put", "commit", "use", "rm", "bad", "nonsense", "ls"])
async def test_garbage(ann: Connection, keeper: Storekeeper, verb: str) -> None:
    """Whatever a request holds, it gets an answer, and the next one is served."""
    for body in GARBAGE:
        code, answer = await ask(ann, verb, body)
        assert code in ("400", "404", "410", "413") or (verb == "ls" and "blobs" in answer), (body[:40], answer)
    assert (await ask(ann, "ls", {})) == ("", {"blobs": [], "total": 0})


async def test_a_bug_does_not_end_the_service(ann: Connection, keeper: Storekeeper) -> None:
    """Whatever a verb raises is answered in one line."""

    async def broken(who: str, fields: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError(who)

    keeper.verbs["ls"] = broken
    with pytest.raises(DriverError, match="the store failed at ls"):
        await Requests(ann, "store", keeper.verbs, "store").do("ann", "ls", b"{}")


async def test_deep_subjects_and_foreign_replies_are_no_requests(ann: Connection) -> None:
    """A request whose reply subject is somebody else's, or that bears a mark of JetStream's, is not answered."""
    sha256 = "a" * 64
    body = json.dumps({"sha256": sha256, "size": 5, "name": "f"}).encode()
    await ann.publish(store_subject("ann", "put"), body, reply="jsnats.reply.bob.x")
    await ann.publish(store_subject("ann", "put"), body)
    with pytest.raises(TimeoutError):
        await ask(ann, "put", body, headers={"Nats-Stream": "JSNATS_BLOBS"}, timeout_s=0.3)
    assert (await ask(ann, "rm", {"sha256": sha256}))[0] == "410"


async def test_an_exporter_stores_files_as_itself(broker: TestBroker, keeper: Storekeeper) -> None:
    """An exporter uploads under its own name, which the broker pins."""
    rack = await open_connection(broker.context("rack1"))
    data = b"a dump"
    assert (await ask(rack, "put", wanted(data)))[1]["state"] == "send"
    await send(rack, data)
    assert (await ask(rack, "commit", wanted(data)))[1]["blob"]["owner"] == "rack1"
    await rack.close()


async def test_many_requests_at_once(ann: Connection, keeper: Storekeeper) -> None:
    """A flood of requests is answered, some with Busy, and the service goes on."""
    codes = [code for code, _ in await asyncio.gather(*(ask(ann, "ls", {}, timeout_s=30) for _ in range(600)))]
    assert set(codes) <= {"", "429"}
    assert (await ask(ann, "ls", {}))[0] == ""


async def test_a_full_bucket(broker: TestBroker, ann: Connection, keeper: Storekeeper) -> None:
    """When the store cannot write down what it must, that is StorageFull, and it goes on when there is room again."""
    connection = keeper.shelf.connection
    number = 0
    for size in (10_000, 100):
        while b'"error"' not in (await connection.request(store_key(f"filler-{number}"), b"x" * size)).data:
            number += 1
    code, answer = await ask(ann, "put", wanted(b"x" * 20_000, "n" * 120))
    assert (code, answer["type"]) == ("507", "StorageFull")
    await connection.api("STREAM.PURGE.KV_jsnats_store")
    assert (await ask(ann, "put", wanted(b"x")))[0] == ""


async def test_it_comes_back_with_the_broker(broker: TestBroker, ann: Connection) -> None:
    """After the broker was killed and another has started, the store answers."""
    broker.kill()
    await ann.wait_connected()
    assert (await ann.read(store_subject("ann", "ls"), b"{}")).data
