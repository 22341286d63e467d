from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import click
import pytest
from pydantic.dataclasses import dataclass
from typer.testing import CliRunner

from jsnats.client import CompositeClient, DriverClient
from jsnats.common.utils import serve, session_broker
from jsnats.driver import Composite, Driver, export
from jsnats.schemas import ConfigurationError
from jsnats.sdk.cli._call import run_call, run_stream
from jsnats.sdk.cli._complete import complete_exporter, complete_exporter_method
from jsnats.sdk.cli._guard import exit_code
from jsnats.sdk.cli._j import run_words
from jsnats.sdk.cli._j_complete import answer_shell, offers
from jsnats.sdk.cli._main import app
from jsnats.sdk.cli._shell import _prompted

waiting = threading.Event()
ended = threading.Event()


@dataclass(kw_only=True)
class Relay(Driver):
    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DriverClient"

    @export
    async def cycle(self, wait: float = 0.5, times: int = 1) -> str:
        """Off, then on."""
        return f"{times} x {wait}"

    @export
    async def info(self) -> dict[str, int]:
        return {"a": 1}

    @export
    async def picture(self) -> bytes:
        return b"\x89PNG"

    @export
    async def read(self, count: int = 3) -> AsyncGenerator[float, None]:
        for index in range(count):
            yield index / 2

    @export
    async def fail(self) -> None:
        raise ValueError("no such relay")

    @export
    async def hang(self) -> None:
        import asyncio

        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()


class OwnClient(DriverClient):
    """As in the driver guide: a client with a cli() of its own."""

    def cli(self) -> click.Command:
        @click.group
        def base() -> None:
            """My device."""

        @base.command()
        @click.option("--times", default=1)
        def twice(times: int) -> None:
            click.echo(self.call("cycle", times=2 * times))

        return base


@dataclass(kw_only=True)
class OwnRelay(Relay):
    @classmethod
    def client(cls) -> str:
        return f"{OwnClient.__module__}.OwnClient"


@pytest.fixture(scope="module")
def root() -> Iterator[CompositeClient]:
    """A board with two relays, and our environment pointing at its lab."""
    dut = Composite(children={"relay": Relay(description="The red one"), "own": OwnRelay()})
    with serve(Composite(children={"dut": dut})) as client:
        yield client


