"""The scheduler on a real broker. The exporters are played: what an agent would say of itself is written by hand."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from jsnats.broker.testing import TestBroker, running_broker
from jsnats.schemas import (
    EVENTS,
    LAB,
    AccessDenied,
    Busy,
    Event,
    InvalidArgument,
    LeaseEnd,
    LeaseNotFound,
    LeaseRecord,
    NoMatch,
    PolicyDenied,
    PresenceRecord,
    QueueRecord,
    TreeRecord,
    admin_subject,
    booking_key,
    error_from_wire,
    headers as h,
    lease_key,
    lease_subject,
    presence_key,
    queue_key,
    tree_key,
)
from jsnats.sdk import Connection, Mirror, follow, last_record, mirrored, open_connection, put_record

BOARDS = {"rpi-1": "rpi4", "rpi-2": "rpi4", "jet-1": "jetson"}


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A lab of three exporters and two users."""
    with running_broker(principals={"user": ["ann", "bob"], "exporter": [*BOARDS]}) as running:
        yield running


class Lab:
    """The lab as a test plays with it."""

    def __init__(self, broker: TestBroker, admin: Connection, mirror: Mirror) -> None:
        self.broker = broker
        self.admin = admin
        self.mirror = mirror
        self.users: dict[str, Connection] = {}

    async def user(self, name: str) -> Connection:
        """The connection of a user."""
        if name not in self.users:
            self.users[name] = await open_connection(self.broker.context(name), name=name)
        return self.users[name]

    async def ask(self, who: str, verb: str, **fields: Any) -> dict[str, Any]:
        """A request about leases; raises what it is answered."""
        connection = await self.user(who)
        subject = admin_subject(who, verb) if who == "broker" else lease_subject(who, verb)
        answer = await connection.request(subject, json.dumps(fields).encode())
        body = json.loads(answer.data)
        code = (answer.headers or {}).get(h.ERROR_CODE)
        if code:
            raise error_from_wire(int(code), body)
        return dict(body)

    async def wait(self, who: str, *selectors: str, **fields: Any) -> str:
        """Ask for a lease, and return its id."""
        id_ = secrets.token_hex(8)
        wanted = {"duration": 600} | fields
        await self.ask(who, "create", id=id_, selectors=list(selectors or ["board=rpi4"]), **wanted)
        return id_

    async def say(self, name: str, state: str = "available", **fields: Any) -> None:
        """An exporter says what it does; the test's own pace is faster than any time to live."""
        record = PresenceRecord(instance=f"i-{name}", state=state, **fields)
        await put_record(self.admin, presence_key(name), record.encode())

    async def until(self, subject: str, *, there: bool) -> bytes:
        """Wait until there is a record on that subject, or one that is gone; return it, or what its marker says."""
        async with asyncio.timeout(10):
            while True:
                found = self.mirror.records.get(subject)
                if found and bool(found.body) == there:
                    return found.body or found.end
                self.mirror.updated.clear()
                await self.mirror.updated.wait()

    async def granted(self, id_: str) -> list[str]:
        """Wait until a wait is over; return what was granted."""
        return (await self.gone(id_)).boards

    async def gone(self, id_: str) -> LeaseEnd:
        """Wait until a wait is over; return how."""
        async with asyncio.timeout(10):
            while not (found := self.mirror.records.get(queue_key(id_))) or found.body:
                self.mirror.updated.clear()
                await self.mirror.updated.wait()
        return LeaseEnd.decode(found.end)

    def lease(self, name: str) -> LeaseRecord | None:
        """Who holds an exporter."""
        found = self.mirror.get(lease_key(name))
        return LeaseRecord.decode(found.body).at(found.revision) if found else None

    async def ended(self, name: str) -> LeaseEnd:
        """Wait until nobody holds an exporter; return why."""
        return LeaseEnd.decode(await self.until(lease_key(name), there=False))

    async def settle(self) -> None:
        """Let whatever was decided be written: a request that is answered behind it."""
        await self.ask("broker", "comment", exporter="rpi-1")


@pytest_asyncio.fixture
async def lab(broker: TestBroker) -> AsyncIterator[Lab]:
    """Three exporters that are there and free, and nobody who waits."""
    admin = await open_connection(broker.context(), name="test")
    async with mirrored(admin, LAB.name, "$KV.jsnats_lab.>") as mirror:
        playing = Lab(broker, admin, mirror)
        for subject in [each for each, record in mirror.records.items() if record.body]:
            await put_record(admin, subject, b"", delete=True)
        for name, board in BOARDS.items():
            tree = TreeRecord(name=name, instance=f"i-{name}", nodes=[], labels={"board": board})
            await put_record(admin, tree_key(name), tree.encode())
            await playing.say(name)
        yield playing
    for connection in (admin, *playing.users.values()):
        await connection.close()


