"""The decorators under the import path that driver packages use."""

from ._export import export, exportstream

__all__ = ["export", "exportstream"]
