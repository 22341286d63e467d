"""The client of a node with children: attributes are its children."""

from jsnats.client import CompositeClient

__all__ = ["CompositeClient"]
