"""The streams and buckets of a lab, and who may read which of them.

`max_bytes` is reserved when a stream is created, so the sizes are shares of one total that the broker chooses.
A role reads by consumer creation and direct get, both scoped by subject in the API subject itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from ._subjects import EXPORTER, SCHEDULER, USER, VIEWER

DAY = 86_400


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream: what it stores, which share of the total it may fill, for how long, and who reads what of it.

    `readers` maps a role to the filters it may read with ({name} is the reader's own name). `direct` says whether
    the role may also read single records by direct get, `consumers` whether it may create consumers. Ages are seconds,
    0 is for ever. `record_ttl` lets a record carry `Nats-TTL`; it leaves no marker when it expires, because nats-server
    turns roll-ups on for a stream with markers, and one publish with `Nats-Rollup: all` then empties it. `write_once`
    refuses a second record of a subject.
    """

    name: str
    subjects: str
    share: float
    max_age_s: int
    discard_new: bool = False
    max_msgs_per_subject: int = -1
    republish: tuple[str, str] | None = None
    kv: bool = False
    record_ttl: bool = False
    write_once: bool = False
    atomic: bool = False
    readers: tuple[tuple[str, str], ...] = ()
    direct: bool = False
    consumers: bool = True


STORE_FULL = frozenset({10077, 10047, 10023})
"""JetStream's err_codes for a store without room: maximum bytes exceeded, insufficient storage or resources."""

RESULT_RING = 640
"""Messages kept of one call's results. The exporter never has more unread ones stored, so none is lost."""

_ALL = (USER, VIEWER, SCHEDULER)


def _read(subject: str, *roles: str) -> tuple[tuple[str, str], ...]:
    return tuple((role, subject) for role in roles)


RESULTS = StreamSpec(
    "JSNATS_RESULTS",
    "jsnats.result.>",
    0.15,
    3600,
    discard_new=True,
    max_msgs_per_subject=RESULT_RING,
    record_ttl=True,
    republish=("jsnats.result.>", "jsnats.live.>"),
    readers=(*_read("jsnats.result.{name}.>", USER, SCHEDULER), (EXPORTER, "jsnats.result.{name}.{name}.>")),
)
CONSOLE = StreamSpec(
    "JSNATS_CONSOLE",
    "jsnats.console.>",
    0.25,
    14 * DAY,
    max_msgs_per_subject=1_000_000,
    republish=("jsnats.console.>", "jsnats.watch.>"),
    readers=(*_read("jsnats.console.>", *_ALL), (EXPORTER, "jsnats.console.{name}.>")),
)
LOGS = StreamSpec("JSNATS_LOGS", "jsnats.log.>", 0.045, 7 * DAY, readers=_read("jsnats.log.>", *_ALL))
EVENTS = StreamSpec("JSNATS_EVENTS", "jsnats.event.>", 0.03, 90 * DAY, readers=_read("jsnats.event.>", *_ALL))
BLOBS = StreamSpec(
    "JSNATS_BLOBS",
    "jsnats.blob.>",
    0.50,
    0,
    discard_new=True,
    max_msgs_per_subject=1,
    write_once=True,
    # The hash is the right to read a file, and a consumer would list all of them.
    readers=_read("jsnats.blob.>", USER, SCHEDULER, EXPORTER),
    direct=True,
    consumers=False,
)
TREE = StreamSpec(
    "KV_jsnats_tree",
    "$KV.jsnats_tree.>",
    0.005,
    0,
    max_msgs_per_subject=1,
    kv=True,
    readers=(*_read("$KV.jsnats_tree.>", *_ALL), (EXPORTER, "$KV.jsnats_tree.{name}")),
    direct=True,
)
INTERFACE = StreamSpec(
    "KV_jsnats_interface",
    "$KV.jsnats_interface.>",
    0.005,
    0,
    max_msgs_per_subject=1,
    kv=True,
    readers=_read("$KV.jsnats_interface.>", *_ALL, EXPORTER),
    direct=True,
)
PRESENCE = StreamSpec(
    "KV_jsnats_presence",
    "$KV.jsnats_presence.>",
    0.005,
    0,
    max_msgs_per_subject=1,
    kv=True,
    record_ttl=True,
    readers=(*_read("$KV.jsnats_presence.>", *_ALL), (EXPORTER, "$KV.jsnats_presence.{name}")),
    direct=True,
)
LAB = StreamSpec(
    "KV_jsnats_lab",
    "$KV.jsnats_lab.>",
    0.005,
    0,
    max_msgs_per_subject=1,
    kv=True,
    record_ttl=True,
    atomic=True,
    readers=(*_read("$KV.jsnats_lab.>", *_ALL), (EXPORTER, "$KV.jsnats_lab.lease.{name}")),
    direct=True,
)
STORE = StreamSpec("KV_jsnats_store", "$KV.jsnats_store.*", 0.005, 0, max_msgs_per_subject=1, kv=True, record_ttl=True)
"""What the store service knows about each file. A bucket of its own: only it may read the hashes, and however many
files there are, leases have room."""
STREAMS: tuple[StreamSpec, ...] = (TREE, INTERFACE, PRESENCE, LAB, STORE, RESULTS, EVENTS, LOGS, CONSOLE, BLOBS)
"""In the order they are created: the small ones that everything needs come first."""


def read_grants(role: str, name: str) -> list[str]:
    """JetStream API subjects that principal `name` in `role` may publish to, from the `readers` above."""
    subjects: list[str] = []
    for spec in STREAMS:
        filters = [pattern.format(name=name) for reader, pattern in spec.readers if reader == role]
        if filters and spec.consumers:
            subjects += [f"$JS.API.CONSUMER.CREATE.{spec.name}.*.{pattern}" for pattern in filters]
            subjects.append(f"$JS.API.CONSUMER.MSG.NEXT.{spec.name}.*")
        subjects += [f"$JS.API.DIRECT.GET.{spec.name}.{pattern}" for pattern in filters] if spec.direct else []
    return subjects
