"""`Composite` and `CompositeClient` of the core, under the import path of the driver guide.

The driver is imported when it is asked for, so that a client never loads the exporter's side.
"""

from typing import TYPE_CHECKING

from .client import CompositeClient

if TYPE_CHECKING:
    from .driver import Composite

__all__ = ["Composite", "CompositeClient"]


def __getattr__(name: str) -> object:
    if name == "Composite":
        from .driver import Composite

        return Composite
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
