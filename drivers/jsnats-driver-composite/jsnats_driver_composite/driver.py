"""A node that only has children."""

from jsnats.driver import Composite

__all__ = ["Composite"]
