"""Parts of the pytest plugin that need no broker."""

from __future__ import annotations

import pytest

from jsnats.schemas import ConfigurationError, Selector
from jsnats.sdk import ConsoleRecord, ExporterInfo
from jsnats.testing._benches import choose
from jsnats.testing._since import Since, console_text, plain


def exporter(name: str, *, state: str = "available", holder: str = "", **labels: str) -> ExporterInfo:
    """One that is on line."""
    return ExporterInfo(name=name, labels=labels, online=True, state=state, holder=holder)


RACK = [
    exporter("a", holder="bob", board="rpi4"),
    exporter("b", state="stuck", board="rpi4"),
    exporter("c", holder="alice", board="rpi4"),
    exporter("d", board="rpi4"),
    ExporterInfo(name="e", labels={"board": "rpi3"}),
]


@pytest.mark.parametrize(("user", "chosen"), [("alice", "c"), ("bob", "a"), ("carol", "d")])
def test_the_first_free_exporter_is_chosen(user: str, chosen: str) -> None:
    """Free is what nobody holds, or the user himself."""
    assert choose(RACK, Selector.parse("board=rpi4"), user) == chosen


def test_why_none_is_free() -> None:
    """The error names each that was meant, with what is in the way."""
    with pytest.raises(ConfigurationError, match="a is held by bob, b is stuck, e is offline"):
        choose([*RACK[:2], RACK[4]], Selector.parse("board"), "carol")


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
