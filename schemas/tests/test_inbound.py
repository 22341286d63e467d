"""What must not get through although the broker lets it.

A user may put any subject into the reply field of a request, and JetStream then sends its answer there: with bytes and
headers of his choice, onto subjects that he may not publish to. Each row below is what such a bounce looks like to the
one who receives it; bob attacks alice and rack1.
"""

from __future__ import annotations

import pytest

from jsnats.schemas import (
    ProtocolError,
    check_control,
    check_delivery,
    check_live,
    check_request,
    check_service,
    parse_call,
    parse_ctl,
)

Headers = dict[str, str] | None

CALL = "jsnats.call.rack1.alice.power.off"
CTL = "jsnats.ctl.rack1.alice.0123456789abcdef0123456789abcdef"
LIVE = "jsnats.live.alice.rack1.c1"
OURS = {"Jsnats-Version": "1"}
CONTROL = {**OURS, "Jsnats-Ctl": "cancel"}
DIRECT = {
    "Nats-Stream": "JSNATS_BLOBS",
    "Nats-Subject": "jsnats.blob.aa.0",
    "Nats-Sequence": "1",
    "Nats-Time-Stamp": "x",
}
ACK = "$JS.ACK.JSNATS_RESULTS.p1.1.1.1.1700000000000000000.0"
STAMP = {"Nats-Stream": "JSNATS_RESULTS", "Nats-Subject": "jsnats.result.alice.rack1.c1", "Nats-Sequence": "7"}


def receive_call(subject: str, reply: str, headers: Headers) -> None:
    """As an exporter checks a call."""
    check_request(reply, parse_call(subject).user, headers)


def receive_ctl(subject: str, reply: str, headers: Headers) -> None:
    """As an exporter checks a control message."""
    user = parse_ctl(subject).user
    check_control(headers)
    if reply:
        check_request(reply, user, None)


def receive_live(subject: str, reply: str, headers: Headers) -> None:
    """As a client checks a republished result."""
    check_live(subject, headers, "JSNATS_RESULTS", "jsnats.live.", "jsnats.result.")


ACCEPTED = [
    (receive_call, CALL, "jsnats.reply.alice.abc.1", None),
    (receive_call, CALL, "jsnats.reply.alice.abc.1", {**OURS, "Jsnats-Call": "c", "traceparent": "00-1-2-00"}),
    (receive_call, "jsnats.call.rack1.a=40b.off", "jsnats.reply.a=40b.1", OURS),
    (receive_ctl, CTL, "", CONTROL),
    (receive_ctl, CTL, "jsnats.reply.alice.abc.2", CONTROL),
    (receive_live, LIVE, "", STAMP),
    (receive_live, LIVE, "", {**STAMP, "Jsnats-Index": "0"}),
]

