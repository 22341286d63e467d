"""What is told of a transfer."""

from __future__ import annotations

import pytest

from jsnats.sdk.cli._progress import Uploaded


def told(*done: int, total: int = 30_000_000) -> list[dict[str, object]]:
    """The messages of one upload."""
    return [{"done": each, "total": total, "message": "uploading img.xz"} for each in done]


WRITING = {"done": 5, "total": 9, "message": "writing"}


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        (told(0, 10_000_000, 30_000_000, 30_000_000), "30.0 MB in 2.0 s (15.0 MB/s), 30.0 MB uploaded"),
        (told(30_000_000), "30.0 MB in 2.0 s (15.0 MB/s), already there, nothing uploaded"),
        (told(20_000_000, 30_000_000), "30.0 MB in 2.0 s (15.0 MB/s), 10.0 MB uploaded"),
        ([*told(30_000_000), WRITING, *told(0, 30_000_000)], "30.0 MB in 2.0 s (15.0 MB/s), 30.0 MB uploaded"),
        (told(0, total=0), "0 B in 2.0 s (0 B/s), already there, nothing uploaded"),
        ([WRITING, {"elapsed": 5.0}], "in 2.0 s"),
    ],
    ids=["new", "there", "resumed", "damaged", "empty", "url"],
)
def test_what_was_uploaded(messages: list[dict[str, object]], text: str) -> None:
    """The bytes that were sent, be it a part, or after the store's copy was found damaged; no progress of a driver."""
    uploaded = Uploaded()
    for each in messages:
        uploaded(each)
    assert uploaded.text(2.0) == text
