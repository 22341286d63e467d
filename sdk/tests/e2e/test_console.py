"""`jsnats console` from end to end: a device on a real pty, its driver, a broker with roles, the command on a pty."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from typer.testing import CliRunner

from jsnats.client import ConsoleClient, ConsoleTimeout
from jsnats.common.exceptions import DriverError
from jsnats.common.utils import serve, session_broker
from jsnats.driver import Composite
from jsnats.sdk.cli._complete import complete_console
from jsnats.sdk.cli._console_output import Lines, as_json, as_line, plain
from jsnats.sdk.cli._console_tty import ESCAPE, Keys
from jsnats.sdk.cli._main import app
from jsnats_driver_power.driver import MockPower
from jsnats_driver_pyserial.driver import PySerial

pytestmark = pytest.mark.timeout(90)


class Pty:
    """Our end of a pty; what comes is collected by a thread."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self.said = b""
        self._arrived = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            with self._arrived:
                self.said += data
                self._arrived.notify_all()

    def write(self, data: bytes) -> None:
        """Write to the other end."""
        os.write(self.master, data)

    def wait_for(self, text: bytes) -> None:
        """Return once `text` has come."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: text in self.said, 20), self.said[-2000:]

    def close(self) -> None:
        """Hang up: the reader sees an error when the last other end is closed."""
        os.close(self.slave)
        self._reader.join(0.1)
        os.close(self.master)


class Device(Pty):
    """A device on a serial line: answers `version` and `noise`, echoes nothing."""

    def __init__(self) -> None:
        super().__init__()
        tty.setraw(self.slave)
        self.path = os.ttyname(self.slave)


@pytest.fixture
def device() -> Iterator[Device]:
    """A serial device."""
    device = Device()
    yield device
    device.close()


@pytest.fixture
def board(device: Device) -> Iterator[Any]:
    """The client of a board with that device's console and a power switch."""
    with serve(Composite(children={"serial": PySerial(url=device.path), "power": MockPower()})) as client:
        ConsoleClient.status(client.serial)
        yield client


@pytest.fixture
def console(board: Any) -> Iterator[ConsoleClient]:
    """The client of the console."""
    with board.serial as client:
        yield client


def environment(**more: str) -> dict[str, str]:
    """That of a command of `tester`."""
    return os.environ | {"JSNATS_CONTEXT": str(session_broker().context_path("tester"))} | more


