"""A client in another language: the Node example against a real broker with roles on."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from pydantic.dataclasses import dataclass

from jsnats.client import DriverClient
from jsnats.common.utils import serve, session_broker
from jsnats.driver import Driver, export
from jsnats.sdk import connect

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "node"
INSTALL = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--no-package-lock"]
RESOLVE = "require.resolve('@nats-io/transport-node')"


@dataclass(kw_only=True)
class Bench(Driver):
    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DriverClient"

    @export
    def cycle(self, wait: float = 1.0, times: int = 1) -> dict[str, float | int]:
        return {"wait": wait, "times": times}

    @export
    def image(self, size: int) -> str:
        return "x" * size

    @export
    async def count(self, stop: int) -> AsyncIterator[int]:
        for number in range(stop):
            yield number

    @export
    def pages(self, stop: int, size: int) -> Iterator[str]:
        for number in range(stop):
            yield f"{number}:" + "x" * size

    @export
    def ring(self, number: int) -> None:
        self.emit("rang", number=number)

    @export
    def brownout(self) -> Iterator[int]:
        yield 5
        raise TimeoutError("the rail did not come up")


@pytest.fixture(scope="module")
def node() -> str:
    """The node binary, with the NATS client installed for the example."""
    binary = shutil.which("node")
    if not binary or not shutil.which("npm"):
        pytest.skip("node or npm is not installed")
    if subprocess.run([binary, "-e", RESOLVE], cwd=EXAMPLE, capture_output=True, check=False).returncode:
        done = subprocess.run(INSTALL, cwd=EXAMPLE, capture_output=True, text=True, timeout=50, check=False)
        if done.returncode:
            pytest.skip(f"npm could not install the NATS client: {done.stderr.strip().splitlines()[-1:]}")
    return binary


@pytest.fixture(scope="module")
def bench() -> Iterator[DriverClient]:
    """The exporter that the example talks to."""
    with serve(Bench()) as client:
        yield client


class Shell:
    """Runs the example as the user `tester`."""

    def __init__(self, node: str, exporter: str) -> None:
        self.node = node
        self.exporter = exporter

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        context = str(session_broker().context_path("tester"))
        command = [self.node, str(EXAMPLE / "main.js"), context, *arguments]
        environment = {**os.environ, "NODE_NO_WARNINGS": "1"}
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """As `run`, without waiting for its end."""
        command = [self.node, str(EXAMPLE / "main.js"), str(session_broker().context_path("tester")), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def lines(self, verb: str, *arguments: str) -> list[Any]:
        done = self.run(verb, *((self.exporter, *arguments) if verb != "ls" else ()))
        assert (done.stderr, done.returncode) == ("", 0)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def error(self, verb: str, exporter: str, *arguments: str) -> str:
        done = self.run(verb, exporter, *arguments)
        assert done.returncode == 1
        return done.stderr.strip()


@pytest.fixture
def shell(node: str, bench: DriverClient) -> Shell:
    """The example, pointed at `bench`."""
    return Shell(node, bench.exporter)


def test_calls_by_position_and_by_name(shell: Shell) -> None:
    """Arguments travel as an array or a map of JSON, and the result comes back as JSON."""
    assert shell.lines("call", "cycle", "[2]") == [{"wait": 2.0, "times": 1}]
    assert shell.lines("call", "cycle", '{"times": 3}') == [{"wait": 1.0, "times": 3}]
    assert shell.lines("call", "cycle") == [{"wait": 1.0, "times": 1}]


def test_wrong_argument_names_it(shell: Shell) -> None:
    """A wrong argument is refused with its code, the class and the argument, before the driver sees it."""
    said = shell.error("call", shell.exporter, "cycle", '{"wait": "long"}')
    assert said.startswith("InvalidArgument (400): cycle: argument 'wait': ")


def test_unknown_method_and_exporter(shell: Shell) -> None:
    """A method that is not there is 404, an exporter that is not there is known at once by the broker."""
    assert shell.error("call", shell.exporter, "cicle").startswith("MethodNotFound (404): cicle: ")
    for verb in ("call", "stream"):
        assert shell.error(verb, "nobody", "cycle") == "ExporterOffline (503): nobody: is offline"


def test_lists_methods(shell: Shell) -> None:
    """`$SRV.INFO` tells every exporter with its methods and their kinds."""
    rows = [row for row in shell.lines("ls") if row["exporter"] == shell.exporter]
    kinds = {row["method"]: row["kind"] for row in rows}
    calls, streams = ("cycle", "image", "ring"), ("count", "pages", "brownout")
    assert kinds == dict.fromkeys(calls, "call") | dict.fromkeys(streams, "stream")


def test_stream_beyond_one_window(shell: Shell) -> None:
    """Many windows of items arrive once and in order, faster than keepalive alone would grant them."""
    assert shell.lines("stream", "count", "[50000]") == list(range(50000))


def test_stream_of_items_larger_than_a_message(shell: Shell) -> None:
    """An item over max_payload comes in fragments and is put together again."""
    pages = shell.lines("stream", "pages", "[9, 1500000]")
    assert [page[:4] for page in pages] == [f"{number}:xx" for number in range(9)]
    assert {len(page) for page in pages} == {1500002}


def test_stream_of_a_method_that_is_no_generator(shell: Shell) -> None:
    """Its result is the only item, also one that is read from the store and one that is nothing."""
    assert shell.lines("stream", "cycle", "[2]") == [{"wait": 2.0, "times": 1}]
    assert shell.lines("stream", "image", "[3000000]") == ["x" * 3000000]
    assert shell.lines("stream", "ring", "[1]") == [None]


def test_stream_ends_with_the_drivers_error(shell: Shell) -> None:
    """Items before an error are delivered, then the error with its own code."""
    done = shell.run("stream", shell.exporter, "brownout")
    assert done.stdout.splitlines() == ["5"]
    assert done.stderr.strip() == "DriverTimeout (522): brownout: the rail did not come up"


def put_lines(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    """Take what a process prints of the driver's events; the audit's come beside them, when it likes."""
    for line in process.stdout or ():
        if '"jsnats.driver.rang"' in line:
            lines.put(line)


def test_events_as_the_sdk_sees_them(shell: Shell, bench: DriverClient) -> None:
    """The same ids in the same order, each as one line of JSON; they come while they happen."""
    broker = session_broker()
    with connect(context=broker.context("tester")) as lab, shell.start("events", shell.exporter) as node:
        ours = lab.events(exporter=shell.exporter, type="driver.rang", follow=True)
        seen: list[str] = []
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=put_lines, args=(node, lines), daemon=True).start()
        while lines.empty():  # until it has subscribed
            bench.call("ring", 0)
            seen.append(next(ours).id)
            time.sleep(0.05)
        for number in range(1, 10):
            bench.call("ring", number)
        seen += [event.id for event in islice(ours, 9)]
        ours.close()
        first = json.loads(lines.get())
        theirs = [first, *(json.loads(lines.get(timeout=10)) for _ in seen[seen.index(first["id"]) + 1 :])]
        node.terminate()
    assert [each["id"] for each in theirs] == seen[-len(theirs) :]
    assert (theirs[-1]["type"], theirs[-1]["data"]) == ("jsnats.driver.rang", {"number": 9})


def test_big_result_is_read_from_the_store(shell: Shell) -> None:
    """A result over max_payload is stored in parts and read with a pull consumer of one's own."""
    assert shell.lines("call", "image", "[3000000]") == ["x" * 3000000]
