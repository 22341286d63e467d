import os

import pytest
from click.testing import CliRunner, Result

from jsnats.common.utils import serve
from jsnats_driver_shell.client import ShellClient
from jsnats_driver_shell.common import ShellPiece, ShellResult
from jsnats_driver_shell.driver import Command, Shell

METHODS: dict[str, str | Command] = {
    "both": Command(command="echo out; echo err >&2; exit 3", description="Write to both streams"),
    "show": 'printf "%s|" "$@" "$COLOUR"',
    "read-log": "echo log",
    "call": "echo shadowed",
}


def run(client: ShellClient, *arguments: str) -> Result:
    """Invoke the client's command line."""
    return CliRunner().invoke(client.cli(), arguments)


def test_each_command_is_a_method():
    """`client.show(*args, **env)` runs the command with arguments and environment and returns all it said."""
    with serve(Shell(methods=METHODS)) as client:
        assert isinstance(client, ShellClient)
        assert client.both() == ShellResult("out\n", "err\n", 3)
        assert client.show("a b", "$HOME", COLOUR="red").stdout == "a b|$HOME|red|"
        assert {"both", "show"} <= set(dir(client))


def test_any_name_can_be_called():
    """A name with a dash, or one that every client has, is reached by call_method()."""
    with serve(Shell(methods=METHODS)) as client:
        stdout, stderr, returncode = client.call_method("read-log")
        assert (stdout, stderr, returncode) == ("log\n", "", 0)
        assert client.call_method("call").stdout == "shadowed\n"
        assert client.call_method("show", "x", env={"COLOUR": "red"}).stdout == "x|red|"


def test_a_name_that_is_not_declared_is_no_attribute():
    """`hasattr` works, and an unknown method is refused with the list."""
    with serve(Shell(methods=METHODS)) as client:
        assert not hasattr(client, "rm")
        with pytest.raises(ValueError, match="no command 'rm' is declared: there is both, show"):
            client.call_method("rm")


def test_output_arrives_while_the_command_runs(tmp_path):
    """The first line is here before the command is let go on to its second."""
    os.mkfifo(tmp_path / "go")
    with serve(Shell(methods={"two": f"echo one; read line < {tmp_path}/go; echo $line"})) as client:
        pieces = client.pieces("two")
        assert next(pieces) == ShellPiece(stdout="one\n")
        (tmp_path / "go").write_text("two\n")
        assert list(pieces) == [ShellPiece(stdout="two\n"), ShellPiece(returncode=0)]


def test_leaving_the_loop_kills_the_command(tmp_path):
    """A reader that has enough ends the processes on the exporter: nobody has the pipe open any more."""
    os.mkfifo(tmp_path / "held")
    reader = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    with serve(Shell(methods={"hang": f"exec 9>{tmp_path}/held; echo begun; sleep 1000 & wait"})) as client:
        pieces = client.pieces("hang")
        assert next(pieces).stdout == "begun\n"
        pieces.close()
        os.set_blocking(reader, True)
        assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_timeout_is_a_timeout_error():
    """It names the command and its limit."""
    shell = Shell(methods={"hang": Command(command="sleep 1000", timeout=0.2)})
    with serve(shell) as client, pytest.raises(TimeoutError, match="'hang' did not end within 0.2 s"):
        client.hang()


def test_a_blocked_variable_is_a_value_error():
    """The exporter refuses, whatever client asks."""
    with serve(Shell(methods=METHODS)) as client, pytest.raises(ValueError, match="BASH_ENV may not be set"):
        client.show(BASH_ENV="/tmp/x")


def test_a_lot_of_bytes_that_are_no_text_arrive():
    """3 MB of 0xff are 3 M replacement characters, over the size of a message."""
    with serve(Shell(methods={"noise": r"head -c 3000000 /dev/zero | tr '\0' '\377'"})) as client:
        assert client.noise().stdout == "\ufffd" * 3_000_000


def test_the_command_line_shows_both_streams_and_the_code():
    """`j host both` writes where the command wrote and exits as it did."""
    with serve(Shell(methods=METHODS)) as client:
        result = run(client, "both")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)


def test_options_after_the_first_argument_are_the_commands():
    """`j host show -e COLOUR=red a -l` passes `a` and `-l` on; `--` does so from the start."""
    with serve(Shell(methods=METHODS)) as client:
        assert run(client, "show", "-e", "COLOUR=red", "a", "-l", "--help").stdout == "a|-l|--help|red|"
        assert run(client, "show", "--", "-e").stdout == "-e||"


def test_help_lists_what_is_declared():
    """The description of the configuration is the help."""
    with serve(Shell(methods=METHODS)) as client:
        assert "Write to both streams" in run(client, "--help").stdout


def test_an_option_that_is_no_pair_is_refused():
    """-e wants KEY=VAL."""
    with serve(Shell(methods=METHODS)) as client:
        result = run(client, "show", "-e", "COLOUR")
    assert result.exit_code == 2
    assert "'COLOUR' is not KEY=VAL" in result.stderr


def test_a_copy_with_options_has_the_methods_too():
    """`client.options(...)` copies a client whose attributes are made on demand."""
    with serve(Shell(methods=METHODS)) as client:
        assert client.options(timeout_s=60).both().returncode == 3
