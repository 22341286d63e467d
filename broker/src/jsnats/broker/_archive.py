"""The file of a backup: a tar archive that any tar can list.

    lab.json                        what is in it; who may connect, settings, policy.yaml
    creds/<file>, leaf.json         context files, and what a site needs to reach its hub, if they were asked for
    buckets/<bucket>                its records, a line of JSON each
    streams/<stream>/stream.json    its definition and state
    streams/<stream>/00000001 ...   its snapshot, in the chunks in which JetStream sent it
    end.json                        the SHA-256 of all of the above: without it an archive is not whole

A size stands before each member of a tar archive and nobody knows that of a snapshot before it has come, so each chunk
is a member of its own. That way an archive can also go down a pipe.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from jsnats.schemas import ConfigurationError

FORMAT = 1
LAB, END, DEFINITION, LEAF = "lab.json", "end.json", "stream.json", "leaf.json"
MAX_MEMBER = 1 << 30
"""Bytes of one member: more is no archive of ours."""


class _Out:
    """Counts what is written: a pipe cannot say."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._done = 0

    def write(self, data: bytes) -> int:
        self._done += len(data)
        self._file.write(data)
        return len(data)

    def tell(self) -> int:
        return self._done


class Writer:
    """Writes an archive to `file`, which need not be a file on a disk. Blocks."""

    def __init__(self, file: BinaryIO) -> None:
        self._out = _Out(file)
        self._tar = tarfile.TarFile(fileobj=cast("BinaryIO", self._out), mode="w", format=tarfile.PAX_FORMAT)
        self._digest = hashlib.sha256()

    @property
    def size(self) -> int:
        """Bytes that were written."""
        return self._out.tell()

    def put(self, name: str, data: bytes) -> None:
        """Add a member."""
        _hash(self._digest, name, data)
        self._add(name, data)

    def finish(self) -> None:
        """Write the end, without which the archive is not whole."""
        self._add(END, json.dumps({"sha256": self._digest.hexdigest()}).encode())
        self._tar.close()

    def _add(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(data), 0o600, int(time.time())
        self._tar.addfile(info, io.BytesIO(data))


def read(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each member. Blocks. Raises ConfigurationError for what is no archive."""
    try:
        with tarfile.open(path, mode="r|") as tar:
            for info in tar:
                data = tar.extractfile(info) if info.isfile() and info.size <= MAX_MEMBER else None
                if data is None:
                    raise ConfigurationError(f"{path} is no backup of a lab: {info.name!r} does not belong there")
                yield info.name, data.read()
    except FileNotFoundError:
        raise ConfigurationError(f"there is no {path}") from None
    except tarfile.TarError as error:
        raise ConfigurationError(f"{path} is no backup of a lab, or is damaged: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive has: its lab.json, the definition and state of each stream, bytes of all members."""

    lab: dict[str, Any]
    streams: dict[str, dict[str, Any]]
    bytes: int


def check(path: Path) -> Contents:
    """Read all of an archive and say what is in it. Blocks.

    Raises ConfigurationError unless every byte is as it was written.
    """
    digest = hashlib.sha256()
    found: dict[str, bytes] = {}
    size = 0
    for name, data in read(path):
        if name == END:
            if json.loads(data).get("sha256") != digest.hexdigest():
                raise ConfigurationError(f"{path} is damaged: its content is not what was written")
            return _contents(path, found, size)
        _hash(digest, name, data)
        if name == LAB or name.endswith(f"/{DEFINITION}"):
            found[name] = data
        size += len(data)
    raise ConfigurationError(f"{path} is not whole: its end is missing")


def _contents(path: Path, found: dict[str, bytes], size: int) -> Contents:
    parsed = {name: json.loads(data) for name, data in found.items()}
    lab = parsed.pop(LAB, {})
    if lab.get("format") != FORMAT:
        raise ConfigurationError(
            f"{path} has format {lab.get('format')}, this jsnats reads {FORMAT}: use the version that made it"
        )
    return Contents(lab, {name.split("/")[1]: value for name, value in parsed.items()}, size)


def _hash(digest: Any, name: str, data: bytes) -> None:
    digest.update(f"{name}\n{len(data)}\n".encode())
    digest.update(data)
