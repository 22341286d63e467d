"""The subject table: who publishes what, who receives it. Permissions are generated from it.

`{exporter}`, `{user}` and `{principal}` stand for the name of one of them; `...` in a comment for more tokens.
The user is in the subject because NATS does not tell a responder who sent a message, and the broker pins the
token by publish permission: so it is proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from ._errors import InvalidName, ProtocolError
from ._names import MAX_SUBJECT, NAME, is_user_token

EXPORTER, USER, VIEWER, SCHEDULER, ADMIN = "exporter", "user", "viewer", "scheduler", "admin"
ROLES = (EXPORTER, USER, VIEWER, SCHEDULER, ADMIN)


@dataclass(frozen=True, slots=True)
class SubjectRow:
    """One row: the pattern, the roles that publish it and the roles that receive it."""

    pattern: str
    publish: tuple[str, ...]
    receive: tuple[str, ...]


READERS = (USER, VIEWER, SCHEDULER)
CALLERS = (USER, SCHEDULER)
RESPONDERS = (EXPORTER, SCHEDULER)

SUBJECTS: tuple[SubjectRow, ...] = (
    SubjectRow("jsnats.call.{exporter}.{user}.>", CALLERS, (EXPORTER,)),
    SubjectRow("jsnats.ctl.{exporter}.{user}.*", CALLERS, (EXPORTER,)),
    SubjectRow("jsnats.reply.{principal}.>", RESPONDERS, (EXPORTER, *READERS)),
    SubjectRow("jsnats.result.{user}.{exporter}.*", (EXPORTER,), ()),
    SubjectRow("jsnats.live.{user}.{exporter}.*", (), CALLERS),
    SubjectRow("jsnats.up.{exporter}.{user}.*", CALLERS, (EXPORTER,)),
    SubjectRow("jsnats.down.{user}.{exporter}.*", (EXPORTER,), CALLERS),
    # The hooks of an exporter call its own drivers, as the exporter.
    SubjectRow("jsnats.call.{exporter}.{exporter}.>", (EXPORTER,), ()),
    SubjectRow("jsnats.ctl.{exporter}.{exporter}.*", (EXPORTER,), ()),
    SubjectRow("jsnats.up.{exporter}.{exporter}.*", (EXPORTER,), ()),
    SubjectRow("jsnats.down.{exporter}.{exporter}.*", (), (EXPORTER,)),
    SubjectRow("jsnats.live.{exporter}.{exporter}.*", (), (EXPORTER,)),
    SubjectRow("jsnats.watch.{exporter}.>", (), (EXPORTER,)),
    SubjectRow("jsnats.console.{exporter}.>", (EXPORTER,), ()),
    SubjectRow("jsnats.watch.{exporter}.>", (), READERS),
    SubjectRow("jsnats.log.{exporter}.>", (EXPORTER,), READERS),
    SubjectRow("jsnats.event.{exporter}.>", RESPONDERS, READERS),
    SubjectRow("jsnats.event.lab.>", (SCHEDULER,), READERS),
    SubjectRow("jsnats.lease.{user}.*", (USER,), (SCHEDULER,)),
    SubjectRow("jsnats.admin.{user}.*", (ADMIN,), (SCHEDULER,)),
    SubjectRow("jsnats.store.{user}.*", (USER,), (SCHEDULER,)),
    SubjectRow("jsnats.store.{exporter}.*", (EXPORTER,), (SCHEDULER,)),
    SubjectRow("jsnats.blob.*.*", (USER, EXPORTER, SCHEDULER), ()),
    SubjectRow("jsnats.blob.*", (SCHEDULER,), ()),
    SubjectRow("$SRV.>", (*READERS, EXPORTER), RESPONDERS),
    SubjectRow("$KV.jsnats_tree.{exporter}", (EXPORTER,), ()),
    SubjectRow("$KV.jsnats_interface.*", (EXPORTER,), ()),
    SubjectRow("$KV.jsnats_presence.{exporter}", RESPONDERS, ()),
    SubjectRow("$KV.jsnats_lab.>", (SCHEDULER,), ()),
    SubjectRow("$KV.jsnats_store.*", (SCHEDULER,), ()),
    SubjectRow("$SYS.REQ.USER.INFO", (EXPORTER, *READERS), ()),
    SubjectRow("$SYS.ACCOUNT.*.DISCONNECT", (), (SCHEDULER,)),
)


class CallSubject(NamedTuple):
    """The parts of `jsnats.call.<exporter>.<user>.<path...>.<method>`; `path` is "" for the root."""

    exporter: str
    user: str
    path: str
    method: str


class CtlSubject(NamedTuple):
    """The parts of `jsnats.ctl.<exporter>.<user>.<call>`."""

    exporter: str
    user: str
    call: str


class RequestSubject(NamedTuple):
    """The parts of `jsnats.<kind>.<principal>.<verb>`: a request to the services beside the broker."""

    principal: str
    verb: str


@lru_cache(1024)
def call_subject(exporter: str, user: str, path: str, method: str) -> str:
    """Subject of a call. Raises InvalidName when it would be too long or hold a token that is no name."""
    subject = f"jsnats.call.{exporter}.{user}.{path}.{method}" if path else f"jsnats.call.{exporter}.{user}.{method}"
    if len(subject) > MAX_SUBJECT:
        raise InvalidName(f"subject of {path}.{method} is {len(subject)} bytes; the limit is {MAX_SUBJECT}")
    for token in (exporter, method, *(path.split(".") if path else ())):
        if not NAME.fullmatch(token):
            raise InvalidName(f"{token!r} cannot be part of a subject")
    return subject


@lru_cache(1024)
def parse_call(subject: str) -> CallSubject:
    """Take a call subject apart. Raises ProtocolError if it is none."""
    tokens = subject.split(".")
    if len(tokens) < 5 or tokens[1] != "call" or not is_user_token(tokens[3]):
        raise ProtocolError(f"not a call subject: {subject[:80]}")
    return CallSubject(tokens[2], tokens[3], ".".join(tokens[4:-1]), tokens[-1])


def parse_ctl(subject: str) -> CtlSubject:
    """Take a ctl subject apart. Raises ProtocolError if it is none."""
    tokens = subject.split(".")
    if len(tokens) != 5 or tokens[1] != "ctl" or not is_user_token(tokens[3]):
        raise ProtocolError(f"not a ctl subject: {subject[:80]}")
    return CtlSubject(tokens[2], tokens[3], tokens[4])


def parse_request(subject: str, kind: str) -> RequestSubject:
    """Take the subject of a request to a service apart: `store`, `lease` or `admin`. Raises ProtocolError."""
    tokens = subject.split(".")
    if len(tokens) != 4 or tokens[1] != kind or not is_user_token(tokens[2]):
        raise ProtocolError(f"not a {kind} subject: {subject[:80]}")
    return RequestSubject(tokens[2], tokens[3])


def calls_of(exporter: str) -> str:
    """The one wildcard an exporter subscribes for its calls."""
    return f"jsnats.call.{exporter}.>"


def ctls_of(exporter: str) -> str:
    """The wildcard an exporter subscribes for control messages."""
    return f"jsnats.ctl.{exporter}.>"


def ctl_subject(exporter: str, user: str, call: str) -> str:
    """Subject of a control message for one call."""
    return f"jsnats.ctl.{exporter}.{user}.{call}"


def reply_prefix(principal: str) -> str:
    """What every reply subject of that principal begins with, without the last dot."""
    return f"jsnats.reply.{principal}"


def result_subject(user: str, exporter: str, call: str) -> str:
    """Where the exporter publishes the results of one call (stored in RESULTS)."""
    return f"jsnats.result.{user}.{exporter}.{call}"


def live_subject(user: str, exporter: str, call: str) -> str:
    """Where the broker republishes the stored results of one call."""
    return f"jsnats.live.{user}.{exporter}.{call}"


def up_subject(exporter: str, user: str, session: str) -> str:
    """Where a client publishes the bytes of a two-way stream."""
    return f"jsnats.up.{exporter}.{user}.{session}"


def ups_of(exporter: str) -> str:
    """The wildcard an exporter subscribes for the bytes of its two-way streams."""
    return f"jsnats.up.{exporter}.>"


def down_subject(user: str, exporter: str, session: str) -> str:
    """Where an exporter publishes the bytes of a two-way stream."""
    return f"jsnats.down.{user}.{exporter}.{session}"


def console_subject(exporter: str, path: str) -> str:
    """Where an exporter publishes what the console at `path` says (stored in CONSOLE); the root's path is `=` here."""
    return f"jsnats.console.{exporter}.{path or '='}"


