import asyncio
import os
import signal
import sys
from contextlib import aclosing
from typing import Any

import pytest

from .common import ShellPiece
from .process import AHEAD, LONGEST, Lines, Process, running


def fed(*chunks: bytes) -> list[str]:
    """Pieces that come of these reads, "END" last."""
    pieces: list[str] = []
    lines = Lines(pieces.append, lambda: pieces.append("END"))
    for chunk in chunks:
        lines.data_received(chunk)
    lines.connection_lost(None)
    return pieces


@pytest.mark.parametrize(
    ("chunks", "pieces"),
    [
        ((b"a\nb\n",), ["a\nb\n"]),
        ((b"a\nb", b"c\n"), ["a\n", "bc\n"]),
        ((b"no end",), ["no end"]),
        ((b"10%\r20", b"%\r"), ["10%\r", "20%\r"]),
        ((b"\xc3", b"\xa4\n"), ["\u00e4\n"]),
        ((b"\xff\n", b"\xc3"), ["\ufffd\n", "\ufffd"]),
        ((), []),
    ],
)
def test_pieces_end_with_a_line(chunks: tuple[bytes, ...], pieces: list[str]) -> None:
    """Lines are kept whole over reads, characters too, and bytes that are no UTF-8 are replaced."""
    assert fed(*chunks) == [*pieces, "END"]


def test_no_piece_is_too_long() -> None:
    """A line without an end is handed on at 64 Ki, a long read is cut."""
    assert [len(each) for each in fed(b"x" * LONGEST, b"y")] == [LONGEST, 1, 3]
    assert [len(each) for each in fed(b"x" * (2 * LONGEST + 5) + b"\n")] == [LONGEST, LONGEST, 6, 3]


async def test_a_reader_that_waits_makes_the_command_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that never stops writing fills a bounded queue, and all arrives in order when it is read."""
    text = "import os\nfor n in range(300_000): os.write(1, b'%d\\n' % n)"
    async with running([sys.executable, "-c", text], env={}, cwd=None, timeout_s=60) as process:
        await until_full(process, monkeypatch)
        assert process._queue.qsize() <= AHEAD + 1
        async with aclosing(process.pieces()) as pieces:
            said = "".join([piece.stdout async for piece in pieces])
    assert said.split() == [str(number) for number in range(300_000)]


async def until_full(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait until the pipe of stdout is paused."""
    paused, pipe = asyncio.Event(), process._pipes[0]
    pause = pipe.pause_reading

    def tell() -> None:
        pause()
        paused.set()

    monkeypatch.setattr(pipe, "pause_reading", tell)
    await paused.wait()


async def test_a_process_that_left_the_group_does_not_hold_up_a_timeout() -> None:
    """It still has the pipe open after the kill; the call ends all the same."""
    argv = ["bash", "-c", "setsid bash -c 'echo $$; exec sleep 1000' & wait"]
    async with (
        running(argv, env=dict(os.environ), cwd=None, timeout_s=3600) as process,
        aclosing(process.pieces()) as pieces,
    ):
        left = int((await anext(pieces)).stdout)
        process.expire()
        rest = [piece async for piece in pieces]
    os.kill(left, signal.SIGKILL)
    assert process.timed_out
    assert rest == []


async def test_a_group_of_another_user_is_left_and_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the kill is refused the call ends anyway, with one line in the log."""
    killed = []

    def refuse(group: int, number: int) -> None:
        killed.append(group)
        raise PermissionError

    async with running(["sleep", "1000"], env=dict(os.environ), cwd=None, timeout_s=3600) as process:
        with monkeypatch.context() as patch:
            patch.setattr(os, "killpg", refuse)
            await process.stop()
    assert killed
    assert "belongs to another user" in caplog.text


async def test_a_signal_is_a_return_code_of_the_shell() -> None:
    """A command that SIGTERM ended returns 128 + 15."""
    async with running(["bash", "-c", "kill $$"], env=dict(os.environ), cwd=None, timeout_s=60) as process:
        pieces = [piece async for piece in process.pieces()]
    assert pieces == [ShellPiece(returncode=143)]


async def said(argv: list[str], **options: Any) -> list[ShellPiece]:
    """All pieces of a command."""
    async with running(argv, env=dict(os.environ), cwd=None, timeout_s=60, **options) as process:
        return [piece async for piece in process.pieces()]


async def test_a_program_that_wants_a_terminal_has_one() -> None:
    """Its stderr is a terminal when that was asked for, its stdout never; what it says arrives to the end."""
    argv = ["bash", "-c", "[ -t 2 ]; a=$?; [ -t 1 ]; b=$?; echo $a$b >&2; echo out; exit 3"]
    assert "".join(piece.stderr for piece in await said(argv)) == "11\n"
    pieces = await said(argv, terminal=True)
    assert "".join(piece.stderr for piece in pieces) == "01\r\n"
    assert "".join(piece.stdout for piece in pieces) == "out\n"
    assert pieces[-1].returncode == 3


async def test_a_command_is_asked_before_it_is_killed() -> None:
    """terminate() lets it do what it does at SIGTERM; one that ignores that is killed at the end of the block."""
    for trap, expected in (("echo bye; exit 5", 5), ("", None)):
        argv = ["bash", "-c", f"trap '{trap}' TERM; echo ready; while :; do sleep 0.01; done"]
        async with (
            running(argv, env=dict(os.environ), cwd=None, timeout_s=None) as process,
            aclosing(process.pieces()) as pieces,
        ):
            assert await anext(pieces) == ShellPiece(stdout="ready\n")
            await process.terminate(20 if trap else 0.1)
            assert process._process
            assert process._process.returncode == expected
        assert process._process.returncode in (5, -signal.SIGKILL)
