"""OpenDAL's errors as those of Python, which arrive at the client as such, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opendal import exceptions as foreign

_KINDS: tuple[tuple[type[Exception], type[Exception], str], ...] = (
    (foreign.NotFound, FileNotFoundError, "there is no such file or directory"),
    (foreign.PermissionDenied, PermissionError, "the storage does not permit that"),
    (foreign.IsADirectory, IsADirectoryError, "is a directory"),
    (foreign.NotADirectory, NotADirectoryError, "is no directory"),
    (foreign.AlreadyExists, FileExistsError, "exists already"),
    (foreign.Unsupported, NotImplementedError, "this storage cannot do that"),
)

FOREIGN = tuple(value for value in vars(foreign).values() if isinstance(value, type) and issubclass(value, Exception))
"""Everything that OpenDAL raises."""


@contextmanager
def mapped(path: str) -> Iterator[None]:
    """Raise the builtin for what OpenDAL raises about `path`."""
    try:
        yield
    except FOREIGN as error:
        for kind, builtin, text in _KINDS:
            if isinstance(error, kind):
                raise builtin(f"{path or '/'}: {text}") from error
        raise OSError(f"{path or '/'}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """The part of OpenDAL's many lines that says what is wrong."""
    first, *rest = str(error).strip().splitlines()
    after_source = rest[rest.index("Source:") + 1 :] if "Source:" in rest else []
    source = after_source[0].strip() if after_source else ""
    text = first.rpartition("=> ")[2]
    return f"{text}: {source}" if source else text
