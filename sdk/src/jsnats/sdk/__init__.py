"""The client side: a connection to the broker, calls, streams of results, and the lab as a tree of clients.

`connect()` and `connect_async()` are the way in. The names below are loaded when they are first used, so that
`jsnats --help` does not pay for nats-py.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._bridge import shared_bridge
    from ._buckets import Conflict, Record, last_record, put_record
    from ._call import Options, encode_arguments
    from ._caller import Caller
    from ._connection import ApiError, Connection, Disconnected, NoResponders, Subscription, open_connection
    from ._context import DEFAULT_URL, Context, default_path, find_context
    from ._lab import AsyncLab, ExporterInfo, Job, Lab, connect, connect_async
    from ._nats import Message
    from ._replay import replay
    from ._results import AsyncResults, ResultStream
    from ._sync import drain

_WHERE = {
    "_buckets": ("Conflict", "Record", "last_record", "put_record"),
    "_bridge": ("shared_bridge",),
    "_call": ("Options", "encode_arguments"),
    "_caller": ("Caller",),
    "_connection": ("ApiError", "Connection", "Disconnected", "NoResponders", "Subscription", "open_connection"),
    "_context": ("DEFAULT_URL", "Context", "default_path", "find_context"),
    "_lab": ("AsyncLab", "ExporterInfo", "Job", "Lab", "connect", "connect_async"),
    "_nats": ("Message",),
    "_replay": ("replay",),
    "_results": ("AsyncResults", "ResultStream"),
    "_sync": ("drain",),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "DEFAULT_URL",
    "ApiError",
    "AsyncLab",
    "AsyncResults",
    "Caller",
    "Conflict",
    "Connection",
    "Context",
    "Disconnected",
    "ExporterInfo",
    "Job",
    "Lab",
    "Message",
    "NoResponders",
    "Options",
    "Record",
    "ResultStream",
    "Subscription",
    "connect",
    "connect_async",
    "default_path",
    "drain",
    "encode_arguments",
    "find_context",
    "last_record",
    "open_connection",
    "put_record",
    "replay",
    "shared_bridge",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULE[name]}", __name__), name)
    globals()[name] = value  # found without us from now on
    return value