async def test_a_lease_from_wait_to_end(lab: Lab) -> None:
    """Who asks waits and is granted what is free; the epoch is the revision of the grant, whatever is written later."""
    id_ = await lab.wait("ann", "name=rpi-1", tether=30)
    assert await lab.granted(id_) == ["rpi-1"]
    await lab.until(lease_key("rpi-1"), there=True)
    lease = lab.lease("rpi-1")
    assert lease is not None
    assert (lease.holder, lease.id, lease.boards, lease.tether) == ("ann", id_, ["rpi-1"], 30.0)
    assert lease.epoch == lab.mirror.revision(lease_key("rpi-1"))
    assert lease.end == pytest.approx(lab.mirror.now() + 600, abs=5)
    assert (await lab.ask("ann", "renew", id=id_))["state"] == "held"
    await lab.ask("ann", "release", id=id_)
    assert await lab.ended("rpi-1") == LeaseEnd(reason="released", by="ann")
    found = await last_record(lab.admin, LAB.name, lease_key("rpi-1"))
    assert found is not None
    assert found.revision > lease.epoch


async def test_first_come_first_served(lab: Lab) -> None:
    """An exporter goes to the highest priority, and among equals to who came first."""
    first = await lab.wait("ann", "name=jet-1")
    await lab.granted(first)
    waiting = [await lab.wait(who, "name=jet-1", priority=p) for who, p in (("bob", 0), ("ann", 0), ("bob", 5))]
    current = first
    for expected in (waiting[2], waiting[0], waiting[1]):
        await lab.ask("broker", "release", id=current)
        assert await lab.granted(expected) == ["jet-1"]
        await lab.until(lease_key("jet-1"), there=True)
        current = expected


async def test_all_or_nothing(lab: Lab) -> None:
    """Who wants both gets both at once, or waits; what is free is kept for him meanwhile."""
    one = await lab.wait("bob", "name=rpi-1")
    assert await lab.granted(one) == ["rpi-1"]
    both = await lab.wait("ann", "board=rpi4", "board=rpi4")
    late = await lab.wait("bob", "name=rpi-2")
    await lab.settle()
    assert lab.lease("rpi-2") is None
    await lab.ask("bob", "release", id=one)
    assert sorted(await lab.granted(both)) == ["rpi-1", "rpi-2"]
    await lab.ask("ann", "release", id=both)
    assert await lab.ended("rpi-1") == LeaseEnd(reason="released", by="ann")
    assert await lab.granted(late) == ["rpi-2"]


async def test_no_grant_into_a_booking(lab: Lab) -> None:
    """A booked exporter goes to nobody whose lease would run into the booking; a shorter lease is granted."""
    booked_id = secrets.token_hex(8)
    other_id = secrets.token_hex(8)
    begin = lab.mirror.now() + 300
    booked = await lab.ask("bob", "create", id=booked_id, selectors=["name=jet-1"], begin=begin, duration=60)
    assert (booked["state"], booked["boards"], booked["end"]) == ("booked", ["jet-1"], begin + 60)
    assert (await lab.ask("bob", "renew", id=booked_id))["state"] == "booked"
    with pytest.raises(Busy, match="booked or held then"):
        await lab.ask("ann", "create", id=other_id, selectors=["board=jetson"], begin=begin + 59, duration=60)
    await lab.ask("ann", "create", id=other_id, selectors=["board=jetson"], begin=begin + 60, duration=60)
    long = await lab.wait("ann", "name=jet-1", duration=400)
    short = await lab.wait("ann", "name=jet-1", duration=200)
    assert await lab.granted(short) == ["jet-1"]
    assert lab.mirror.get(queue_key(long)) is not None
    with pytest.raises(Busy, match="booked by bob"):
        await lab.ask("ann", "extend", id=short, end=begin + 1)
    assert (await lab.ask("ann", "extend", id=short, end=begin)) == {"end": begin}


