"""`cache:` and `fetch:` of exporter.yaml: where fetched files are kept, and from which hosts URLs are fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ._cache import DEFAULT_BYTES
from ._config_nodes import unknown_key_faults
from ._config_yaml import Document
from ._fetch import check_entry
from ._resources import FileSettings

_CACHE_KEYS: Final = ["dir", "max_bytes"]


def file_settings(document: Document) -> FileSettings:
    """Read both; what is wrong becomes a fault of the document."""
    cache = document.value.get("cache")
    if cache is not None and not isinstance(cache, dict):
        document.fault(("cache",), "must be a map with dir and max_bytes")
    cache = cache if isinstance(cache, dict) else {}
    unknown_key_faults(document, ("cache",), cache, _CACHE_KEYS)
    return FileSettings(
        cache=_directory(document, cache.get("dir")),
        max_bytes=_max_bytes(document, cache.get("max_bytes", DEFAULT_BYTES)),
        fetch=_hosts(document),
    )


def _directory(document: Document, value: Any) -> Path | None:
    if value is None or (isinstance(value, str) and value):
        return document.source.parent / Path(value).expanduser() if value else None
    document.fault(("cache", "dir"), "must be text: a directory")
    return None


def _max_bytes(document: Document, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    document.fault(("cache", "max_bytes"), "must be a number of bytes, such as 10_000_000_000, or 0 to keep none")
    return DEFAULT_BYTES


def _hosts(document: Document) -> tuple[str, ...]:
    value = document.value.get("fetch")
    if value is None:
        return ()
    if not isinstance(value, list):
        document.fault(("fetch",), "must be a list of hosts")
        return ()
    return tuple(filter(None, (_host(document, index, each) for index, each in enumerate(value))))


def _host(document: Document, index: int, value: Any) -> str:
    try:
        return check_entry(value if isinstance(value, str) else "")
    except ValueError as error:
        document.fault(("fetch", index), str(error))
        return ""
