"""Handles of files."""

from __future__ import annotations

import pytest

from jsnats.schemas import Handle, InvalidArgument, blob_handle, is_handle, parse_handle

SHA = "ab" * 32


@pytest.mark.parametrize(
    ("text", "handle"),
    [
        (f"blob:{SHA}", Handle(sha256=SHA)),
        (f"blob:{SHA}?name=a%20b.img&more=1", Handle(sha256=SHA, name="a b.img")),
        ("http://host/dir/a.img?x=1", Handle(url="http://host/dir/a.img?x=1", name="a.img")),
        ("https://host", Handle(url="https://host")),
    ],
)
def test_a_handle_is_a_blob_or_a_url(text: str, handle: Handle) -> None:
    """Hash or URL, and the name behind; unknown parameters are ignored."""
    assert is_handle(text)
    assert parse_handle(text) == handle


@pytest.mark.parametrize("name", ["", "image.img", "grün & gut=?#.img"])
def test_any_name_survives(name: str) -> None:
    """What blob_handle makes, parse_handle takes apart."""
    assert parse_handle(blob_handle(SHA, name)) == Handle(sha256=SHA, name=name)


@pytest.mark.parametrize("text", ["", "image.img", "/etc/passwd", "file:///etc/passwd", "ftp://host/x"])
def test_a_path_is_no_handle(text: str) -> None:
    """What is neither is refused, and not taken for a file of the exporter."""
    assert not is_handle(text)
    with pytest.raises(InvalidArgument, match="no handle"):
        parse_handle(text)


@pytest.mark.parametrize("digest", ["", "ab", "AB" * 32, "../" * 21 + "x", SHA + "0"])
def test_a_hash_is_sixty_four_hex_digits(digest: str) -> None:
    """Anything else could be a path, or part of a subject."""
    with pytest.raises(InvalidArgument, match="SHA-256"):
        parse_handle(f"blob:{digest}")
