"""OpenDAL's errors as those of Python, which arrive at the client as such, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_KINDS: tuple[tuple[str, type[Exception], str], ...] = (
    ("NotFound", FileNotFoundError, "there is no such file or directory"),
    ("PermissionDenied", PermissionError, "the storage does not permit that"),
    ("IsADirectory", IsADirectoryError, "is a directory"),
    ("NotADirectory", NotADirectoryError, "is no directory"),
    ("AlreadyExists", FileExistsError, "exists already"),
    ("Unsupported", NotImplementedError, "this storage cannot do that"),
)


@contextmanager
def mapped(path: str) -> Iterator[None]:
    """Raise the builtin for what OpenDAL raises about `path`."""
    try:
        yield
    except foreign() as error:
        for kind, builtin, text in _KINDS:
            if type(error).__name__ == kind:
                raise builtin(f"{path or '/'}: {text}") from error
        raise OSError(f"{path or '/'}: {reason(error)}") from error


@cache
def foreign() -> tuple[type[Exception], ...]:
    """Everything that OpenDAL raises; it is loaded with the first storage."""
    from opendal import exceptions

    found = vars(exceptions).values()
    return tuple(value for value in found if isinstance(value, type) and issubclass(value, Exception))


def reason(error: Exception) -> str:
    """The part of OpenDAL's many lines that says what is wrong."""
    first, *rest = str(error).strip().splitlines()
    after_source = rest[rest.index("Source:") + 1 :] if "Source:" in rest else []
    source = after_source[0].strip() if after_source else ""
    text = first.rpartition("=> ")[2]
    return f"{text}: {source}" if source else text
