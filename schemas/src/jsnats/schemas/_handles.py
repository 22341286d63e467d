"""Handles: text that stands for a file in the arguments and the results of calls.

    blob:<sha256>[?name=<name>]    a file in the lab's store
    http://..., https://...        a file that the exporter fetches itself

The schema of such an argument is a string with `"format": "jsnats-resource"`, so any client can tell that it may
upload a file and pass the handle. The name is for people, and for tools that go by a suffix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

from ._errors import InvalidArgument
from ._records import check_digest

RESOURCE_FORMAT: Final = "jsnats-resource"
"""`format` in the JSON Schema of an argument or a result that is a handle."""

_BLOB: Final = "blob:"
_URLS: Final = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class Handle:
    """A parsed handle: `sha256` of a file in the store, or the `url` of one that is elsewhere."""

    sha256: str = ""
    url: str = ""
    name: str = ""


def is_handle(text: str) -> bool:
    """Say whether a text is a handle, rather than the path of a local file."""
    return text.startswith((_BLOB, *_URLS))


def blob_handle(sha256: str, name: str = "") -> str:
    """The handle of a file in the store."""
    return f"{_BLOB}{sha256}?name={quote(name)}" if name else f"{_BLOB}{sha256}"


def parse_handle(text: str) -> Handle:
    """Take a handle apart. Raises InvalidArgument."""
    if text.startswith(_URLS):
        return Handle(url=text, name=urlsplit(text).path.rpartition("/")[2])
    if not text.startswith(_BLOB):
        raise InvalidArgument(f"{text[:80]!r} is no handle: upload the file, or give an http(s) URL")
    sha256, _, query = text.removeprefix(_BLOB).partition("?")
    return Handle(sha256=check_digest(sha256), name=parse_qs(query).get("name", [""])[-1])
