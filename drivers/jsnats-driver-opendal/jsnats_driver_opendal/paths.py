"""Paths that a caller sends: kept below the root of the storage, whatever they say.

OpenDAL refuses `..` on a file system, since 0.47.12 only, and not in object stores and URLs. It does follow symbolic
links: one that leads out of the root would open everything behind it. So both are checked here.
"""

from __future__ import annotations

from pathlib import Path


def clean(path: str) -> str:
    """Return the path without `.` and doubled slashes, relative to the root; `""` is the root itself.

    A slash at the end, which makes it a directory, stays. Raises PermissionError for `..`.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path:
        raise PermissionError(f"{path!r} is not a path below the root")
    return "/".join(parts) + ("/" if parts and path.endswith("/") else "")


def check_inside(root: Path, path: str) -> None:
    """Raise PermissionError when a symbolic link on the way leads out of `root`."""
    try:
        inside = (root / path).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        inside = False
    if not inside:
        raise PermissionError(f"{path!r} leads out of the root by a symbolic link")
