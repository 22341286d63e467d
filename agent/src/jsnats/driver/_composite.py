"""A node that only holds children."""

from __future__ import annotations

from ._driver import Driver


class Composite(Driver):
    """Groups drivers under one name; it has no methods of its own."""

    @classmethod
    def client(cls) -> str:
        return "jsnats.client.CompositeClient"
