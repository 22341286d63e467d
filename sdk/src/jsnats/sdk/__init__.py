"""The client side: a connection to the broker, calls, streams of results, and the lab as a tree of clients.

`connect()` and `connect_async()` are the way in. From there down:

    _lab.py, _lab_sync.py       the lab, for asyncio and without; _snapshot.py is all of it at one moment
    _call.py, _caller.py        a call, and what calls share; _job.py one without its caller; _claim.py the right to it
    _results.py, _assemble.py, _sync.py    the results of a generator, in order, for sync code too
    _duplex.py, _pipe.py        a two-way byte stream
    _lease.py                   a lease: _lease_wanted.py, _lease_wait.py, _lease_hold.py, _lease_sync.py are its parts,
                                _lease_desk.py asks the scheduler
    _blobs.py, _blobs_sync.py   the store of files: _blob_source.py and _blob_offer.py upload, _blob_store.py asks the
                                service; _chunks.py, _numbered.py, _behind.py, _transfer.py move the bytes
    _console.py                 reading a console, with _console_live.py, _console_record.py, _console_start.py
    _events.py, _logs.py        what the lab tells; _stored.py reads both, from a moment of _since.py on
    _mirror.py, _buckets.py     records: all of a bucket, or single ones
    _follow.py, _replay.py, _consumer.py   what a stream has stored, with what comes or without
    _connection.py              what is said over a connection; _lasting.py keeps it alive, _replies.py sorts the
                                answers, _cluster.py is for several servers, _broker_errors.py what they refuse
    _bulk.py                    a second connection, for bytes in masses
    _nats.py                    nats-py's client, mended
    _context.py                 where the broker is and who we are there
    _bridge.py, _iterate.py     the thread behind sync code
    _leash.py, _supervised.py   processes: those we start, and systemd
    _duration.py, _moment.py    times as people write them
    cli/                        the commands

The names below are loaded when they are first used, so that `jsnats --help` does not pay for nats-py.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._blob_offer import Offer
    from ._blob_store import BlobInfo
    from ._blobs import Blobs, FoundBlob, size_text
    from ._blobs_sync import BlockingBlobs
    from ._bridge import shared_bridge
    from ._broker_errors import ApiError, Disconnected, NoResponders
    from ._buckets import Conflict, Record, Write, last_record, leader_record, put_record, put_records
    from ._bulk import Bulk
    from ._call import Options, encode_arguments
    from ._caller import Caller
    from ._chunks import read_blob
    from ._claim import BOARDS, LEASE, Claim
    from ._connection import Connection, open_connection
    from ._console import ConsoleReader
    from ._console_record import ConsoleRecord, parse_record
    from ._console_start import Start
    from ._context import DEFAULT_URL, Context, default_path, find_context, write_secret
    from ._duplex import BlockingStream, DuplexStream, StreamReset
    from ._duration import duration_text, parse_duration
    from ._events import StoredEvent, store_event
    from ._follow import Delivered, follow
    from ._job import Job
    from ._lab import AsyncLab, connect_async
    from ._lab_sync import Lab, connect
    from ._lasting import Subscription
    from ._lease import AsyncLease
    from ._lease_desk import LeaseDesk
    from ._lease_sync import Lease
    from ._lease_wanted import SCRIPT_S, SHELL_S, Wanted, wanted
    from ._leash import leashed
    from ._logs import read_logs
    from ._mirror import Mirror, mirrored
    from ._moment import Duration, moment_of, seconds_of, signed_seconds
    from ._nats import Message
    from ._pipe import Messages, Pipe, Taker, chunks, deliver
    from ._replay import last_sequence, replay
    from ._results import AsyncResults, ResultStream
    from ._since import Since
    from ._snapshot import ExporterInfo, LeaseInfo, Snapshot, WaitInfo
    from ._supervised import supervised
    from ._sync import drain

_WHERE = {
    "_blob_offer": ("Offer",),
    "_blob_store": ("BlobInfo",),
    "_blobs": ("Blobs", "FoundBlob", "size_text"),
    "_blobs_sync": ("BlockingBlobs",),
    "_chunks": ("read_blob",),
    "_buckets": ("Conflict", "Record", "Write", "last_record", "leader_record", "put_record", "put_records"),
    "_events": ("StoredEvent", "store_event"),
    "_follow": ("Delivered", "follow"),
    "_leash": ("leashed",),
    "_mirror": ("Mirror", "mirrored"),
    "_supervised": ("supervised",),
    "_bulk": ("Bulk",),
    "_bridge": ("shared_bridge",),
    "_call": ("Options", "encode_arguments"),
    "_caller": ("Caller",),
    "_claim": ("BOARDS", "LEASE", "Claim"),
    "_broker_errors": ("ApiError", "Disconnected", "NoResponders"),
    "_connection": ("Connection", "open_connection"),
    "_lasting": ("Subscription",),
    "_console": ("ConsoleReader",),
    "_console_record": ("ConsoleRecord", "parse_record"),
    "_console_start": ("Start",),
    "_context": ("DEFAULT_URL", "Context", "default_path", "find_context", "write_secret"),
    "_duration": ("duration_text", "parse_duration"),
    "_duplex": ("BlockingStream", "DuplexStream", "StreamReset"),
    "_moment": ("Duration", "moment_of", "seconds_of", "signed_seconds"),
    "_job": ("Job",),
    "_lab": ("AsyncLab", "connect_async"),
    "_lab_sync": ("Lab", "connect"),
    "_lease": ("AsyncLease",),
    "_lease_desk": ("LeaseDesk",),
    "_lease_sync": ("Lease",),
    "_lease_wanted": ("SCRIPT_S", "SHELL_S", "Wanted", "wanted"),
    "_snapshot": ("ExporterInfo", "LeaseInfo", "Snapshot", "WaitInfo"),
    "_logs": ("read_logs",),
    "_nats": ("Message",),
    "_pipe": ("Messages", "Pipe", "Taker", "chunks", "deliver"),
    "_replay": ("last_sequence", "replay"),
    "_results": ("AsyncResults", "ResultStream"),
    "_since": ("Since",),
    "_sync": ("drain",),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "BOARDS",
    "DEFAULT_URL",
    "LEASE",
    "SCRIPT_S",
    "SHELL_S",
    "ApiError",
    "AsyncLab",
    "AsyncLease",
    "AsyncResults",
    "BlobInfo",
    "Blobs",
    "BlockingBlobs",
    "BlockingStream",
    "Bulk",
    "Caller",
    "Claim",
    "Conflict",
    "Connection",
    "ConsoleReader",
    "ConsoleRecord",
    "Context",
    "Delivered",
    "Disconnected",
    "DuplexStream",
    "Duration",
    "ExporterInfo",
    "FoundBlob",
    "Job",
    "Lab",
    "Lease",
    "LeaseDesk",
    "LeaseInfo",
    "Message",
    "Messages",
    "Mirror",
    "NoResponders",
    "Offer",
    "Options",
    "Pipe",
    "Record",
    "ResultStream",
    "Since",
    "Snapshot",
    "Start",
    "StoredEvent",
    "StreamReset",
    "Subscription",
    "Taker",
    "WaitInfo",
    "Wanted",
    "Write",
    "chunks",
    "connect",
    "connect_async",
    "default_path",
    "deliver",
    "drain",
    "duration_text",
    "encode_arguments",
    "find_context",
    "follow",
    "last_record",
    "last_sequence",
    "leader_record",
    "leashed",
    "mirrored",
    "moment_of",
    "open_connection",
    "parse_duration",
    "parse_record",
    "put_record",
    "put_records",
    "read_blob",
    "read_logs",
    "replay",
    "seconds_of",
    "shared_bridge",
    "signed_seconds",
    "size_text",
    "store_event",
    "supervised",
    "wanted",
    "write_secret",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULE[name]}", __name__), name)
    globals()[name] = value  # found without us from now on
    return value