async def test_a_booking_becomes_a_lease(lab: Lab) -> None:
    """At its begin a booking comes before everybody, as soon as the exporter is free, and keeps its end."""
    booked_id = secrets.token_hex(8)
    begin = lab.mirror.now() + 0.5
    await lab.say("jet-1", "ending")
    await lab.ask("bob", "create", id=booked_id, selectors=["name=jet-1"], begin=begin, duration=60)
    urgent = await lab.wait("ann", "name=jet-1", priority=10)
    while lab.mirror.now() < begin:
        await asyncio.sleep(0.02)
    await lab.say("jet-1")
    await lab.until(lease_key("jet-1"), there=True)
    lease = lab.lease("jet-1")
    assert lease is not None
    assert (lease.holder, lease.id, lease.end, lease.tether) == ("bob", booked_id, begin + 60, 0.0)
    assert lab.mirror.get(queue_key(urgent)) is not None


async def test_a_booking_that_cannot_begin_is_given_up(lab: Lab) -> None:
    """When its time has passed it is gone, and says what was in the way."""
    booked_id = secrets.token_hex(8)
    await lab.say("jet-1", "stuck")
    begin = lab.mirror.now() + 0.3
    await lab.ask("bob", "create", id=booked_id, selectors=["name=jet-1"], begin=begin, duration=0.3)
    end = LeaseEnd.decode(await lab.until(booking_key(booked_id), there=False))
    assert end.reason == "its time has passed: jet-1 is stuck"


async def test_extend_shorten_and_its_end(lab: Lab) -> None:
    """The end moves either way within the policy, and the lease ends then, by the broker's clock."""
    id_ = await lab.wait("ann", "name=jet-1")
    await lab.granted(id_)
    now = lab.mirror.now()
    assert (await lab.ask("ann", "extend", id=id_, end=now + 3600)) == {"end": now + 3600}
    with pytest.raises(PolicyDenied, match="may last 8 h here"):
        await lab.ask("ann", "extend", id=id_, end=now + 9 * 3600)
    await lab.ask("broker", "extend", id=id_, end=now + 9 * 3600)
    with pytest.raises(InvalidArgument, match="has passed"):
        await lab.ask("ann", "extend", id=id_, end=now - 1)
    await lab.ask("ann", "extend", id=id_, end=lab.mirror.now() + 0.2)
    assert (await lab.ended("jet-1")).reason == "its time is up"


async def test_share_and_transfer(lab: Lab) -> None:
    """Co-holders are all that were named; a lease that is handed over is its new holder's, tethered to nobody."""
    id_ = await lab.wait("ann", "board=rpi4", "board=rpi4", tether=30)
    await lab.granted(id_)
    shared = await lab.ask("ann", "share", id=id_, users=["bob", "eve@corp", "ann"])
    assert shared == {"co_holders": ["bob", "eve=40corp"]}
    for _ in range(2):
        assert await lab.ask("ann", "transfer", id=id_, to="bob") == {"holder": "bob"}
    await lab.settle()
    for name in ("rpi-1", "rpi-2"):
        lease = lab.lease(name)
        assert lease is not None
        assert (lease.holder, lease.tether, lease.co_holders) == ("bob", 0.0, ["eve=40corp"])
    with pytest.raises(LeaseNotFound, match="is bob's"):
        await lab.ask("ann", "release", id=id_)


async def test_a_lease_is_taken_away(lab: Lab) -> None:
    """An admin ends anybody's lease, wait or booking, with a reason; a user cannot, nor publish there."""
    id_ = await lab.wait("ann", "name=jet-1")
    await lab.granted(id_)
    behind = await lab.wait("bob", "name=jet-1")
    with pytest.raises(LeaseNotFound):
        await lab.ask("bob", "release", id=id_)
    with pytest.raises(AccessDenied):
        await (await lab.user("bob")).request(admin_subject("bob", "release"), b"{}")
    await lab.ask("broker", "release", id=behind, reason="not today")
    assert (await lab.gone(behind)).reason == "not today"
    await lab.ask("broker", "release", id=id_, reason="the rack moves")
    assert await lab.ended("jet-1") == LeaseEnd(reason="the rack moves", by="broker")


async def test_a_wait_ends(lab: Lab) -> None:
    """Who waits for so long and no longer is told so; with no time at all it is now or never."""
    await lab.say("jet-1", "ending")
    id_ = await lab.wait("ann", "name=jet-1", wait=0.3)
    assert (await lab.gone(id_)).reason == "waited for 0.3 s in vain"
    assert (await lab.gone(await lab.wait("ann", "name=jet-1", wait=0))).boards == []
    await lab.say("jet-1")
    assert await lab.granted(await lab.wait("ann", "name=jet-1", wait=0)) == ["jet-1"]


