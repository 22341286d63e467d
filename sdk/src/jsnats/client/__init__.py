"""Clients of drivers: the base class that a driver package's `client.py` extends, and the tree they form.

`_client.py` has the classes, `_channel.py` what they call through, `_tree.py` which class a node gets. `_console.py` is
the client of consoles, on `_dialogue.py` (sending and expecting), `_expect.py` (patterns), `_feed.py` and `_merge.py`
(the record of a console and an open session as one sequence of bytes). `_resources.py` uploads files for calls.
"""

from ._channel import Channel
from ._client import CompositeClient, DriverClient, DynamicClient
from ._console import ConsoleClient
from ._expect import ConsoleMatch, ConsoleTimeout
from ._resources import Upload
from ._tree import client_class, client_tree

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
