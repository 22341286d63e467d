"""The user's side: a board is a composite, and each of its parts has the client of its kind.

So a client needs `jsnats-driver-power`, `-pyserial`, `-opendal` and `-network`, and nothing of this package.
"""

from jsnats.client import CompositeClient

__all__ = ["CompositeClient"]
