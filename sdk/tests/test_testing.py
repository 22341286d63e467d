"""Parts of the pytest plugin that need no broker."""

from __future__ import annotations

import pytest

from jsnats.sdk import ConsoleRecord
from jsnats.testing._since import Since, console_text, plain


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        ("\x1b[1;31mred\x1b[0m \x1b]0;title\x07\x1b(Bplain\x1bM", "red plain"),
        ("boot in 3\b2\b1\b0\b\bxy", "boot inxy"),
        ("\bstart\n\bline", "\\x08start\n\\x08line"),
        ("\x00\x07 \tü", "\\x00\\x07 \tü"),
    ],
)
def test_plain(said: str, shown: str) -> None:
    """Colours go, backspaces rub out, other control characters show as their code."""
    assert plain(said) == shown


def test_console_text() -> None:
    """A character that lies across two records is one, also in text with markers."""
    records = [
        ConsoleRecord(sequence=1, offset=0, time=0.0, mark="power-on", text="an"),
        ConsoleRecord(sequence=2, offset=0, time=0.0, data=b"gr\xc3"),
        ConsoleRecord(sequence=3, offset=3, time=0.0, data=b"\xbcn \xff"),
        ConsoleRecord(sequence=4, offset=6, time=0.0, mark="mark", text="ö"),
    ]
    assert console_text(records) == "--- an ---\ngrün \ufffd\n--- ö ---\n"


def test_a_broker_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timeout has no words of its own; the section says what did not answer."""

    async def silence(since: Since) -> None:
        raise TimeoutError

    monkeypatch.setattr(Since, "_read", silence)
    since = Since.__new__(Since)
    since._exporter = "bench-1"
    assert since.sections() == [("exporter log bench-1", "not read: the broker does not answer")]