class Command(Pty):
    """A `jsnats console` with a terminal of its own, which is this pty."""

    def __init__(self, *words: str, output: int | None = None) -> None:
        super().__init__()
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jsnats.sdk.cli", *words],
            stdin=self.slave,
            stdout=self.slave if output is None else output,
            stderr=self.slave,
            start_new_session=True,
            env=environment(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()
        self.close()

    def end(self) -> int:
        """Wait for its end; return the exit code. The terminal is as it was."""
        code = self.process.wait(20)
        assert termios.tcgetattr(self.slave) == self.before
        return code


def talk(console: ConsoleClient, *words: str) -> Command:
    """Start an interactive `jsnats console` and wait until it is attached."""
    command = Command("console", f"{console.exporter}.{console.path}", *words)
    command.wait_for(b"Ctrl-] q quits")
    return command


def test_a_typed_line_reaches_the_device(device: Device, console: ConsoleClient) -> None:
    """What is typed arrives, the answer is shown as it is, Ctrl-] q leaves with 0 and the terminal as it was."""
    with talk(console) as command:
        command.write(b"version\r")
        device.wait_for(b"version\r")
        device.write(b"\x1b[31mv1.2.3\x1b[0m\r\n# ")
        command.wait_for(b"\x1b[31mv1.2.3\x1b[0m\r\n# ")
        command.write(ESCAPE + b"q")
        assert command.end() == 0
    assert device.said == b"version\r"


def test_the_past_comes_first(device: Device, console: ConsoleClient) -> None:
    """`--since` shows what is recorded, then goes on live without a byte lost or doubled between the two."""
    console.mark("this run")
    device.write(b"old words\r\n")
    console.expect("old words", since="this run")
    with talk(console, "--from-mark", "this run") as command:
        device.write(b"new words\r\n")
        command.wait_for(b"new words")
        command.write(ESCAPE + b"q")
        assert command.end() == 0
    assert command.said.count(b"old words\r\nnew words\r\n") == 1


def test_every_key_goes_through(device: Device, console: ConsoleClient) -> None:
    """Ctrl-C, Ctrl-D, Ctrl-Z and, sent twice, Ctrl-] reach the device."""
    with talk(console) as command:
        command.write(b"\x03\x04\x1a" + ESCAPE + ESCAPE + b"x")
        device.wait_for(b"\x03\x04\x1a\x1dx")
        command.write(ESCAPE + b"?")
        command.wait_for(b"off the record")
        command.write(ESCAPE + b"q")
        assert command.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal(console: ConsoleClient, number: signal.Signals) -> None:
    """SIGTERM and SIGHUP end it with 128 + N, and the terminal is as it was."""
    with talk(console) as command:
        command.process.send_signal(number)
        assert command.end() == 128 + number


def test_who_quits_does_not_wait_for_a_stopped_output(device: Device, console: ConsoleClient) -> None:
    """While nobody takes what is shown (`jsnats console ... | less`), Ctrl-] q still leaves, with 0."""
    reading, output = os.pipe()
    with Command("console", f"{console.exporter}.{console.path}", output=output) as command:
        while not console.status()["writer"]:
            pass
        for _ in range(200):
            device.write(b"x" * 1000)
        command.write(ESCAPE + b"q")
        assert command.end() == 0
    os.close(reading)
    os.close(output)


def test_garbage_goes_through(device: Device, console: ConsoleClient, tmp_path: Path) -> None:
    """Every byte value from the device reaches the terminal and the log, and nothing breaks."""
    garbage = bytes(range(256)) * 20
    with talk(console, "--log", str(tmp_path / "log")) as command:
        device.write(garbage + b"END")
        command.wait_for(b"END")
        # The pty is raw while the command runs: what it wrote is what we read.
        assert garbage in command.said
        command.write(ESCAPE + b"q")
        assert command.end() == 0
    assert garbage + b"END" in (tmp_path / "log").read_bytes()


def test_one_writer(device: Device, console: ConsoleClient) -> None:
    """A second writer is refused with a line that says how to watch; a watcher sees the same output."""
    name = f"{console.exporter}.{console.path}"
    with talk(console) as writer:
        with Command("console", name) as second:
            assert second.end() == 1
            second.wait_for(b"watch it with")
        with Command("console", name, "--watch", "--since", "start") as watcher:
            device.write(b"for all\r\n")
            writer.wait_for(b"for all")
            watcher.wait_for(b"for all")
            watcher.process.send_signal(signal.SIGINT)
            assert watcher.end() == 130
        writer.write(ESCAPE + b"q")
        assert writer.end() == 0


def test_the_exporter_comes_back(device: Device) -> None:
    """When the exporter goes the command says so, keeps trying, and goes on with what was said meanwhile."""
    with serve(Composite(children={"serial": PySerial(url=device.path)})) as client:
        name = client.exporter
        command = talk(client.serial)
    with command:
        command.wait_for(b"trying again")
        with serve(Composite(children={"serial": PySerial(url=device.path)})) as again:
            assert again.exporter == name
            device.write(b"first words\r\n")
            command.wait_for(b"first words")
            command.wait_for(b"the console is back")
            command.write(b"hello\r")
            device.wait_for(b"hello\r")
            command.write(ESCAPE + b"q")
            assert command.end() == 0
        assert command.said.count(b"first words") == 1


def test_the_broker_is_killed_while_one_types(device: Device, console: ConsoleClient) -> None:
    """Through a SIGKILL of the broker the session goes on: the command says so, no byte is lost or doubled."""
    with talk(console) as command:
        session_broker().kill()
        device.write(b"during the outage\r\n")
        command.write(b"typed")
        command.wait_for(b"during the outage")
        device.wait_for(b"typed")
        command.wait_for(b"the broker is back")
        command.write(ESCAPE + b"q")
        assert command.end() == 0
    assert (command.said.count(b"during the outage"), device.said) == (1, b"typed")


def test_j_has_the_console_too(device: Device, console: ConsoleClient) -> None:
    """`j serial console` is the same command, beside the methods of the driver."""
    code = "from jsnats.sdk.cli import j_main; j_main()"
    inside = environment(JSNATS_EXPORTER=console.exporter)
    words = [sys.executable, "-c", code, "serial"]
    device.write(b"recorded\n")
    console.expect("recorded", since="start")
    done = subprocess.run(
        [*words, "console", "--no-follow", "--search", "rec.*d"], env=inside, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("recorded\n", "")
    listed = subprocess.run([*words, "--help"], env=inside, capture_output=True, text=True)
    assert "off-record" in listed.stdout


# ---------------------------------------------------------------------- pipes and the record


def run(console: ConsoleClient, *words: str, stdin: bytes = b"", name: str = "") -> tuple[int, bytes, str]:
    """Run `jsnats console` in pipes; return exit code, stdout, stderr."""
    command = [sys.executable, "-m", "jsnats.sdk.cli", "console", name or f"{console.exporter}.{console.path}", *words]
    done = subprocess.run(command, input=stdin, capture_output=True, env=environment(), timeout=30)
    return done.returncode, done.stdout, done.stderr.decode()


def answer(device: Device, question: bytes, said: bytes) -> threading.Thread:
    """Let the device answer once."""

    def work() -> None:
        device.wait_for(question)
        device.write(said)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_pipe_until_a_pattern(device: Device, console: ConsoleClient) -> None:
    """What comes by a pipe is sent; the command ends when the console says what --until asks for."""
    thread = answer(device, b"version\n", b"v1.2.3\r\n# ")
    assert run(console, "--until", r"v[\d.]+\r\n# $", stdin=b"version\n") == (0, b"v1.2.3\r\n# ", "")
    thread.join()


def test_a_watcher_until_a_pattern(device: Device, console: ConsoleClient) -> None:
    """With --watch nothing is sent, and the command ends when the console says, or said, what --until asks for."""
    device.write(b"v1.2.3\r\n# ")
    console.expect("v1.2.3", since="start")
    code, shown, _ = run(console, "--watch", "--since", "start", "--until", r"v[\d.]+")
    assert (code, b"v1.2.3" in shown) == (0, True)
    code, _, error = run(console, "--watch", "--until", "never", "--timeout", "0.5")
    assert code != 0
    assert "no 'never' within 0.5 s" in error


def test_a_pipe_until_a_timeout(console: ConsoleClient) -> None:
    """Without the pattern it fails after --timeout and says so; without --until it ends a while after the pipe."""
    code, _, error = run(console, "--until", "never", "--timeout", "0.5", stdin=b"x")
    assert (code, error) == (1, f"error: {console.exporter}.serial: no 'never' within 0.5 s\n")
    assert run(console, "--timeout", "0.1", stdin=b"x")[::2] == (0, "")


def test_the_record(device: Device, board: Any, console: ConsoleClient, tmp_path: Path) -> None:
    """The record as it is, from the last power-on, as lines with time, as JSON, searched, and into a file."""
    device.write(b"before\r\n")
    console.expect("before", since="start")
    board.power.on()
    device.write(b"U-Boot\r\n\xff\xfe bad\r\nlogin: ")
    console.expect("login: ")
    log = tmp_path / "log"
    code, out, _ = run(console, "--no-follow", "--from-boot", "--log", str(log))
    assert code == 0
    assert out.startswith(b"--- ")
    assert out.split(b" ---\n")[1] == b"U-Boot\r\n\xff\xfe bad\r\nlogin: "
    assert log.read_bytes() == out
    lines = run(console, "--no-follow", "-t", "--since", "10m")[1].decode().splitlines()
    assert [line[25:] for line in lines][-3:] == ["U-Boot", "\ufffd\ufffd bad", "login: "]
    assert lines[-1][:2] == "20"
    records = [json.loads(line) for line in run(console, "--no-follow", "--json")[1].splitlines()]
    assert "power-on" in {record.get("mark") for record in records}
    text = "".join(record["text"] for record in records if "mark" not in record)
    assert text.endswith("before\r\nU-Boot\r\n\ufffd\ufffd bad\r\nlogin: ")
    assert run(console, "--search", "^U-.oot$")[1] == b"U-Boot\n"
    assert run(console, "--search", "nothing")[:2] == (0, b"")


def test_a_reader_that_goes_away(device: Device, console: ConsoleClient) -> None:
    """`jsnats console --watch | head -1` ends without a word when it has something to write to nobody."""
    device.write(b"one\n")
    command = [sys.executable, "-m", "jsnats.sdk.cli", "console", console.exporter, "--watch", "--since", "start"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        while process.poll() is None:
            device.write(b"two\n")
            time.sleep(0.05)
        assert (process.wait(), process.stderr.read()) == (141, b"")


def test_no_console_of_that_name(console: ConsoleClient) -> None:
    """A path that is no console is an error that names the consoles; an exporter with one console needs no path."""
    code, _, error = run(console, name=f"{console.exporter}.power")
    exporter = console.exporter
    said = f"error: {exporter}.power is no console of {exporter}; its consoles: {exporter}.serial\n"
    assert (code, error) == (2, said)
    assert run(console, "--no-follow", name=console.exporter)[::2] == (0, "")
    assert "there is:" in run(console, name="nowhere.serial")[2]


def test_wrong_options(console: ConsoleClient, tmp_path: Path) -> None:
    """What does not go together, a wrong pattern, an unknown marker and a log that cannot be written: one line each."""
    file = tmp_path / "file"
    file.touch()
    for words, said in (
        (["--since", "1m", "--from-boot"], "give one of"),
        (["--search", "("], "is no regular expression"),
        (["--no-follow", "--from-mark", "never"], "has no marker 'never'"),
        (["--no-follow", "--log", str(file / "log")], "cannot write the log"),
        (["--timeout", "soon"], "is no number of seconds"),
        (["--json", "--until", "x"], "--until needs a pipe"),
        (["--watch", "--no-follow", "--until", "x"], "--until waits for what comes: leave out --no-follow"),
    ):
        code, _, error = run(console, *words)
        assert (code, said in error, error.count("\n")) == (2, True, 1), error


def test_not_recorded(device: Device) -> None:
    """A console with `record: false` cannot be watched, which is said; its writer sees it."""
    with serve(Composite(children={"serial": PySerial(url=device.path, record=False)})) as client:
        console = client.serial
        code, _, error = run(console, "--watch")
        assert (code, "is not recorded" in error) == (2, True)
        console.sendline("hello")
        device.wait_for(b"hello\n")
        device.write(b"secret\n")
        assert console.expect("sec.*t").group() == "secret"
        assert b"secret" not in console.read()
        console.close()


def test_expect_off_the_record(device: Device, console: ConsoleClient) -> None:
    """The writer's expect sees what is said off the record, which the record does not have, and goes on after it."""
    console.sendline("login")
    device.wait_for(b"login\n")
    console.off_record()
    device.write(b"password: hunter2\n")
    assert console.expect("hunter.").group() == "hunter2"
    console.off_record(False)
    device.write(b"welcome\n")
    assert console.expect("welcome").before == "\n"
    reader = type(console)(console._channel, console._node)
    assert "hunter2" not in reader.expect("welcome", since="start").before
    reader.close()


def test_send_needs_the_session(device: Device, console: ConsoleClient, board: Any) -> None:
    """One writer at a time from Python too; `close` lets the other in."""
    console.send(b"a")
    other = type(console)(board.serial._channel, board.serial._node)
    with pytest.raises(DriverError, match="tester has this console open"):
        other.send(b"b")
    console.close()
    other.send("c")
    device.wait_for(b"ac")
    other.close()
    with pytest.raises(ConsoleTimeout, match="it said nothing"):
        console.expect("x", timeout=0.1)


def test_completion(console: ConsoleClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell is offered the consoles of the one exporter that it can be, and no other methods."""
    monkeypatch.setenv("JSNATS_CONTEXT", str(session_broker().context_path("tester")))
    assert {f"{console.exporter}.", f"{console.exporter}.serial"} & set(complete_console(console.exporter))
    assert complete_console(f"{console.exporter}.") == [f"{console.exporter}.serial"]


def test_help() -> None:
    """The command has help that tells the escape key."""
    assert "Ctrl-] q quits" in CliRunner().invoke(app, ["console", "--help"]).stdout


# ---------------------------------------------------------------------- parts


@pytest.mark.parametrize(
    ("typed", "done"),
    [
        ([b"ab\x1dq"], [("send", b"ab"), ("quit", b"")]),
        ([b"a\x1d", b"q"], [("send", b"a"), ("quit", b"")]),
        ([b"\x1d\x1d\x1d"], [("send", b"\x1d")]),
        ([b"\x1d?x"], [("help", b""), ("send", b"x")]),
        ([b"\x1dk"], [("unknown", b"")]),
    ],
)
def test_keys(typed: list[bytes], done: list[tuple[str, bytes]]) -> None:
    """The escape key and the key behind it are ours, however they are cut; all else is the device's."""
    keys = Keys()
    assert [each for part in typed for each in keys.take(part)] == done


def test_plain_text() -> None:
    """What could move the cursor, colour or ring is gone from line-based output."""
    hostile = b"\x1b[2J\x1b]0;title\x07a\x1b[31mb\x07\x00\tc\xc2\x9b\x85\r"
    assert plain(hostile) == "ab\tc\ufffd"
    assert plain("grün".encode()) == "grün"


def test_lines(console_record: Callable[..., Any]) -> None:
    """Lines are made of any pieces, with offset and time of their first byte; an endless one is cut."""
    lines = Lines()
    pieces = [console_record(0, 1.0, b"a"), console_record(1, 2.0, b"b\nc\nd"), console_record(6, 3.0, b"e\n")]
    found = [(line.offset, line.time, line.data) for piece in pieces for line in lines.add(piece)]
    assert found == [(0, 1.0, b"ab"), (3, 2.0, b"c"), (5, 2.0, b"de")]
    assert [len(line.data) for line in lines.add(console_record(8, 4.0, b"x" * 20_000))] == [20_000]
    assert not lines.open
    assert as_line(console_record(0, 0.0, b"\xff"), with_time=False) == "\ufffd\n".encode()
    assert json.loads(as_json(console_record(3, 1.5, b"\xff"))) == {
        "offset": 3,
        "time": 1.5,
        "text": "\ufffd",
        "data": "/w==",
    }


@pytest.fixture
def console_record() -> Callable[..., Any]:
    """Makes records."""
    from jsnats.sdk import ConsoleRecord

    return lambda offset, time, data: ConsoleRecord(sequence=1, offset=offset, time=time, data=data)
