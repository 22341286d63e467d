"""The shell or command that works with an exporter: its environment, its prompt, its end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsnats.schemas import ConfigurationError

KILL_S = 10.0
"""How long a command whose lease has ended may take to end after SIGTERM."""
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What the child process works with. `exporter` is the one that `j` talks to, `boards` all that `lease` has."""

    context: Path
    url: str
    exporter: str
    lease: str = ""
    boards: Sequence[str] = ()

    def environment(self) -> dict[str, str]:
        """Our environment with the lab in it, and `j` on the PATH."""
        beside = str(Path(sys.executable).parent)
        held = {"JSNATS_LEASE": self.lease, "JSNATS_BOARDS": ",".join(self.boards)} if self.lease else {}
        return (
            os.environ
            | held
            | {
                "JSNATS_CONTEXT": str(self.context),
                "JSNATS_URL": self.url,
                "JSNATS_EXPORTER": self.exporter,
                "PATH": f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            }
        )


async def until_signal(work: Coroutine[Any, Any, int]) -> int:
    """Run `work` and return its code; a signal cancels it, and the code is 128 + its number when it has cleaned up."""
    running = asyncio.ensure_future(work)
    caught: list[int] = []

    def stop(number: int) -> None:
        if not caught:  # a second Ctrl-C must not interrupt the clean-up
            running.cancel()
        caught.append(number)

    for number in _FORWARDED:
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return await running
    except asyncio.CancelledError:
        if not caught:
            raise
        return 128 + caught[0]


async def run_session(session: Session, command: Sequence[str], over: asyncio.Event | None = None) -> int:
    """Run `command`, or an interactive shell, to its end and return its exit code, 128 + N after signal N.

    Signals to us are passed on, and it is waited for. From its end on they have no effect: the caller cleans up. When
    `over` is set the command gets SIGTERM, and SIGKILL if that does not end it.
    Raises ConfigurationError for a command that cannot be run.
    """
    with _shell(session, command) as (words, extra):
        environment = session.environment() | extra
        program = shutil.which(words[0], path=environment["PATH"])
        if program is None:
            raise ConfigurationError(f"cannot run {words[0]!r}: there is no such program")
        try:
            child = await asyncio.create_subprocess_exec(program, *words[1:], env=environment)
        except OSError as error:
            raise ConfigurationError(f"cannot run {words[0]!r}: {error.strerror}") from error
        with _passing_signals(child):
            code = await _wait(child, over)
    _take_terminal()
    return code if code >= 0 else 128 - code


async def _wait(child: asyncio.subprocess.Process, over: asyncio.Event | None) -> int:
    ended = asyncio.ensure_future(child.wait())
    cut = asyncio.ensure_future(over.wait()) if over else None
    await asyncio.wait({ended, cut} if cut else {ended}, return_when=asyncio.FIRST_COMPLETED)
    for end in (child.terminate, child.kill):
        if not ended.done():
            with suppress(ProcessLookupError):
                end()
            await asyncio.wait({ended}, timeout=KILL_S)
    if cut:
        cut.cancel()
    return await ended


@contextmanager
def _passing_signals(child: asyncio.subprocess.Process) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def forward(number: signal.Signals) -> None:
        if number == signal.SIGINT and _in_foreground():
            return  # Ctrl-C went to the child as well
        with suppress(ProcessLookupError):
            child.send_signal(number)

    for number in _FORWARDED:
        loop.add_signal_handler(number, forward, number)
    try:
        yield
    finally:
        for number in _FORWARDED:
            loop.add_signal_handler(number, lambda: None)


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.__stdin__.fileno()) == os.getpgrp() if sys.__stdin__ else False
    except (OSError, ValueError):
        return False


def _take_terminal() -> None:
    """A shell that was killed does not give the terminal back."""
    if sys.stdin.isatty() and not _in_foreground():
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        with suppress(OSError):
            os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
        signal.signal(signal.SIGTTOU, before)


# ------------------------------------------------------------------ the prompt

_BASH = """\
[ -f ~/.bashrc ] && . ~/.bashrc
PS1="({name}) $PS1"
# What is offered is asked of the program at the first Tab: asking now would hold up the first prompt by a second.
_jsnats_first_tab() {{
    complete -r jsnats j
    eval "$(jsnats --show-completion bash)"
    eval "$(_J_COMPLETE=bash_source j)"
    return 124  # bash begins again, with what is set now
}}
complete -F _jsnats_first_tab jsnats j
"""
_ZSH = '[ -f "${{OLD_ZDOTDIR:-$HOME}}/.zshrc" ] && . "${{OLD_ZDOTDIR:-$HOME}}/.zshrc"\nPS1="({name}) $PS1"\n'
_FISH = "functions -c fish_prompt _jsnats_prompt; function fish_prompt; echo -n '({name}) '; _jsnats_prompt; end"


@contextmanager
def _shell(session: Session, command: Sequence[str]) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The words to run and what they need in the environment: a shell shows the exporter in its prompt."""
    if command:
        yield list(command), {}
        return
    shell = os.environ.get("SHELL") or "/bin/sh"
    with tempfile.TemporaryDirectory(prefix="jsnats-shell-") as folder:
        yield _prompted(shell, ",".join(session.boards) or session.exporter, Path(folder))


def _prompted(shell: str, name: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    kind = Path(shell).name
    if kind == "bash":
        (folder / "bashrc").write_text(_BASH.format(name=name))
        return [shell, "--rcfile", str(folder / "bashrc"), "-i"], {}
    if kind == "zsh":
        (folder / ".zshrc").write_text(_ZSH.format(name=name))
        return [shell, "-i"], {"ZDOTDIR": str(folder), "OLD_ZDOTDIR": os.environ.get("ZDOTDIR", "")}
    if kind == "fish":
        return [shell, "--init-command", _FISH.format(name=name)], {}
    return [shell, "-i"], {"PS1": f"({name}) $ "}
