"""Clients of drivers: the base class that a driver package's `client.py` extends, and the tree they form.

`_client.py` has the classes, `_channel.py` what they call through, `_tree.py` which class a node gets. `_console.py` is
the client of consoles, on `_dialogue.py` (sending and expecting), `_expect.py` (patterns), `_feed.py` and `_merge.py`
(the record of a console and an open session as one sequence of bytes). `_resources.py` has what clients do with files,
`_uploads.py` the files of a call.
What consoles need is loaded when it is first used: a command that calls a method has no use for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._channel import Channel
from ._client import CompositeClient, DriverClient, DynamicClient
from ._tree import client_class, client_tree
from ._uploads import Upload

if TYPE_CHECKING:
    from ._console import ConsoleClient
    from ._expect import ConsoleMatch, ConsoleTimeout

_LATER = {"ConsoleClient": "_console", "ConsoleMatch": "_expect", "ConsoleTimeout": "_expect"}

__all__ = [
    "Channel",
    "CompositeClient",
    "ConsoleClient",
    "ConsoleMatch",
    "ConsoleTimeout",
    "DriverClient",
    "DynamicClient",
    "Upload",
    "client_class",
    "client_tree",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = value
    return value
