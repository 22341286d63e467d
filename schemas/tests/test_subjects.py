from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from jsnats.schemas import (
    ADMIN,
    EXPORTER,
    SCHEDULER,
    USER,
    VIEWER,
    CallSubject,
    CtlSubject,
    InvalidName,
    ProtocolError,
    RequestSubject,
    admin_subject,
    booking_key,
    call_subject,
    calls_of,
    chunk_subject,
    ctl_subject,
    ctls_of,
    grants,
    interface_key,
    lease_key,
    lease_subject,
    live_subject,
    manifest_subject,
    note_key,
    parse_call,
    parse_ctl,
    parse_request,
    presence_key,
    queue_key,
    read_grants,
    reply_prefix,
    result_subject,
    store_key,
    store_subject,
    tree_key,
)

BUILT = [
    (call_subject("bench-1", "ann", "dut.power", "on"), "jsnats.call.bench-1.ann.dut.power.on"),
    (call_subject("bench-1", "ann", "", "on"), "jsnats.call.bench-1.ann.on"),
    (call_subject("bench-1", "a=40b", "p", "on"), "jsnats.call.bench-1.a=40b.p.on"),
    (calls_of("bench-1"), "jsnats.call.bench-1.>"),
    (ctls_of("bench-1"), "jsnats.ctl.bench-1.>"),
    (ctl_subject("bench-1", "ann", "c1"), "jsnats.ctl.bench-1.ann.c1"),
    (reply_prefix("ann"), "jsnats.reply.ann"),
    (result_subject("ann", "bench-1", "c1"), "jsnats.result.ann.bench-1.c1"),
    (live_subject("ann", "bench-1", "c1"), "jsnats.live.ann.bench-1.c1"),
    (tree_key("bench-1"), "$KV.jsnats_tree.bench-1"),
    (interface_key("ab12"), "$KV.jsnats_interface.ab12"),
    (presence_key("bench-1"), "$KV.jsnats_presence.bench-1"),
    (store_subject("ann", "put"), "jsnats.store.ann.put"),
    (chunk_subject("ab12", 7), "jsnats.blob.ab12.7"),
    (manifest_subject("ab12"), "jsnats.blob.ab12"),
    (store_key("ab12"), "$KV.jsnats_store.ab12"),
    (lease_key("bench-1"), "$KV.jsnats_lab.lease.bench-1"),
    (queue_key("ab12"), "$KV.jsnats_lab.queue.ab12"),
    (booking_key("ab12"), "$KV.jsnats_lab.booking.ab12"),
    (note_key("bench-1"), "$KV.jsnats_lab.exporter.bench-1"),
    (lease_subject("ann", "create"), "jsnats.lease.ann.create"),
    (admin_subject("eve", "disable"), "jsnats.admin.eve.disable"),
]

EVERYBODY = ["$SRV.>", "$SYS.REQ.USER.INFO"]
WATCH = ["jsnats.watch.*.>", "jsnats.log.*.>", "jsnats.event.*.>", "jsnats.event.lab.>"]

GRANTS: dict[str, tuple[list[str], list[str]]] = {
    USER: (
        [
            "jsnats.call.*.N.>",
            "jsnats.ctl.*.N.*",
            "jsnats.up.*.N.*",
            "jsnats.lease.N.*",
            "jsnats.store.N.*",
            "jsnats.blob.*.*",
            *EVERYBODY,
        ],
        ["jsnats.reply.N.>", "jsnats.live.N.*.*", "jsnats.down.N.*.*", *WATCH],
    ),
    VIEWER: (EVERYBODY, ["jsnats.reply.N.>", *WATCH]),
    EXPORTER: (
        [
            "jsnats.reply.*.>",
            "jsnats.result.*.N.*",
            "jsnats.down.*.N.*",
            "jsnats.call.N.N.>",
            "jsnats.ctl.N.N.*",
            "jsnats.up.N.N.*",
            "jsnats.console.N.>",
            "jsnats.log.N.>",
            "jsnats.event.N.>",
            "jsnats.store.N.*",
            "jsnats.blob.*.*",
            "$KV.jsnats_tree.N",
            "$KV.jsnats_interface.*",
            "$KV.jsnats_presence.N",
            *EVERYBODY,
        ],
        [
            "jsnats.call.N.*.>",
            "jsnats.ctl.N.*.*",
            "jsnats.reply.N.>",
            "jsnats.up.N.*.*",
            "jsnats.down.N.N.*",
            "jsnats.live.N.N.*",
            "jsnats.watch.N.>",
            "$SRV.>",
        ],
    ),
    SCHEDULER: (
        [
            "jsnats.call.*.N.>",
            "jsnats.ctl.*.N.*",
            "jsnats.reply.*.>",
            "jsnats.up.*.N.*",
            "jsnats.event.*.>",
            "jsnats.event.lab.>",
            "jsnats.blob.*.*",
            "jsnats.blob.*",
            "$KV.jsnats_presence.*",
            "$KV.jsnats_lab.>",
            "$KV.jsnats_store.*",
            *EVERYBODY,
        ],
        [
            "jsnats.reply.N.>",
            "jsnats.live.N.*.*",
            "jsnats.down.N.*.*",
            *WATCH,
            "jsnats.lease.*.*",
            "jsnats.admin.*.*",
            "jsnats.store.*.*",
            "jsnats.store.*.*",
            "$SRV.>",
            "$SYS.ACCOUNT.*.DISCONNECT",
        ],
    ),
    ADMIN: (["jsnats.admin.*.*"], []),
}


@pytest.mark.parametrize(("built", "subject"), BUILT)
def test_build(built: str, subject: str) -> None:
    """Each subject is built as the protocol text says."""
    assert built == subject


