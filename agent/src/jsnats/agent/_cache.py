"""Files that were fetched, kept by their SHA-256: an image that is flashed twice is fetched once.

One directory, which the agents of a host may share:

    <sha256>        a whole file, as it is in the store; its time of change says when it was used last
    .part-<random>  one that is being written: it gets its name in one step when it is whole
    .use-<random>/  what a tool reads now; a hard link where that is possible, so that it outlives its removal

Everything here blocks and is called in a thread. No lock: whatever two agents do at once, a name always stands for a
whole file, and an open one can be read to its end.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

log = logging.getLogger("jsnats.agent")

DEFAULT_BYTES: Final = 10_000_000_000
STALE_S: Final = 86400.0
"""What an agent that was killed has left is removed after so long."""

_ENTRY = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT)


def default_directory() -> Path:
    """The cache directory of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jsnats" / "blobs"


class _Found(NamedTuple):
    used_ns: int
    size: int
    path: Path


class Cache:
    """The cache in `directory`, which is made when it is first written to. It holds `max_bytes` at most, 0 for none;
    what was used least recently makes room."""

    def __init__(self, directory: Path, max_bytes: int = DEFAULT_BYTES) -> None:
        self.directory = directory
        self.max_bytes = max_bytes

    def open(self, sha256: str) -> BinaryIO | None:
        """The file with that hash, open; None if it is not here. It counts as used now."""
        path = self._path(sha256)
        try:
            file = path.open("rb")
            with suppress(OSError):  # another user's
                os.utime(file.fileno())
        except OSError:
            return None
        return file

    def begin(self, sha256: str, size: int) -> Filling | None:
        """Make room for a file of `size` bytes and begin to write it; None if it would not fit. Raises OSError."""
        if not self._make_room(size):
            return None
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Filling(self, sha256, size)

    def drop(self, sha256: str) -> None:
        """Remove a file that is not what its name says."""
        with suppress(FileNotFoundError):
            self._path(sha256).unlink()

    def link(self, sha256: str, path: Path) -> bool:
        """Make the file appear under another name as well. False if it is not here."""
        try:
            os.link(self._path(sha256), path)
        except OSError:
            return False
        return True

    def adopt(self, path: Path, sha256: str) -> None:
        """Take a whole file in, by moving it; leave it where it is if it does not fit."""
        with suppress(OSError):
            if self._make_room(path.stat().st_size):
                path.chmod(0o400)
                path.replace(self._path(sha256))

    def workspace(self) -> Path:
        """A new directory for a tool to read from; whoever asked removes it. Raises OSError."""
        folder = self.directory / f".use-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700, parents=True)
        return folder

    def write(self, file: FileIO, pieces: Iterable[bytes]) -> None:
        """Write to a file of this directory. On a full disk older files make room; OSError when that does not help."""
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[self._write_some(file, view) :]

    def _write_some(self, file: FileIO, view: memoryview) -> int:
        while True:
            try:
                return file.write(view)
            except OSError as error:
                if error.errno not in _FULL or not self.evict_one():
                    raise

    def evict_one(self) -> bool:
        """Remove what was used least recently; False if there is nothing."""
        entries = sorted(each for each in self._files() if _ENTRY.fullmatch(each.path.name))
        if not entries:
            return False
        log.info("cache %s: %s makes room", self.directory, entries[0].path.name[:12])
        with suppress(FileNotFoundError):
            entries[0].path.unlink()
        return True

    def _path(self, sha256: str) -> Path:
        return self.directory / sha256

    def _make_room(self, size: int) -> bool:
        self._remove_stale()
        fixed = sum(each.size for each in self._files() if not _ENTRY.fullmatch(each.path.name))
        if fixed + size > self.max_bytes:
            return False
        while sum(each.size for each in self._files()) + size > self.max_bytes:
            if not self.evict_one():
                return False
        return True

    def _files(self) -> Iterator[_Found]:
        with suppress(FileNotFoundError):
            for path in self.directory.iterdir():
                with suppress(FileNotFoundError):
                    found = path.stat()
                    if path.is_file():
                        yield _Found(found.st_mtime_ns, found.st_size, path)

    def _remove_stale(self) -> None:
        for pattern in (".part-*", ".use-*"):
            for path in self.directory.glob(pattern):
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > STALE_S:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()


class Filling:
    """A file on its way into the cache."""

    def __init__(self, cache: Cache, sha256: str, size: int) -> None:
        self._cache = cache
        self._target = cache.directory / sha256
        self._path = cache.directory / f".part-{secrets.token_hex(8)}"
        self._file = self._path.open("xb", buffering=0)
        self._file.truncate(size)  # without blocks: other agents see how much room is taken

    def write(self, pieces: Iterable[bytes]) -> None:
        """Write what comes next. Raises OSError."""
        self._cache.write(self._file, pieces)

    def commit(self) -> None:
        """It is whole: give it its name. Raises OSError."""
        self._file.close()
        self._path.chmod(0o400)
        self._path.replace(self._target)

    def discard(self) -> None:
        """Remove it, if it was not committed."""
        self._file.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def writing_to(directory: Path) -> Iterator[None]:
    """Say in an OSError of the file system which directory it is about."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not of the file system
            raise
        raise OSError(f"cannot write to the cache directory {directory}: {error.strerror}") from error


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
