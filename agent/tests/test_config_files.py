"""`cache:` and `fetch:` of exporter.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from jsnats.agent import load
from jsnats.agent._agent import hosted
from jsnats.agent._cache import DEFAULT_BYTES, default_directory
from jsnats.agent._resources import FileSettings
from jsnats.schemas import ConfigurationError
from jsnats.sdk import Context

NODES = "export: {dut: {children: {}}}\n"


def settings(tmp_path: Path, text: str) -> FileSettings:
    """What a file with `text` in it says."""
    path = tmp_path / "exporter.yaml"
    path.write_text(text + NODES)
    (loaded,) = load([path])
    assert (
        hosted(loaded, Context(url="nats://x", name=loaded.name, role="exporter"), "if-held").spec.files == loaded.files
    )
    return loaded.files


def test_both_are_read(tmp_path: Path) -> None:
    """A directory relative to the file, bytes with underscores, hosts in lower case."""
    text = "cache: {dir: blobs, max_bytes: 20_000_000}\nfetch: [Images.example.com, '*.lab:8080', '[::1]']\n"
    assert settings(tmp_path, text) == FileSettings(
        cache=tmp_path / "blobs", max_bytes=20_000_000, fetch=("images.example.com", "*.lab:8080", "[::1]")
    )


def test_neither_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's cache directory, 10 GB, and no host."""
    assert settings(tmp_path, "") == FileSettings(cache=None, max_bytes=DEFAULT_BYTES, fetch=())
    assert settings(tmp_path, "cache: {max_bytes: 0}\nfetch: []\n").max_bytes == 0
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "jsnats" / "blobs"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("cache: here\n", "exporter.yaml:1: cache: must be a map with dir and max_bytes"),
        ("cache:\n  size: 3\n", "exporter.yaml:2: cache.size: unknown key; known are dir, max_bytes"),
        ("cache:\n  dir: 3\n", "exporter.yaml:2: cache.dir: must be text: a directory"),
        ("cache:\n  max_bytes: 10 GB\n", "exporter.yaml:2: cache.max_bytes: must be a number of bytes"),
        ("cache:\n  max_bytes: -1\n", "exporter.yaml:2: cache.max_bytes: must be a number of bytes"),
        ("fetch: host\n", "exporter.yaml:1: fetch: must be a list of hosts"),
        ("fetch:\n- ok\n- https://host/\n", "exporter.yaml:3: fetch.1: must be a host such as"),
        ("fetch:\n- {a: b}\n", "exporter.yaml:2: fetch.0: must be a host such as"),
    ],
)
def test_each_fault_is_told_by_line(tmp_path: Path, text: str, fault: str) -> None:
    """With what would be right."""
    with pytest.raises(ConfigurationError) as caught:
        settings(tmp_path, text)
    assert [line for line in caught.value.faults if fault in line], caught.value.faults