@pytest.mark.parametrize(
    ("exporter", "path", "method"),
    [
        ("a.b", "p", "on"),
        ("*", "p", "on"),
        ("b", "p.>", "on"),
        ("b", "p..q", "on"),
        ("b", "p", "o n"),
        ("b", "p", ""),
        ("b", ".".join(["x" * 63] * 8), "on"),
    ],
)
def test_call_subject_refused(exporter: str, path: str, method: str) -> None:
    """A token that is no name, and a subject over 512 bytes, are refused before anything is sent."""
    with pytest.raises(InvalidName):
        call_subject(exporter, "ann", path, method)


NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)


@given(NAMES, NAMES, st.lists(NAMES, max_size=8), NAMES)
def test_call_subject_round_trip(exporter: str, user: str, path: list[str], method: str) -> None:
    """A call subject comes apart into what it was built from, however deep the path."""
    dotted = ".".join(path)
    assert parse_call(call_subject(exporter, user, dotted, method)) == CallSubject(exporter, user, dotted, method)


def test_parse_ctl() -> None:
    """A ctl subject comes apart into exporter, user and call."""
    assert parse_ctl("jsnats.ctl.bench-1.ann.c1") == CtlSubject("bench-1", "ann", "c1")


@pytest.mark.parametrize(
    "subject",
    [
        "jsnats.call.b.ann",
        "jsnats.ctl.b.ann.c1",
        "jsnats.blob.aa.0.x",
        "",
        "jsnats.call.b.a=4.p.on",
        "jsnats.call.b..p.on",
    ],
)
def test_not_a_call(subject: str) -> None:
    """A subject of another kind, without a method or without a user is no call."""
    with pytest.raises(ProtocolError, match="not a call subject"):
        parse_call(subject)


def test_parse_request() -> None:
    """The subject of a request about files comes apart into who asks and what."""
    assert parse_request("jsnats.store.a=40b.put", "store") == RequestSubject("a=40b", "put")


@pytest.mark.parametrize("subject", ["jsnats.store.ann", "jsnats.store.ann.put.x", "jsnats.lease.ann.put", ""])
def test_not_a_store_request(subject: str) -> None:
    """A subject of another kind or length is no request about files."""
    with pytest.raises(ProtocolError, match="not a store subject"):
        parse_request(subject, "store")


@pytest.mark.parametrize("role", [USER, EXPORTER, VIEWER])
def test_files_cannot_be_listed(role: str) -> None:
    """The hash is the right to read a file: nobody but the scheduler may create a consumer over the files, or read
    what the store knows of each."""
    assert not [each for each in read_grants(role, "n") if "CONSUMER" in each and "BLOBS" in each]
    assert not [each for each in read_grants(role, "n") if "store" in each]


@pytest.mark.parametrize(
    "subject", ["jsnats.ctl.b.ann", "jsnats.ctl.b.ann.c1.x", "jsnats.call.b.ann.on", "", "jsnats.ctl.b.a=4.c1"]
)
def test_not_a_ctl(subject: str) -> None:
    """A subject of another kind, length or without a user is no ctl message."""
    with pytest.raises(ProtocolError, match="not a ctl subject"):
        parse_ctl(subject)


@pytest.mark.parametrize("role", GRANTS)
def test_grants(role: str) -> None:
    """Each role gets these patterns and no other: its own name in its own slot, nobody else's."""
    publish, receive = grants(role, "N")
    assert (sorted(publish), sorted(receive)) == (sorted(GRANTS[role][0]), sorted(GRANTS[role][1]))


@pytest.mark.parametrize("role", [USER, VIEWER, EXPORTER, SCHEDULER])
def test_nobody_publishes_what_the_broker_does(role: str) -> None:
    """Republished subjects have no publisher among the roles, or they could be forged."""
    publish, _ = grants(role, "N")
    assert not [pattern for pattern in publish if pattern.startswith(("jsnats.live.", "jsnats.watch."))]


def test_results_are_read_by_their_owner_only() -> None:
    """A user creates consumers on his own results and cannot read them by direct get; an exporter reads those of its
    own hooks only, a viewer none."""
    results = [subject for subject in read_grants(USER, "ann") if "RESULTS" in subject]
    assert results == [
        "$JS.API.CONSUMER.CREATE.JSNATS_RESULTS.*.jsnats.result.ann.>",
        "$JS.API.CONSUMER.MSG.NEXT.JSNATS_RESULTS.*",
    ]
    hooks = [subject for subject in read_grants(EXPORTER, "n") if "RESULTS" in subject and "CREATE" in subject]
    assert hooks == ["$JS.API.CONSUMER.CREATE.JSNATS_RESULTS.*.jsnats.result.n.n.>"]
    assert not [subject for subject in read_grants(VIEWER, "n") if "RESULTS" in subject]


def test_an_exporter_reads_its_own_records_only() -> None:
    """An exporter reads its own tree, presence and lease, and every interface and blob."""
    direct = [subject for subject in read_grants(EXPORTER, "rack1") if subject.startswith("$JS.API.DIRECT.GET.")]
    assert [subject.removeprefix("$JS.API.DIRECT.GET.") for subject in direct] == [
        "KV_jsnats_tree.$KV.jsnats_tree.rack1",
        "KV_jsnats_interface.$KV.jsnats_interface.>",
        "KV_jsnats_presence.$KV.jsnats_presence.rack1",
        "KV_jsnats_lab.$KV.jsnats_lab.lease.rack1",
        "JSNATS_BLOBS.jsnats.blob.>",
    ]
