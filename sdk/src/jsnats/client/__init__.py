"""Clients of drivers: the base class that a driver package's `client.py` extends, and the tree they form.

`_client.py` has the classes, `_channel.py` what they call through, `_tree.py` which class a node gets.
"""

from ._channel import Channel
from ._client import CompositeClient, DriverClient, DynamicClient
from ._tree import client_class, client_tree

__all__ = ["Channel", "CompositeClient", "DriverClient", "DynamicClient", "client_class", "client_tree"]
