import os
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
from pydantic import ValidationError

import jsnats_driver_shell
from jsnats.agent import load
from jsnats_driver_shell.common import ShellMethod, ShellPiece
from jsnats_driver_shell.driver import Command, Shell


async def said(shell: Shell, method: str, *args: str, env: dict[str, str] | None = None) -> tuple[str, str, int | None]:
    """Output and return code of a command."""
    pieces = [piece async for piece in shell.call_method(method, env or {}, *args)]
    return "".join(each.stdout for each in pieces), "".join(each.stderr for each in pieces), pieces[-1].returncode


async def test_output_of_both_streams_and_the_code():
    """stdout and stderr stay apart, and the return code comes last."""
    shell = Shell(methods={"both": "echo out; echo err >&2; exit 3"})
    assert await said(shell, "both") == ("out\n", "err\n", 3)


async def test_arguments_are_never_part_of_the_text():
    """An argument that looks like code arrives as `$1`, letter by letter."""
    shell = Shell(methods={"show": 'printf "%s|" "$0" "$@"'})
    nasty = "$(echo run); `echo run` '\"\n;exit 7"
    assert await said(shell, "show", nasty, "", "-n") == (f"show|{nasty}||-n|", "", 0)


async def test_environment_of_a_command(monkeypatch):
    """A caller's variable arrives, the agent's broker does not."""
    monkeypatch.setenv("JSNATS_CONTEXT", "secret")
    shell = Shell(methods={"show": 'echo "$COLOUR${JSNATS_CONTEXT-gone}"'})
    assert (await said(shell, "show", env={"COLOUR": "red"}))[0] == "redgone\n"


async def test_a_blocked_variable_runs_nothing(tmp_path):
    """The refusal comes before the command is started."""
    shell = Shell(methods={"touch": f"touch {tmp_path}/ran"})
    with pytest.raises(ValueError, match="LD_PRELOAD may not be set"):
        await said(shell, "touch", env={"LD_PRELOAD": "x.so"})
    assert not (tmp_path / "ran").exists()


async def test_a_nul_in_an_argument_is_refused():
    """The message says which argument."""
    with pytest.raises(ValueError, match="argument 2 has a NUL"):
        await said(Shell(methods={"show": "echo"}), "show", "a", "b\0")


async def test_an_unknown_command_names_those_that_are():
    """Only what is declared runs."""
    with pytest.raises(ValueError, match="no command 'rm' is declared: there is ls, df"):
        await said(Shell(methods={"ls": "ls", "df": "df"}), "rm")


async def test_a_shell_that_is_not_there_is_an_oserror():
    """The message has the name of the program."""
    with pytest.raises(OSError, match="no-such-shell"):
        await said(Shell(methods={"ls": "ls"}, shell=["no-such-shell"]), "ls")


async def test_another_interpreter_and_directory(tmp_path):
    """`shell` may be any program that takes the text as its last option; `cwd` is where it starts."""
    shell = Shell(
        methods={"where": "import os, sys; print(os.getcwd(), sys.argv[2])"},
        shell=[sys.executable, "-c"],
        cwd=str(tmp_path),
    )
    assert await said(shell, "where", "x") == (f"{tmp_path} x\n", "", 0)


async def test_a_timeout_kills_the_whole_group(fifo):
    """After its timeout a command and its background processes are dead, and what it said has arrived."""
    text = f"exec 9>{fifo.path}; echo begun; sleep 1000 & wait"
    shell = Shell(methods={"hang": Command(command=text, timeout=0.3)})
    async with aclosing(shell.call_method("hang", {})) as pieces:
        assert await anext(pieces) == ShellPiece(stdout="begun\n")
        with pytest.raises(TimeoutError, match="'hang' did not end within 0.3 s"):
            await anext(pieces)
    assert fifo.closed_by_all_writers()


async def test_a_caller_that_stops_kills_the_whole_group(fifo):
    """Closing the generator ends the command and its background processes."""
    shell = Shell(methods={"hang": f"exec 9>{fifo.path}; echo begun; sleep 1000 & wait"})
    async with aclosing(shell.call_method("hang", {})) as pieces:
        assert await anext(pieces) == ShellPiece(stdout="begun\n")
    assert fifo.closed_by_all_writers()


async def test_the_own_timeout_of_a_command_comes_first():
    """get_methods() tells name, help and the timeout that holds; the text stays here."""
    shell = Shell(methods={"a": "ls", "b": Command(command="df", description="Disks", timeout=5)}, timeout=20)
    assert await shell.get_methods() == [
        ShellMethod(name="a", description="", timeout=20),
        ShellMethod(name="b", description="Disks", timeout=5),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"methods": {"a b": "ls"}},
        {"methods": {"-a": "ls"}},
        {"methods": {"a": ""}},
        {"methods": {"a": {"command": "ls", "time": 1}}},
        {"methods": {"a": {"command": "ls", "timeout": 0}}},
        {"methods": {"a": "ls"}, "shell": []},
        {"methods": {"a": "ls"}, "timeout": float("inf")},
        {},
    ],
)
def test_a_wrong_configuration_is_refused(wrong):
    """Names that no command line can say, empty texts, unknown keys and endless timeouts."""
    with pytest.raises(ValidationError):
        Shell(**wrong)


async def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml gives its commands, and `$${` reaches the shell as `${`."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    shell = exporter.root.children["host"]
    assert isinstance(shell, Shell)
    assert [each.name for each in await shell.get_methods()] == ["uptime", "greet", "usb"]
    assert await said(shell, "greet", "board") == ("hello board\n", "", 0)


def test_the_package_offers_the_driver_lazily():
    """`from jsnats_driver_shell import Shell` works, and a name that is not there is an AttributeError."""
    assert jsnats_driver_shell.Shell is Shell
    with pytest.raises(AttributeError, match="has no attribute 'Csh'"):
        _ = jsnats_driver_shell.Csh


def test_a_client_does_not_load_the_exporter_side():
    """Importing the package and its client leaves the driver and `jsnats.driver` unloaded."""
    code = (
        "import sys, jsnats_driver_shell.client as c;"
        "sys.exit('jsnats.driver' in sys.modules or c.__package__ + '.driver' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Fifo:
    """A named pipe that is at its end when every process that opened it for writing is dead."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def closed_by_all_writers(self) -> bool:
        """Wait for the end; the test's timeout is for a process that lives."""
        os.set_blocking(self._reader, True)
        return os.read(self._reader, 1) == b""

    def close(self) -> None:
        os.close(self._reader)


@pytest.fixture
def fifo(tmp_path):
    """A named pipe in a directory of the test."""
    fifo = Fifo(tmp_path / "fifo")
    yield fifo
    fifo.close()