def watch_subject(exporter: str, path: str) -> str:
    """Where the broker republishes what is stored of a console."""
    return f"jsnats.watch.{exporter}.{path or '='}"


def log_subject(exporter: str, path: str) -> str:
    """Where an exporter publishes what the driver at `path` logs (stored in LOGS); the root's path is `=` here."""
    return f"jsnats.log.{exporter}.{path or '='}"


def store_subject(principal: str, verb: str) -> str:
    """Subject of a request about files."""
    return f"jsnats.store.{principal}.{verb}"


def chunk_subject(sha256: str, index: int) -> str:
    """Where one chunk of a file is stored (in BLOBS)."""
    return f"jsnats.blob.{sha256}.{index}"


def manifest_subject(sha256: str) -> str:
    """Where the manifest of a file is stored (in BLOBS): it is there when all chunks are."""
    return f"jsnats.blob.{sha256}"


def store_key(sha256: str) -> str:
    """Subject of what the store knows about the use of a file."""
    return f"$KV.jsnats_store.{sha256}"


def tree_key(exporter: str) -> str:
    """Subject of an exporter's tree record."""
    return f"$KV.jsnats_tree.{exporter}"


def interface_key(digest: str) -> str:
    """Subject of an interface record, named by its SHA-256."""
    return f"$KV.jsnats_interface.{digest}"