@pytest.fixture(autouse=True)
def _lab(root: CompositeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JSNATS_CONTEXT", str(session_broker().context_path("tester")))
    monkeypatch.delenv("JSNATS_URL", raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run one of our functions as a program: exit code, stdout, stderr."""

    def program(work: Callable[..., object], *words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = exit_code(lambda: work(list(words)))
        return code, *capsys.readouterr()

    return program


def test_call(root: CompositeClient, run: Callable[..., tuple[int, str, str]]) -> None:
    """`call` reads arguments by the schema and prints text as it is; --json prints JSON."""
    name = f"{root.exporter}.dut.relay.cycle"
    assert run(run_call, name, "2", "--times", "3") == (0, "3 x 2.0\n", "")
    assert run(run_call, "--json", name) == (0, '"1 x 0.5"\n', "")
    assert json.loads(run(run_call, f"{root.exporter}.dut.relay.info")[1]) == {"a": 1}


def test_words_of_the_method(root: CompositeClient, run: Callable[..., tuple[int, str, str]]) -> None:
    """Behind -- an option belongs to the method, whatever it is called."""
    code, _, text = run(run_call, f"{root.exporter}.dut.relay.cycle", "--", "--json")
    assert (code, text) == (2, "error: cycle: there is no argument 'json': it takes wait, times\n")


def test_call_help(root: CompositeClient, run: Callable[..., tuple[int, str, str]]) -> None:
    """--help behind a method shows what that method takes."""
    _, text, _ = run(run_call, f"{root.exporter}.dut.relay.cycle", "--help")
    assert "Off, then on." in text
    assert "--wait   float  default 0.5" in text


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["{}.dut.relay.fail"], 1, "dut.relay.fail: no such relay"),
        (["{}.dut.relay.cycel"], 2, "(did you mean 'cycle'?)"),
        (["{}.dut.relay"], 2, "dut.relay is a driver: add one of its methods: cycle"),
        (["{}.dut.realy.on"], 2, "(did you mean 'dut.relay'?)"),
        (["nowhere.on"], 2, "no exporter 'nowhere' in this lab"),
        (["on"], 2, "write EXPORTER.PATH.METHOD"),
        (["{}.dut.relay.cycle", "--timeout", "soon"], 2, "--timeout takes a number"),
        (["--nope", "x.y"], 2, "there is no option --nope"),
        ([], 2, "name a method"),
        (["--nats", "nats://127.0.0.1:1", "x.y"], 3, "no broker at nats://127.0.0.1:1"),
    ],
)
def test_errors(
    root: CompositeClient, run: Callable[..., tuple[int, str, str]], words: list[str], code: int, message: str
) -> None:
    """Every error is one line on stderr, with the exit code of its class."""
    found, out, err = run(run_call, *(word.format(root.exporter) for word in words))
    assert (found, out, message in err, err.count("\n"), err[:7]) == (code, "", True, 1, "error: ")


def test_debug_shows_the_traceback(run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """JSNATS_DEBUG=1 lets an error through."""
    monkeypatch.setenv("JSNATS_DEBUG", "1")
    with pytest.raises(ValueError, match="names no method"):
        run(run_call, "on")


def test_stream(root: CompositeClient, run: Callable[..., tuple[int, str, str]]) -> None:
    """`stream` prints an item on a line and ends after --limit of them; a call is refused."""
    name = f"{root.exporter}.dut.relay.read"
    assert run(run_stream, name)[:2] == (0, "0.0\n0.5\n1.0\n")
    assert run(run_stream, name, "--count", "100000", "--limit", "2")[:2] == (0, "0.0\n0.5\n")
    assert "use `jsnats call" in run(run_stream, f"{root.exporter}.dut.relay.cycle")[2]


def test_job(root: CompositeClient, run: Callable[..., tuple[int, str, str]]) -> None:
    """A detached call is attached to by its id, and has a state."""
    _, out, _ = run(run_call, f"{root.exporter}.dut.relay.read", "2", "--detach")
    assert CliRunner().invoke(app, ["job", "attach", out.strip()]).output == "0.0\n0.5\n"
    assert CliRunner().invoke(app, ["job", "status", out.strip()]).output == "done\n"
    assert CliRunner().invoke(app, ["job", "cancel", "nonsense"]).exit_code == 2


def test_ls_and_tree(root: CompositeClient) -> None:
    """`ls` has a line for each exporter, `tree` for each driver and method."""
    rows = json.loads(CliRunner().invoke(app, ["ls", "--json"]).stdout)
    assert {row["name"]: row["state"] for row in rows}[root.exporter] == "available"
    assert root.exporter in CliRunner().invoke(app, ["ls"]).stdout
    text = CliRunner().invoke(app, ["tree", root.exporter]).stdout
    assert "relay  [Relay]  The red one" in text
    assert ".cycle(wait: float = 0.5, times: int = 1) -> str" in text
    record = json.loads(CliRunner().invoke(app, ["tree", root.exporter, "--json"]).stdout)
    assert "cycle" in next(node for node in record["nodes"] if node["path"] == "dut.relay")["methods"]


def test_j(root: CompositeClient, capsys: pytest.CaptureFixture[str]) -> None:
    """`j` walks to the driver and runs the command of its client: made from schemas, or its own."""
    run_words(root, ["dut", "relay", "cycle", "1", "--times", "2"])
    own = root.dut.own
    root.dut.children["own"] = OwnClient(own._channel, own._node)
    run_words(root, ["dut", "own", "twice", "--times", "2"])
    assert capsys.readouterr().out == "2 x 1.0\n4 x 0.5\n"


def test_j_without_words(root: CompositeClient, capsys: pytest.CaptureFixture[str]) -> None:
    """A driver whose command means something without words, such as a login, is run; `--help` is still its help."""

    @click.group(invoke_without_command=True)
    def base() -> None:
        """Log in."""
        click.echo("logged in")

    own = root.dut.own
    client = OwnClient(own._channel, own._node)
    client.cli = lambda: base  # type: ignore[method-assign]
    root.dut.children["own"] = client
    run_words(root, ["dut", "own"])
    assert capsys.readouterr().out == "logged in\n"
    run_words(root, ["dut", "own", "--help"])
    assert "Log in." in capsys.readouterr().out


def test_j_lists(root: CompositeClient, capsys: pytest.CaptureFixture[str]) -> None:
    """`j` alone lists the children with their descriptions, `j dut relay` the methods."""
    run_words(root, ["dut"])
    assert "The red one" in capsys.readouterr().out
    run_words(root, ["dut", "relay"])
    assert "Off, then on." in capsys.readouterr().out


def test_completion(root: CompositeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell is offered exporters, then methods; nothing, silently, without a broker."""
    name = root.exporter
    assert name in complete_exporter(name[:3])
    # `name.` alone would get a space behind it; with others of that beginning (serve-1, serve-10) it is one of several.
    assert {f"{name}.", f"{name}.dut.relay.cycle"} & set(complete_exporter_method(name))
    assert complete_exporter_method(f"{name}.dut.relay.c") == [f"{name}.dut.relay.cycle"]
    monkeypatch.setenv("JSNATS_URL", "nats://127.0.0.1:1")
    assert complete_exporter("x") == []


@pytest.mark.parametrize(
    ("words", "incomplete", "offered"),
    [
        ([], "", {"dut"}),
        (["dut"], "r", {"relay"}),
        (["dut", "relay"], "c", {"cycle"}),
        (["dut", "relay", "cycle"], "--t", {"--times"}),
        (["dut", "own", "twice"], "--t", {"--times"}),
    ],
)
def test_j_completion(root: CompositeClient, words: list[str], incomplete: str, offered: set[str]) -> None:
    """The shell is offered the tree, then the methods and options of a driver, or what its client's own command has."""
    own = root.dut.own
    root.dut.children["own"] = OwnClient(own._channel, own._node)
    assert {item.value for item in offers(root, words, incomplete)} >= offered


def test_j_completion_outside_of_a_lab(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing, silently; the function for the shell is there all the same, and for an unknown shell an advice."""
    monkeypatch.delenv("JSNATS_EXPORTER", raising=False)
    monkeypatch.setenv("COMP_WORDS", "j ")
    monkeypatch.setenv("COMP_CWORD", "1")
    answer_shell("bash_complete")
    assert capsys.readouterr() == ("", "")
    answer_shell("bash_source")
    assert "_J_COMPLETE=bash_complete" in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match="bash_source"):
        answer_shell("csh_source")


def test_the_shell_of_a_session_completes_both(tmp_path: Path) -> None:
    """At the first Tab its bash asks both programs for their functions, and tells readline to begin again (124)."""
    words, _ = _prompted("/bin/bash", "bench-1", tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = f'. "{words[2]}"; _jsnats_first_tab; echo $?; complete -p jsnats j'
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        env=os.environ | {"PATH": path, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    code, jsnats, j = done.stdout.splitlines()
    assert (code, jsnats.split()[-1], j.split()[-1], done.stderr) == ("124", "jsnats", "j", "")
    assert "-F _jsnats_completion" in jsnats
    assert "-F _j_completion" in j


def test_j_takes_no_dots(root: CompositeClient) -> None:
    """A path as `jsnats call` has it is refused with the words to say."""
    for path in ("dut.relay.cycle", f"{root.exporter}.dut.relay.cycle"):
        with pytest.raises(ConfigurationError, match=": j dut relay cycle$"):
            run_words(root, [path])


def start(*words: str, module: str = "jsnats.sdk.cli", **options: int) -> subprocess.Popen[str]:
    """Start a `jsnats` of its own."""
    command = [sys.executable, "-m", module, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


def test_ctrl_c_cancels_the_call(root: CompositeClient) -> None:
    """Ctrl-C ends the command with 130 and the call at the exporter."""
    waiting.clear()
    ended.clear()
    with start("call", f"{root.exporter}.dut.relay.hang") as process:
        assert waiting.wait(20)
        process.send_signal(signal.SIGINT)
        assert (process.wait(20), process.stderr.read() if process.stderr else None) == (130, "")
    assert ended.wait(20)


def test_broken_pipe_is_quiet(root: CompositeClient) -> None:
    """A reader that goes away ends a stream without a word."""
    with start("stream", f"{root.exporter}.dut.relay.read", "1000000000") as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "0.0\n"
        process.stdout.close()
        assert (process.wait(20), process.stderr.read()) == (141, "")


def loaded(*modules: str, words: list[str]) -> list[str]:
    """Run `jsnats` with `words` and return its output; the last line is those of `modules` that it loaded."""
    code = f"""
import sys, jsnats.sdk.cli
sys.argv[1:] = {words!r}
try:
    jsnats.sdk.cli.main()
except SystemExit:
    print([name for name in {modules!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_file_that_is_not_there_is_one_line(run: Callable[..., tuple[int, str, str]]) -> None:
    """As other programs say it, without the name of an exception."""
    said = run(lambda words: Path(words[0]).read_bytes(), "no.img")
    assert said == (1, "", "error: no.img: No such file or directory\n")


def test_help_imports_little() -> None:
    """`jsnats --help` lists plugins too, and loads neither NATS nor pydantic nor rich."""
    lines = loaded("nats", "pydantic", "rich", "click", words=["--help"])
    assert any(line.startswith("  up ") for line in lines)
    assert lines[-1] == "[]"


def test_call_imports_no_typer(root: CompositeClient) -> None:
    """`jsnats call` is quick: it loads neither Typer nor click nor pydantic."""
    words = ["call", f"{root.exporter}.dut.relay.cycle"]
    assert loaded("typer", "pydantic", "click", "anyio", words=words) == ["1 x 0.5", "[]"]


def test_unknown_command() -> None:
    """A mistyped command is one line with what was meant, and a broken plugin one that names it."""
    result = CliRunner().invoke(app, ["strem"])
    assert (result.exit_code, "Did you mean 'stream'" in result.stderr, result.stderr.count("\n")) == (2, True, 1)
