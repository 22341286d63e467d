"""The agent's cache of files."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jsnats.agent._cache import STALE_S, Cache


def keep(cache: Cache, data: bytes) -> str:
    """Put `data` into the cache, as the newest; return its hash."""
    sha256 = hashlib.sha256(data).hexdigest()
    filling = cache.begin(sha256, len(data))
    assert filling
    filling.write([data[:3], data[3:]])
    filling.commit()
    return sha256


def age(cache: Cache, sha256: str, seconds: float) -> None:
    """Let it look as if it was used so long ago."""
    then = time.time() - seconds
    os.utime(cache.directory / sha256, (then, then))


def names(cache: Cache) -> set[str]:
    """What is in the directory."""
    return set(os.listdir(cache.directory))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a disk of 4 MiB."""
    target = tmp_path / "disk"
    target.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(target)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small disk here: needs root")
    yield target
    subprocess.run(["umount", "-l", str(target)], check=True)


def test_what_was_kept_is_found(tmp_path: Path) -> None:
    """By its hash; the directory is made, and only for this user."""
    cache = Cache(tmp_path / "a" / "b")
    assert cache.open("0" * 64) is None
    sha256 = keep(cache, b"an image")
    with cache.open(sha256) as file:  # type: ignore[union-attr]
        assert file.read() == b"an image"
    assert cache.directory.stat().st_mode & 0o777 == 0o700


def test_the_least_recently_used_makes_room(tmp_path: Path) -> None:
    """Opening counts as use."""
    cache = Cache(tmp_path, max_bytes=30)
    first, second, third = (keep(cache, bytes([each]) * 10) for each in range(3))
    for back, each in enumerate((third, second, first)):
        age(cache, each, 100 + back)
    cache.open(first).close()  # type: ignore[union-attr]
    fourth = keep(cache, b"x" * 10)
    assert names(cache) == {first, third, fourth}


def test_what_is_larger_than_the_cache_pushes_nothing_out(tmp_path: Path) -> None:
    """Nor does what is being written count for less than its size."""
    cache = Cache(tmp_path, max_bytes=30)
    kept = keep(cache, b"x" * 10)
    assert cache.begin("0" * 64, 31) is None
    filling = cache.begin("1" * 64, 15)
    assert filling
    assert cache.begin("2" * 64, 16) is None
    filling.discard()
    assert names(cache) == {kept}
    assert Cache(tmp_path / "off", max_bytes=0).begin("0" * 64, 1) is None


def test_half_a_file_has_no_name(tmp_path: Path) -> None:
    """Until it is committed nobody finds it, and discarded it leaves nothing."""
    cache = Cache(tmp_path)
    filling = cache.begin("0" * 64, 8)
    assert filling
    filling.write([b"half"])
    assert cache.open("0" * 64) is None
    filling.discard()
    assert names(cache) == set()


def test_two_that_keep_the_same_file_do_not_meet(tmp_path: Path) -> None:
    """Two agents with one directory: the file stays whole, whoever is first."""
    one, other = Cache(tmp_path), Cache(tmp_path)
    sha256 = hashlib.sha256(b"abcdef").hexdigest()
    fillings = [one.begin(sha256, 6), other.begin(sha256, 6)]
    for part in (b"abc", b"def"):
        for filling in fillings:
            assert filling
            filling.write([part])
    for filling in fillings:
        assert filling
        filling.commit()
    with one.open(sha256) as file:  # type: ignore[union-attr]
        assert file.read() == b"abcdef"
    assert names(one) == {sha256}


def test_a_linked_file_outlives_its_removal(tmp_path: Path) -> None:
    """A tool that reads a path is not disturbed when the file makes room."""
    cache = Cache(tmp_path)
    sha256 = keep(cache, b"in use")
    path = cache.workspace() / "image.bin"
    assert cache.link(sha256, path)
    assert cache.evict_one()
    assert path.read_bytes() == b"in use"
    assert not cache.link(sha256, path.with_name("again"))


def test_what_a_killed_agent_left_goes_after_a_day(tmp_path: Path) -> None:
    """Parts and workspaces, and only old ones."""
    cache = Cache(tmp_path)
    old = time.time() - STALE_S - 1
    for name in (".part-old", ".part-new"):
        (tmp_path / name).write_bytes(b"x")
    for name in (".use-old", ".use-new"):
        (tmp_path / name).mkdir()
    (tmp_path / ".use-old" / "image").write_bytes(b"x")
    for name in (".part-old", ".use-old"):
        os.utime(tmp_path / name, (old, old))
    keep(cache, b"x")
    assert {".part-new", ".use-new"} < names(cache)
    assert not {".part-old", ".use-old"} & names(cache)


def test_on_a_full_disk_older_files_make_room(small_disk: Path) -> None:
    """The disk is smaller than the limit: the cache gives up its oldest, and only then the new file."""
    cache = Cache(small_disk)
    first = keep(cache, b"a" * (2 << 20))
    second = keep(cache, b"b" * (3 << 20))
    assert names(cache) == {second}
    filling = cache.begin("0" * 64, 5 << 20)
    assert filling
    with pytest.raises(OSError, match="No space left"):
        filling.write([bytes(5 << 20)])
    filling.discard()
    assert names(cache) == set()
    assert cache.open(first) is None