async def test_a_tether_that_is_cut(lab: Lab) -> None:
    """A tethered lease lives as long as it is renewed; when nobody does, it ends, and so does a wait."""
    id_ = await lab.wait("ann", "board=rpi4", "board=rpi4", tether=0.8)
    await lab.granted(id_)
    behind = await lab.wait("bob", "name=rpi-1", tether=0.8)
    for _ in range(5):
        await asyncio.sleep(0.3)  # the life of a holder
        for who, lease in (("ann", id_), ("bob", behind)):
            await lab.ask(who, "renew", id=lease)
    first = lab.lease("rpi-1")
    assert first is not None
    assert first.epoch < lab.mirror.revision(lease_key("rpi-1"))
    await lab.ask("bob", "renew", id=behind)
    for name in ("rpi-1", "rpi-2"):
        assert (await lab.ended(name)).reason == "ann was not heard of for 0.8 s"
    assert await lab.granted(behind) == ["rpi-1"]
    await lab.say("jet-1", "ending")
    assert (await lab.gone(await lab.wait("ann", "name=jet-1", tether=0.3))).reason == "ann was not heard of for 0.3 s"


async def test_an_exporter_that_is_away_costs_nobody_his_lease(lab: Lab) -> None:
    """While the exporter is offline a tether does not run out, and when it is back the whole time begins anew."""
    id_ = await lab.wait("ann", "name=jet-1", tether=0.5)
    await lab.granted(id_)
    await lab.say("jet-1", "offline")
    await asyncio.sleep(1.0)  # twice the tether: nothing may happen
    assert lab.lease("jet-1") is not None
    back = time.monotonic()
    await lab.say("jet-1", "leased")
    assert "not heard of" in (await lab.ended("jet-1")).reason
    assert time.monotonic() - back > 0.45


async def test_an_exporter_ends_a_lease_by_itself(lab: Lab) -> None:
    """Presence that says `ended` for the epoch of a lease ends it whole, for the reason that is given there."""
    id_ = await lab.wait("ann", "board=rpi4", "board=rpi4")
    await lab.granted(id_)
    lease = lab.lease("rpi-1")
    assert lease is not None
    await lab.say("rpi-1", "leased", epoch=lease.epoch, ended=lease.epoch - 1)
    await lab.settle()
    assert lab.lease("rpi-1") is not None
    await lab.say("rpi-1", "available", ended=lease.epoch, reason="its hook beforeLease failed")
    for name in ("rpi-1", "rpi-2"):
        assert (await lab.ended(name)).reason == "its hook beforeLease failed"


@pytest.mark.parametrize("state", ["offline", "stuck", "ending", "preparing", "leased"])
async def test_who_is_not_available_is_not_granted(lab: Lab, state: str) -> None:
    """Only an exporter that says `available` is granted; who wants another is served meanwhile."""
    await lab.say("jet-1", state)
    id_ = await lab.wait("ann", "name=jet-1")
    await lab.granted(await lab.wait("bob", "name=rpi-1"))
    assert lab.lease("jet-1") is None
    await lab.say("jet-1")
    assert await lab.granted(id_) == ["jet-1"]


async def test_a_disabled_exporter_is_not_granted(lab: Lab) -> None:
    """An admin disables an exporter with a comment, and enables it again; a lease that runs goes on."""
    running = await lab.wait("ann", "name=jet-1")
    await lab.granted(running)
    note = await lab.ask("broker", "disable", exporter="jet-1", comment="fan is broken")
    assert (note["disabled"], note["comment"], note["by"]) == (True, "fan is broken", "broker")
    id_ = await lab.wait("bob", "name=jet-1")
    assert lab.lease("jet-1") is not None
    await lab.ask("ann", "release", id=running)
    await lab.ended("jet-1")
    await lab.granted(await lab.wait("bob", "name=rpi-1"))
    assert lab.lease("jet-1") is None
    assert (await lab.ask("broker", "comment", exporter="jet-1", comment="new fan"))["disabled"] is True
    assert (await lab.ask("broker", "enable", exporter="jet-1"))["disabled"] is False
    assert await lab.granted(id_) == ["jet-1"]
    with pytest.raises(NoMatch, match="did you mean 'jet-1'"):
        await lab.ask("broker", "disable", exporter="jet-11")