BOUNCES = [
    ("answer of STREAM.INFO", receive_call, CALL, "", None),
    ("answer of CONSUMER.CREATE", receive_call, CALL, "", {}),
    ("direct get of a blob he stored", receive_call, CALL, "", {**OURS, **DIRECT}),
    ("direct get, with a reply", receive_call, CALL, "jsnats.reply.alice.x", {**OURS, **DIRECT}),
    ("acknowledgement of a publish", receive_call, CALL, "", None),
    ("push consumer delivering to the call", receive_call, "jsnats.result.bob.rack1.c1", ACK, OURS),
    ("pull consumer answering to the call", receive_call, "jsnats.result.bob.rack1.c1", ACK, OURS),
    ("pull consumer, shown under the call", receive_call, CALL, ACK, OURS),
    ("status of an empty pull", receive_call, CALL, "", {"Status": "404", "Description": "No Messages"}),
    ("status, with a reply", receive_call, CALL, "jsnats.reply.alice.x", {"Status": "408"}),
    ("own call that answers onto alice's", receive_call, "jsnats.call.rack1.bob.x", CALL, OURS),
    ("own call that answers into her inbox", receive_call, "jsnats.call.rack1.bob.y", "jsnats.reply.alice.spoof", OURS),
    ("own call that answers into JetStream", receive_call, "jsnats.call.rack1.bob.y", "jsnats.blob.aa.1", OURS),
    ("name that only begins alike", receive_call, "jsnats.call.rack1.bo.y", "jsnats.reply.bob.1", OURS),
    ("inbox without a name below it", receive_call, CALL, "jsnats.reply.alice", OURS),
    ("trace event", receive_call, CALL, "", None),
    ("message that asks for a trace", receive_call, CALL, "jsnats.reply.alice.x", {**OURS, "Nats-Trace-Dest": CALL}),
    ("stamp in small letters", receive_call, CALL, "jsnats.reply.alice.x", {"nats-stream": "X"}),
    ("ctl: acknowledgement", receive_ctl, CTL, "", None),
    ("ctl: direct get with our headers", receive_ctl, CTL, "", {**CONTROL, **DIRECT}),
    ("ctl: pull consumer", receive_ctl, "jsnats.result.bob.rack1.c1", ACK, CONTROL),
    ("ctl: pull consumer, shown under ctl", receive_ctl, CTL, ACK, CONTROL),
    ("ctl: status", receive_ctl, CTL, "", {**CONTROL, "Status": "404"}),
    ("ctl: no version", receive_ctl, CTL, "", {"Jsnats-Ctl": "cancel"}),
    ("ctl: another version", receive_ctl, CTL, "", {**CONTROL, "Jsnats-Version": "2"}),
    ("ctl: version twice", receive_ctl, CTL, "", {**CONTROL, "Jsnats-Version": "1,1"}),
    ("ctl: answer into alice's inbox", receive_ctl, CTL.replace("alice", "bob"), "jsnats.reply.alice.1", CONTROL),
    ("ctl: a call's subject", receive_ctl, CALL, "", CONTROL),
    ("live: plain message", receive_live, LIVE, "", None),
    ("live: our headers only", receive_live, LIVE, "", OURS),
    ("live: direct get of a blob", receive_live, LIVE, "", DIRECT),
    (
        "live: blob with our stamp beside the broker's",
        receive_live,
        LIVE,
        "",
        {**STAMP, "Nats-Stream": "JSNATS_BLOBS,JSNATS_RESULTS"},
    ),
    (
        "live: subject stamped twice",
        receive_live,
        LIVE,
        "",
        {**STAMP, "Nats-Subject": "jsnats.blob.aa.0,jsnats.result.alice.rack1.c1"},
    ),
    ("live: his own result", receive_live, LIVE, "", {**STAMP, "Nats-Subject": "jsnats.result.bob.rack1.c1"}),
    ("live: push consumer on his results", receive_live, "jsnats.result.bob.rack1.c1", ACK, OURS),
    (
        "live: result of another exporter",
        receive_live,
        LIVE,
        "",
        {**STAMP, "Nats-Subject": "jsnats.result.alice.rack2.c1"},
    ),
    (
        "live: console of the same twin",
        receive_live,
        "jsnats.watch.rack1.x",
        "",
        {**STAMP, "Nats-Subject": "jsnats.console.rack1.x"},
    ),
    ("live: status", receive_live, LIVE, "", {"Status": "503"}),
]


@pytest.mark.parametrize(("check", "subject", "reply", "headers"), ACCEPTED)
def test_honest(check, subject: str, reply: str, headers: Headers) -> None:  # type: ignore[no-untyped-def]
    """What an honest sender sends passes."""
    check(subject, reply, headers)


@pytest.mark.parametrize(
    ("check", "subject", "reply", "headers"), [row[1:] for row in BOUNCES], ids=[row[0] for row in BOUNCES]
)
def test_bounce(check, subject: str, reply: str, headers: Headers) -> None:  # type: ignore[no-untyped-def]
    """Every bounce that a user can make on nats-server is refused before its content is looked at."""
    with pytest.raises(ProtocolError):
        check(subject, reply, headers)


def test_service_reply() -> None:
    """A $SRV request is answered into an inbox of ours and nowhere else."""
    check_service("jsnats.reply.bob.1")
    for reply in ("", CALL, "_INBOX.x", "jsnats.replyx.bob", "$JS.API.STREAM.PURGE.JSNATS_BLOBS"):
        with pytest.raises(ProtocolError):
            check_service(reply)


def test_delivery() -> None:
    """A delivery of a pull consumer is known by its subject and by the consumer's random name in its ack subject."""
    stored = "jsnats.result.alice.rack1.c1"
    check_delivery(stored, ACK, "JSNATS_RESULTS", "p1", stored)
    for subject, reply in (
        (stored, ""),
        (stored, ACK.replace(".p1.", ".p2.")),
        (stored, ACK.replace("RESULTS", "BLOBS")),
        ("jsnats.result.bob.rack1.c1", ACK),
    ):
        with pytest.raises(ProtocolError):
            check_delivery(subject, reply, "JSNATS_RESULTS", "p1", stored)
