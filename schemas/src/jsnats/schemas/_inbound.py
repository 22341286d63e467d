"""The one check that every inbound message passes before anything looks at its content.

NATS does not check reply and delivery subjects against the sender's permissions, so a user can bounce bytes of his
choice, with headers, off a JetStream reply onto a subject that only somebody else may publish to. What a bounce can
not do is choose the reply subject of what arrives, and it leaves the marks of JetStream on it. So:

- call, lease, store, $SRV: the reply subject lies under `jsnats.reply.<caller>.`;
- ctl, up, down: our version header, a call or session id that the receiver knows (it has 128 random bits and is
  never published), and no header of JetStream's;
- live, watch: stamped once by our own stream, and the stored subject is the twin of the received one.
"""

from __future__ import annotations

from collections.abc import Mapping

from ._errors import ProtocolError
from ._headers import PROTOCOL, STATUS, STREAM, SUBJECT, VERSION

Headers = Mapping[str, str] | None


def check_request(reply: str, user: str, headers: Headers) -> None:
    """Check a call, lease or store request of `user`. Raises ProtocolError."""
    if not reply.startswith(f"jsnats.reply.{user}."):
        raise ProtocolError("the reply subject is not the caller's: use an inbox under jsnats.reply.<user>.")
    if headers:
        _refuse_stamps(headers)


def check_service(reply: str) -> None:
    """Check a $SRV request. Raises ProtocolError."""
    if not reply.startswith("jsnats.reply."):
        raise ProtocolError("the reply subject is not an inbox under jsnats.reply.")


def check_control(headers: Headers) -> None:
    """Check a ctl, up or down message; that its id is known is for the receiver to see. Raises ProtocolError."""
    if not headers or headers.get(VERSION) != PROTOCOL:
        raise ProtocolError(f"{VERSION} {PROTOCOL} is missing")
    _refuse_stamps(headers)


def check_live(subject: str, headers: Headers, stream: str, live: str, stored: str) -> None:
    """Check a republished message: `live` and `stored` are the two prefixes, as "jsnats.live." and "jsnats.result.".

    A header that came twice is joined by a comma by the connection, so a forged second stamp does not match.
    Raises ProtocolError.
    """
    if not headers or headers.get(STREAM) != stream:
        raise ProtocolError("not republished by our stream")
    if not subject.startswith(live) or headers.get(SUBJECT) != stored + subject[len(live) :]:
        raise ProtocolError("the stored subject is not the twin of the received one")


def check_delivery(subject: str, reply: str, stream: str, consumer: str, stored: str) -> None:
    """Check a message that a pull consumer of ours delivered: its subject and its ack subject. Raises ProtocolError."""
    if subject != stored or not reply.startswith(f"$JS.ACK.{stream}.{consumer}."):
        raise ProtocolError("not delivered by our consumer")


def _refuse_stamps(headers: Mapping[str, str]) -> None:
    if STATUS in headers:
        raise ProtocolError("a status message is no request")
    for name in headers:
        if name[:5].lower() == "nats-":
            raise ProtocolError(f"{name} marks a message of the broker's, not a caller's")