async def test_what_can_never_be(lab: Lab) -> None:
    """A selector that nothing in the lab fits is refused at once, with what exists; an offline exporter counts."""
    new_id = secrets.token_hex(8)
    for selectors, words in (
        (["board=rpi5"], ["'board=rpi5'", "did you mean board=rpi4?", "there are board=jetson|rpi4"]),
        (["bord=rpi4"], ["did you mean board=rpi4?"]),
        (["board=rpi4"] * 3, ["3 exporters are wanted, and only 2 fit 'board=rpi4'"]),
        (["name=jet-1", "board=jetson"], ["2 exporters are wanted, and only 1 fit"]),
    ):
        for begin in ({}, {"begin": lab.mirror.now() + 100}):
            with pytest.raises(NoMatch) as caught:
                await lab.ask("ann", "create", id=new_id, selectors=selectors, **begin)
            assert all(each in str(caught.value) for each in words), caught.value
            assert "\n" not in str(caught.value)
    await lab.say("jet-1", "offline")
    assert await lab.wait("ann", "board=jetson")
    with pytest.raises(InvalidArgument, match="key=value"):
        await lab.wait("ann", "board=(")


async def test_policy(lab: Lab) -> None:
    """Without a file: an hour if nothing is said, 8 h and priority 10 at most; an admin is free of it."""
    new_id = secrets.token_hex(8)
    answer = await lab.ask("ann", "create", id=new_id, selectors=["name=jet-1"])
    assert answer == {"state": "waiting", "id": new_id, "duration": 3600.0}
    with pytest.raises(PolicyDenied, match="may last 8 h here, not 9 h"):
        await lab.wait("ann", duration=9 * 3600)
    with pytest.raises(PolicyDenied, match="priority may be 10"):
        await lab.wait("ann", priority=11)
    assert await lab.granted(await lab.wait("broker", "name=rpi-1", duration=9 * 3600, priority=99))


async def test_policy_of_the_lab(lab: Lab, broker: TestBroker) -> None:
    """The file in the directory of the lab holds as soon as it is written; a wrong one changes nothing."""
    file = broker.inner.lab.policy
    file.write_text("max_waiting: 2\nusers: {bob: {max_waiting: 3}}\n")
    await lab.say("jet-1", "ending")
    try:
        for _ in range(2):
            await lab.wait("ann", "name=jet-1")
        with pytest.raises(PolicyDenied, match="wait for 2 leases already"):
            await lab.wait("ann", "name=jet-1")
        file.write_text("max_waiting: many\nusers: {bob: {max_waiting: 3}}\n")
        for _ in range(3):
            await lab.wait("bob", "name=jet-1")
        with pytest.raises(PolicyDenied):
            await lab.wait("bob", "name=jet-1")
    finally:
        file.unlink()


async def test_a_request_that_comes_twice(lab: Lab) -> None:
    """`create` makes one lease for one id, and says what has become of it; `release` may be repeated."""
    new_id = secrets.token_hex(8)
    wanted = {"id": new_id, "selectors": ["name=jet-1"], "duration": 60}
    await lab.say("jet-1", "ending")
    await lab.user("ann")
    answers = await asyncio.gather(*(lab.ask("ann", "create", **wanted) for _ in range(5)))
    assert {each["state"] for each in answers} == {"waiting"}
    with pytest.raises(InvalidArgument, match="somebody else's"):
        await lab.ask("bob", "create", **wanted)
    await lab.say("jet-1")
    await lab.granted(new_id)
    assert (await lab.ask("ann", "create", **wanted))["state"] == "held"
    for _ in range(2):
        assert await lab.ask("ann", "release", id=new_id) == {"state": "ended"}
    assert (await lab.ask("ann", "create", **wanted))["state"] == "ended"
    for verb in ("renew", "release", "extend", "share", "transfer"):
        with pytest.raises(LeaseNotFound):
            await lab.ask("ann", verb, id="d" * 16, end=lab.mirror.now() + 60, users=["bob"], to="bob")