def presence_key(exporter: str) -> str:
    """Subject of an exporter's presence record."""
    return f"$KV.jsnats_presence.{exporter}"


def lease_key(exporter: str) -> str:
    """Subject of an exporter's lease record."""
    return f"$KV.jsnats_lab.lease.{exporter}"


def queue_key(lease: str) -> str:
    """Subject of the record of somebody who waits for that lease."""
    return f"$KV.jsnats_lab.queue.{lease}"


def booking_key(lease: str) -> str:
    """Subject of a booking."""
    return f"$KV.jsnats_lab.booking.{lease}"


def note_key(exporter: str) -> str:
    """Subject of what an admin says of an exporter."""
    return f"$KV.jsnats_lab.exporter.{exporter}"


LINK_BUCKET = "KV_jsnats_link"
"""Where a hub says of a site whether it is connected, in the site's account."""


def link_key(site: str) -> str:
    """Subject of the record of the link to that site."""
    return f"$KV.jsnats_link.{site}"


def lease_subject(user: str, verb: str) -> str:
    """Subject of a request about leases."""
    return f"jsnats.lease.{user}.{verb}"


def admin_subject(user: str, verb: str) -> str:
    """Subject of a request that only an admin may send."""
    return f"jsnats.admin.{user}.{verb}"


def grants(role: str, name: str) -> tuple[list[str], list[str]]:
    """Publish and subscribe patterns that the table gives to principal `name` in `role`.

    `name` is a token. The principal's own slot is filled with it, the others are wildcards: a user is pinned in
    `{user}`, an exporter in `{exporter}`, and everybody in the `{principal}` of the replies they receive. What is sent
    to the scheduler alone it receives from everybody.
    """
    own = {USER: "user", SCHEDULER: "user", EXPORTER: "exporter"}.get(role, "none")
    slots = {slot: name if slot == own else "*" for slot in ("exporter", "user")}
    publish = [row.pattern.format(principal="*", **slots) for row in SUBJECTS if role in row.publish]
    served = {**slots, "user": "*"} if role == SCHEDULER else slots
    receive = [
        row.pattern.format(principal=name, **(served if row.receive == (SCHEDULER,) else slots))
        for row in SUBJECTS
        if role in row.receive
    ]
    return publish, receive
