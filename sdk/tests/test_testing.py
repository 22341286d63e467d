"""Parts of the pytest plugin that need no broker, and `until`."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from jsnats.sdk import ConsoleRecord
from jsnats.testing import until, until_async
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


# ------------------------------------------------------------------ until


async def _until(fact: Callable[[], Any], *words: Any, **more: Any) -> Any:
    return until(fact, *words, **more)


async def _until_of_async(fact: Callable[[], Any], *words: Any, **more: Any) -> Any:
    async def asked() -> Any:
        await asyncio.sleep(0)
        return fact()

    return await until_async(asked, *words, **more)


every_until = pytest.mark.parametrize("wait", [_until, until_async, _until_of_async])


@every_until
async def test_until_returns_what_came_to_pass(wait: Any) -> None:
    """The first answer that is true, after those that are not and errors that are expected."""
    answers = count(1)

    def fact() -> str:
        number = next(answers)
        if number == 2:
            raise ConnectionRefusedError
        return f"at {number}" if number > 3 else ""

    assert await wait(fact, despite=ConnectionError) == "at 4"


@every_until
@pytest.mark.parametrize(("what", "said"), [([], ""), (["the board is up"], ": the board is up")])
async def test_until_says_what_did_not_come_to_pass(wait: Any, what: list[str], said: str) -> None:
    """And in what time."""
    words = re.escape(f"it did not come to pass within 0.05 s{said}")
    with pytest.raises(AssertionError, match=f"^{words}$") as caught:
        await wait(list, 0.05, *what)
    assert caught.value.__cause__ is None


@every_until
async def test_until_tells_the_error_that_was_there_to_the_end(wait: Any) -> None:
    """It is the cause; and an error that is not expected is raised as it is."""

    def fact() -> None:
        raise FileNotFoundError("no such file")

    with pytest.raises(AssertionError) as caught:
        await wait(fact, 0.05, despite=(FileNotFoundError, TimeoutError))
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        await wait(fact)


async def test_an_async_fact_is_cancelled_in_time() -> None:
    """One that hangs does not hold up the test; a TimeoutError of its own is its own, and a cancellation is none."""
    with pytest.raises(AssertionError, match="within 0.05 s"):
        await until_async(asyncio.Event().wait, 0.05)

    async def late() -> bool:
        raise TimeoutError("of the device")

    with pytest.raises(TimeoutError, match="of the device"):
        await until_async(late)
    waiting = asyncio.create_task(until_async(asyncio.Event().wait))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_until_needs_neither_pytest_nor_a_lab() -> None:
    """Whoever imports it imports no pytest, no SDK, no nats."""
    code = "import sys; from jsnats.testing import until; print({'pytest', 'nats', 'jsnats.sdk'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