GARBAGE = [
    b"",
    b"[]",
    b"\xff",
    b"[" * 100_000,
    b'{"id": null}',
    b'{"id": "../../../etc/pas"}',
    b'{"id": "aaaaaaaaaaaaaaa>"}',
    b'{"id": "abababababababab"}',
    b'{"id": "abababababababab", "selectors": []}',
    b'{"id": "abababababababab", "selectors": [1], "users": [2], "to": 3, "end": "4"}',
    b'{"id": "abababababababab", "selectors": ["board=rpi4"], "duration": 1e400, "end": 1e400}',
    b'{"id": "abababababababab", "selectors": ["board=rpi4"], "duration": -1, "end": -1}',
    b'{"id": "abababababababab", "selectors": ["board=rpi4"], "duration": 0, "end": true}',
    b'{"id": "abababababababab", "selectors": ["board=rpi4"], "begin": 1, "to": ""}',
    b'{"id": "abababababababab", "selectors": ["board=rpi4"], "tether": "x", "to": "lab"}',
    b'{"id": "abababababababab", "selectors": ["board=rpi4"], "priority": 1.5, "exporter": 5}',
    b'{"id": "abababababababab", "selectors": ["board=rpi4"], "note": [], "exporter": "a.b"}',
    b'{"id": "abababababababab", "selectors": ["board=\\ud800"], "to": "\\ud800", "users": ["\\ud800"]}',
    b'{"id": "abababababababab", "selectors": ["board=rpi4"], "duration": 1' + b"0" * 400 + b"}",
    b'{"id": "abababababababab", "end": 1' + b"0" * 400 + b', "to": "a=00b", "users": ["a=0Ab"]}',
    json.dumps({"id": "ab" * 8, "selectors": ["x" * 499] * 64, "users": ["x" * 499] * 64}).encode(),
    b'{"id": "abababababababab", "selectors": ["' + b"x" * 9000 + b'"], "users": ["' + b"x" * 999 + b'"]}',
]


@pytest.mark.parametrize("kind", ["lease", "admin"])
async def test_garbage(lab: Lab, kind: str) -> None:
    """Whatever a request holds, it is answered, and nothing comes of it."""
    who = "ann" if kind == "lease" else "broker"
    connection = await lab.user(who)
    verbs = ["create", "renew", "release", "extend", "share", "transfer", "disable", "nonsense"]
    for verb in verbs:
        for body in GARBAGE:
            answer = await connection.request(f"jsnats.{kind}.{who}.{verb}", body)
            code = (answer.headers or {}).get(h.ERROR_CODE)
            assert code in ("400", "404", "424", "427"), (verb, body[:80], answer.data)
    assert not [each for each in lab.mirror.records.values() if each.body]


async def test_records_that_are_no_good(lab: Lab) -> None:
    """What cannot be read in the buckets is left out; everybody else is served."""
    await put_record(lab.admin, queue_key("e" * 16), b"{}")
    unreadable = QueueRecord(user="ann", selectors=["board=("], duration=60)
    await put_record(lab.admin, queue_key("f" * 16), unreadable.encode())
    await put_record(lab.admin, tree_key("broken"), b"no json")
    await put_record(lab.admin, presence_key("broken"), b"[]")
    await put_record(lab.admin, tree_key("odd"), b'{"name": "odd", "instance": "i", "nodes": [], "labels": {"a": []}}')
    await put_record(lab.admin, presence_key("odd"), b'{"instance": "i", "state": {}}')
    assert await lab.granted(await lab.wait("ann", "name=jet-1")) == ["jet-1"]


async def test_events(lab: Lab) -> None:
    """What the scheduler does is stored in EVENTS, in order, once for each exporter or for the lab."""
    since = lab.mirror.now()
    id_ = await lab.wait("ann", "board=rpi4", "board=rpi4", note="nightly")
    await lab.granted(id_)
    await lab.ask("ann", "share", id=id_, users=["bob"])
    await lab.ask("ann", "transfer", id=id_, to="bob")
    await lab.ask("bob", "extend", id=id_, end=lab.mirror.now() + 100)
    await lab.ask("broker", "release", id=id_, reason="enough")
    found: list[Event] = []
    async with asyncio.timeout(10):
        async for each in follow(lab.admin, EVENTS.name, "jsnats.event.>", since=since):
            event = Event.decode(each.message.data)
            if event.data.get("id") == id_:
                assert each.message.subject == f"jsnats.event.{event.source}.{event.type}"
                found.append(event)
            if len(found) == 11:
                break
    assert [each.type for each in found if each.source in ("lab", "rpi-1")] == [
        "lease.waiting",
        "lease.granted",
        "lease.shared",
        "lease.transferred",
        "lease.extended",
        "lease.ended",
    ]
    assert (found[0].data["user"], found[0].data["selectors"]) == ("ann", ["board=rpi4", "board=rpi4"])
    assert (found[-1].data["reason"], found[-1].data["by"], found[-1].data["holder"]) == ("enough", "broker", "bob")
    granted = next(each for each in found if each.type == "lease.granted" and each.source == "rpi-2")
    assert granted.data["boards"] == ["rpi-1", "rpi-2"] or granted.data["boards"] == ["rpi-2", "rpi-1"]
