"""The subscribers of `sdk/examples/subscribers` and Node's, against a real broker with roles on."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from jsnats.agent.testing import AgentProcess
from jsnats.broker import LabDir
from jsnats.broker._services import serving_lab
from jsnats.broker.testing import OutsideServer, TestBroker, outside_lab, running_broker
from jsnats.common.utils import serve, session_broker
from jsnats.driver import Composite
from jsnats.schemas import Event
from jsnats.sdk import Lab, connect, open_connection, store_event
from jsnats.testing import until
from jsnats_driver_power.driver import MockPower

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WAIT_S = 30.0


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A broker with MQTT, an exporter, a user and viewers."""
    with running_broker(
        mqtt=0, principals={"exporter": ["bench"], "user": ["alice"], "viewer": ["recorder"]}
    ) as broker:
        broker.inner.lab.add_mqtt("phone")
        yield broker


@contextmanager
def running(command: list[Any], context: Path, out: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A subscriber, killed at the end; its output goes to `out` or a pipe."""
    environment = os.environ | {"JSNATS_CONTEXT": str(context), "NODE_NO_WARNINGS": "1"}
    with out.open("w") if out else nullcontext(subprocess.PIPE) as stdout:
        process = subprocess.Popen([str(each) for each in command], env=environment, stdout=stdout, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def python(name: str, *words: object) -> list[object]:
    """The command of a Python example."""
    return [sys.executable, EXAMPLES / "subscribers" / name, *words]


def told(path: Path) -> list[dict[str, Any]]:
    """The events of a file of JSON lines; a line that is being written is not there yet."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def happen(broker: TestBroker | LabDir, kind: str, count: int = 1) -> list[str]:
    """Store events of `bench`, and return their ids."""

    async def store() -> list[str]:
        bench = await open_connection(broker.context("bench"))
        events = [Event(source="bench", type=kind, data={"number": number}) for number in range(count)]
        for event in events:
            await store_event(bench, event)
        await bench.close()
        return [event.id for event in events]

    return asyncio.run(store())


def all_listen(broker: TestBroker, files: list[Path]) -> None:
    """Store events until each of the files has one: from then on nobody misses any."""
    until(lambda: bool(happen(broker, "driver.knock")) and all(told(file) for file in files), WAIT_S)


def test_all_subscribers_tell_the_same(tmp_path: Path, broker: TestBroker) -> None:
    """Of one run of a board, with calls and leases, the SDK, MQTT and Node have the same events: those of the scheduler
    in the same order, and those of the agent. What two publishers say is not always delivered as it is stored.
    """
    files = {name: tmp_path / f"{name}.jsonl" for name in ("sdk", "mqtt", "node")}
    commands: dict[str, list[object]] = {
        "sdk": python("record.py", files["sdk"]),
        "mqtt": python("mqtt.py", broker.context_path("phone"), "127.0.0.1", broker.inner.mqtt, files["mqtt"]),
    }
    viewer = broker.context_path("recorder")
    if shutil.which("node") and _has_nats():
        commands["node"] = ["node", EXAMPLES / "node" / "main.js", viewer, "events"]
    with (
        running(commands["sdk"], viewer),
        running(commands["mqtt"], viewer),
        running(commands.get("node", ["true"]), viewer, files["node"]),
        AgentProcess("bench", broker.context_path("bench")) as agent,
        connect(context=broker.context("alice")) as lab,
    ):
        assert agent.greeting == "ready"
        all_listen(broker, [files[name] for name in commands])
        begin = happen(broker, "driver.begin")[0]
        _work(lab)
        end = happen(broker, "driver.end")[0]
        until(lambda: all(end in ids_of(files[name]) for name in commands), WAIT_S)
    seen = {name: _between(told(files[name]), begin, end) for name in commands}
    kinds = [event["type"] for event in seen["sdk"]]
    assert {"jsnats.lease.granted", "jsnats.call.finished", "jsnats.lease.ended"} <= set(kinds)
    for name in commands:
        for by_scheduler in (True, False):
            assert _told_by(seen[name], by_scheduler) == _told_by(seen["sdk"], by_scheduler), name


def _told_by(events: list[dict[str, Any]], scheduler: bool) -> list[tuple[str, dict[str, Any]]]:
    """Ids and data of what the scheduler has told, or the agent."""
    mine = [each for each in events if each["type"].startswith("jsnats.lease.") == scheduler]
    return [(each["id"], each["data"]) for each in mine]


def ids_of(path: Path) -> list[str]:
    """The ids of the events in a file."""
    return [event["id"] for event in told(path)]


def _has_nats() -> bool:
    command = ["node", "-e", "require.resolve('@nats-io/transport-node')"]
    return not subprocess.run(command, cwd=EXAMPLES / "node", capture_output=True, check=False).returncode


def _work(lab: Lab) -> None:
    with lab.lease("name=bench", duration="1m"):
        bench: Any = lab.exporter("bench")
        assert bench.ping(5) == 5
        assert bench.sync_ping("x") == "x"


def _between(events: list[dict[str, Any]], begin: str, end: str) -> list[dict[str, Any]]:
    ids = [event["id"] for event in events]
    return events[ids.index(begin) : ids.index(end) + 1]


def test_the_record_goes_on_where_it_was_killed(tmp_path: Path, broker: TestBroker) -> None:
    """What happened while it was away is in the file, each event once, in order; a line that was cut off is mended."""
    file = tmp_path / "events.jsonl"
    command, viewer = python("record.py", file, "driver.tick"), broker.context_path("recorder")
    with running(command, viewer):
        until(lambda: bool(happen(broker, "driver.tick")) and bool(told(file)), WAIT_S)
        expected = happen(broker, "driver.tick", 5)
        until(lambda: expected[-1] in ids_of(file), WAIT_S)
    with file.open("a") as cut:
        cut.write('{"specversion"')
    expected += happen(broker, "driver.tick", 5)
    with running(command, viewer):
        until(lambda: expected[-1] in ids_of(file), WAIT_S)
        expected += happen(broker, "driver.tick", 5)
        until(lambda: expected[-1] in ids_of(file), WAIT_S)
    assert ids_of(file)[-15:] == expected
    assert len(set(ids_of(file))) == len(ids_of(file))


class Hook(ThreadingHTTPServer):
    """A web service; `answers` is what it says to the next alarms, 0 for hanging up, then 200."""

    def __init__(self, answers: list[int]) -> None:
        self.answers = answers
        self.got: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Hook)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Hook(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["Content-Type"] == "application/cloudevents+json"
        code = self.server.answers.pop(0) if self.server.answers and body["type"].endswith(".alarm") else 200
        self.server.got.append(body | {"answered": code})
        if code:
            self.send_response(code)
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_recorder_waits_for_a_lab_that_is_being_made(tmp_path: Path) -> None:
    """Without a broker it is one line; with one, and no streams yet, it waits and misses nothing."""
    lab, out = outside_lab(tmp_path), tmp_path / "events.jsonl"
    lab.add("viewer", "recorder")
    lab.add("exporter", "bench")
    environment = os.environ | {"JSNATS_CONTEXT": str(lab.context_path("recorder"))}
    command = [str(each) for each in python("record.py", out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "error: no broker at" in done.stderr
    server = OutsideServer(lab)
    server.start()
    try:
        until(lambda: _answers(lab.context("broker").url), WAIT_S)
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            assert "has no streams yet, waiting" in process.stderr.readline()
            with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving_lab(lab)):
                until(lambda: bool(happen(lab, "driver.knock")) and bool(told(out)), WAIT_S)
            process.kill()
    finally:
        server.kill()


def _answers(url: str) -> bool:
    host, port = url.removeprefix("nats://").split(":")
    with suppress(OSError), socket.create_connection((host, int(port))):
        return True
    return False


def test_a_webhook_is_asked_again_until_it_has_taken_an_event(tmp_path: Path, broker: TestBroker) -> None:
    """After 503, a broken connection and a restart each is delivered, in order; after 400 it is left out."""
    hook = Hook([503, 0, 200, 400])
    command = python("webhook.py", hook.url, "--type", "driver.*", "--state", tmp_path / "state.json")
    with running(command, broker.context_path("recorder")):
        until(lambda: bool(happen(broker, "driver.knock")) and bool(hook.got), WAIT_S)
        expected = happen(broker, "driver.alarm", 3)
        until(lambda: (expected[2], 200) in [(each["id"], each["answered"]) for each in hook.got], WAIT_S)
    expected += happen(broker, "driver.alarm", 2)
    with running(command, broker.context_path("recorder")):
        until(lambda: expected[-1] in [each["id"] for each in hook.got], WAIT_S)
    hook.shutdown()
    hook.server_close()
    taken = [each["id"] for each in hook.got if each["answered"] == 200]
    assert list(dict.fromkeys(each for each in taken if each in expected)) == [expected[0], *expected[2:]]
    assert [each["answered"] for each in hook.got if each["id"] == expected[0]] == [503, 0, 200]


def test_readings_for_prometheus() -> None:
    """The last reading is served in its text format; when none comes any more, `up` says so."""
    with serve(Composite(children={"power": MockPower(voltage=5.0, interval=0.01)})) as bench:
        bench.power.on()
        command = python("power_metrics.py", "power", "--exporter", bench.exporter, "--port", 0)
        with running(command, session_broker().context_path("tester")) as process:
            assert process.stdout
            url = process.stdout.readline().strip()
            until(lambda: "jsnats_power_volts" in _scrape(url), WAIT_S)
            text = _scrape(url)
            with pytest.raises(urllib.error.HTTPError, match="404"):
                _scrape(url.replace("/metrics", "/"))
    values = dict(re.findall(r"^(jsnats_power_\w+)\{[^}]*\} ([\d.]+)$", text, re.MULTILINE))
    assert values["jsnats_power_up"] == "1"
    assert 0 < float(values["jsnats_power_volts"]) <= 5


def _scrape(url: str) -> str:
    with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
        return str(answer.read().decode())


def test_several_readers_in_one_loop(broker: TestBroker) -> None:
    """`watch.py` tells leases and failed calls as they happen."""
    with (
        running(python("watch.py"), broker.context_path("recorder")) as process,
        AgentProcess("bench", broker.context_path("bench")),
        connect(context=broker.context("alice")) as lab,
    ):
        lines: list[str] = []
        assert process.stdout
        reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)  # type: ignore[union-attr]
        reader.start()

        def fail_a_call() -> bool:
            with lab.lease("name=bench", duration="1m"), suppress(Exception):
                lab.exporter("bench").fail("ValueError")
            return any("failed: " in line for line in lines) and any("lease.granted" in line for line in lines)

        until(fail_a_call, WAIT_S)
