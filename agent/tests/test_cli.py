from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from jsnats.agent import NameTaken
from jsnats.agent._agent import context_of, hosted, hosting, run_exporters
from jsnats.agent._config import LoadedExporter, load
from jsnats.agent._up import _greet
from jsnats.agent.cli import agent_app, up as up_app
from jsnats.broker.testing import TestBroker
from jsnats.common.utils import session_broker
from jsnats.schemas import BrokerUnreachable, ConfigurationError
from jsnats.sdk import Context, connect
from jsnats.sdk.cli import Session

DRIVER = """
from pathlib import Path
from pydantic.dataclasses import dataclass
from jsnats.driver import Driver, export

@dataclass(kw_only=True)
class Relay(Driver):
    note: str = ""

    @classmethod
    def client(cls):
        return "jsnats.client.DriverClient"

    @export
    async def on(self) -> str:
        return "it is on"

    def close(self):
        if self.note:
            Path(self.note).write_text("closed")
"""


@pytest.fixture
def broker() -> TestBroker:
    """The broker of this test process."""
    return session_broker()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and temporary folder, and a driver `cli_relay.Relay` that writes to `note` when it is closed."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "tmp").mkdir()
    (tmp_path / "lib" / "cli_relay.py").write_text(DRIVER)
    for name in ("JSNATS_CONTEXT", "JSNATS_URL", "JSNATS_EXPORTER", "JSNATS_USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    return tmp_path


def write(folder: Path, *names: str) -> Path:
    """An exporter file with these exporters, each with a relay."""
    documents = [
        {"name": each, "export": {"relay": {"type": "cli_relay.Relay", "config": {"note": str(folder / each)}}}}
        for each in names
    ]
    path = folder / "exporter.yaml"
    path.write_text("\n---\n".join(json.dumps(each) for each in documents))
    return path


@contextmanager
def jsnats(*words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A `jsnats` process; killed at the end if it is still there."""
    command = [sys.executable, "-m", "jsnats.sdk.cli", *map(str, words)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `jsnats` to its end."""
    command = [sys.executable, "-m", "jsnats.sdk.cli", *map(str, words)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=50)


def line_with(stream: Iterator[str] | None, text: str) -> str:
    """Read until a line has `text`. Fails at the end of the output."""
    assert stream is not None
    seen = []
    for line in stream:
        seen.append(line)
        if text in line:
            return line
    pytest.fail(f"no {text!r} in {seen}")


# ------------------------------------------------------------------ jsnats up


def test_up_runs_a_command(folder: Path) -> None:
    """The command finds j, the lab and its exporter, and gives the exit code; nothing is left on disk."""
    script = 'j relay on; jsnats call "$JSNATS_EXPORTER.relay.on"; exit 7'
    done = run("up", write(folder, "bench-1", "bench-2"), "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (7, "it is on\nit is on\n", "")
    assert (folder / "bench-1").read_text() == (folder / "bench-2").read_text() == "closed"
    assert [*(folder / "tmp").iterdir(), *(folder / "config" / "jsnats").iterdir()] == []


def test_up_serves_other_terminals(folder: Path) -> None:
    """While it runs, `jsnats ls` without any option finds the lab; Ctrl-C ends it with 130, without a trace."""
    with jsnats("up", write(folder, "bench-1")) as process:
        line_with(process.stderr, "elsewhere")
        assert json.loads(run("ls", "--json").stdout)[0]["state"] == "available"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert [*(folder / "tmp").iterdir(), *(folder / "config" / "jsnats").iterdir()] == []
    assert (folder / "bench-1").read_text() == "closed"


def test_up_says_what_is_where(capsys: pytest.CaptureFixture[str]) -> None:
    """Exporters in the order of the files, whichever came first; which one `j` means, and how it means another."""
    agent: Any = SimpleNamespace(running={"b": SimpleNamespace(nodes=[0, 0]), "a": SimpleNamespace(nodes=[0, 0, 0])})
    session = Session(context=Path("user.json"), url="nats://127.0.0.1:4222", exporter="a")
    _greet(agent, session, ["a", "b"])
    _, exporters, here, _ = capsys.readouterr().err.splitlines()
    assert exporters == "exporters  a (2 drivers), b (1 drivers)"
    assert here == "here       j: a (JSNATS_EXPORTER=b j ... for another)"
    _greet(agent, session, ["a"])
    assert "\nhere       j --help\n" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_up_passes_signals_on(folder: Path, number: int, code: int) -> None:
    """A signal ends the command, then the lab."""
    with jsnats("up", write(folder, "bench-1"), "--", "sh", "-c", "echo ready; exec sleep 100") as process:
        line_with(process.stdout, "ready")
        process.send_signal(number)
        assert process.wait(30) == code
    assert (folder / "bench-1").read_text() == "closed"
    assert list((folder / "tmp").iterdir()) == []


def test_up_survives_its_broker(folder: Path) -> None:
    """The broker is killed under the command; calls go on."""
    script = """
import os, signal, sys
from pathlib import Path
from jsnats.common.utils import env
lab = Path(os.environ["JSNATS_CONTEXT"]).parent.parent
with env() as root:
    os.kill(int((lab / "nats.pid").read_text()), signal.SIGKILL)
    print(root.relay.call("on"))
"""
    done = run("up", write(folder, "bench-1"), "--", sys.executable, "-c", script)
    assert (done.returncode, done.stdout) == (0, "it is on\n"), done.stderr


def test_up_leaves_a_context_of_the_user_alone(folder: Path) -> None:
    """A context file that is no link of another `up` is neither read nor replaced."""
    own = folder / "config" / "jsnats" / "context.json"
    Context(url="nats://lab.example:4222", name="ann").save(own)
    before = own.read_text()
    done = run("up", write(folder, "bench-1"), "--", "j", "relay", "on")
    assert (done.stdout, own.read_text(), own.is_symlink()) == ("it is on\n", before, False)


def test_up_replaces_a_dead_link(folder: Path) -> None:
    """What a killed `up` left as the default context does not stand in the way."""
    own = folder / "config" / "jsnats" / "context.json"
    own.parent.mkdir(parents=True)
    own.symlink_to(folder / "gone.json")
    script = f'readlink "{own}"; echo "$JSNATS_CONTEXT"'
    first, second = run("up", write(folder, "bench-1"), "--", "sh", "-c", script).stdout.split()
    assert first == second
    assert not own.is_symlink()


def test_up_removes_what_a_killed_one_left(folder: Path) -> None:
    """The directory of one that was killed is gone after the next; those of one that runs, and of one that has only
    begun, stay."""
    begun = folder / "tmp" / "jsnats-up-begun"
    begun.mkdir()
    (begun / "lab.lock").touch()
    script = ("sh", "-c", 'echo "$JSNATS_CONTEXT"; exec sleep 100')
    with jsnats("up", write(folder, "bench-1"), "--", *script) as killed:
        dead = Path(line_with(killed.stdout, "jsnats-up-").strip()).parents[1]
        with jsnats("up", write(folder, "bench-1"), "--", *script) as process:
            living = Path(line_with(process.stdout, "jsnats-up-").strip()).parents[1]
            assert dead.exists()
            server = int((dead / "nats.pid").read_text())
            killed.kill()
            os.kill(server, signal.SIGKILL)
            with (dead / "lab.lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # until both are gone
            assert run("up", write(folder, "bench-1"), "--", "true").returncode == 0
            assert set((folder / "tmp").iterdir()) == {begun, living}
            process.terminate()
            process.wait(30)


def test_up_says_who_named_the_broker(folder: Path, broker: TestBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exported JSNATS_CONTEXT is used instead of a broker of its own; a refusal there says so."""
    monkeypatch.setenv("JSNATS_CONTEXT", str(broker.context_path("tester")))
    done = run("up", write(folder, "bench-1"), "--", "true")
    assert done.returncode == 4
    assert "named by --context or JSNATS_CONTEXT" in done.stderr
    monkeypatch.setenv("JSNATS_CONTEXT", str(folder / "gone.json"))
    done = run("up", write(folder, "bench-1"), "--", "true")
    assert done.returncode == 2
    assert "named by --context or JSNATS_CONTEXT" in done.stderr


def test_up_reports_all_faults_first(folder: Path) -> None:
    """Every fault of a file is told, and nothing is started."""
    path = folder / "bad.yaml"
    path.write_text("name: a b\nexport: {x: {type: cli_relay.Nope}, y: {type: cli_relay.Relay, config: {no: 1}}}\n")
    done = run("up", path, "--", "true")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 4), done.stderr
    assert list((folder / "tmp").iterdir()) == []


def test_up_command_not_found(folder: Path) -> None:
    """A command that is not there is one line, and the lab is cleaned up."""
    done = run("up", write(folder, "bench-1"), "--", "no-such-thing")
    assert (done.returncode, done.stderr) == (2, "error: cannot run 'no-such-thing': there is no such program\n")
    assert list((folder / "tmp").iterdir()) == []


def test_up_keeps_its_directory(folder: Path) -> None:
    """--dir keeps the lab, and a second run takes it up again."""
    for _ in range(2):
        done = run("up", write(folder, "bench-1"), "--dir", folder / "lab", "--", "j", "relay", "on")
        assert done.stdout == "it is on\n", done.stderr
    assert (folder / "lab" / "auth.json").exists()


def test_usage() -> None:
    """The help of `up` and of `agent run` has an example."""
    assert "jsnats up exporter.yaml -- pytest" in CliRunner().invoke(up_app, ["--help"]).output
    assert "jsnats agent run exporter.yaml" in " ".join(CliRunner().invoke(agent_app, ["run", "--help"]).output.split())


# ------------------------------------------------------------------ jsnats agent run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_agent_stops_cleanly(folder: Path, broker: TestBroker, number: int, code: int) -> None:
    """A signal closes the drivers and gives the name back; without a lease policy calls need a lease."""
    broker.add("exporter", "agent-1")
    credentials = broker.context_path("agent-1")
    with jsnats("agent", "run", write(folder, "agent-1"), "--credentials", credentials) as process:
        line_with(process.stderr, "exporter agent-1: 1 drivers")
        with connect(context=broker.context("tester")) as lab:
            info = {each.name: each for each in lab.exporters()}["agent-1"]
            assert (info.online, info.lease) == (True, "required")
            process.send_signal(number)
            assert process.wait(30) == code
            assert not {each.name: each for each in lab.exporters()}["agent-1"].online
    assert (folder / "agent-1").read_text() == "closed"


def test_agent_follows_its_file(folder: Path, broker: TestBroker) -> None:
    """What is written anew is hosted anew, without a restart; a fault is told by its line, and nothing changes."""
    broker.add("exporter", "agent-6")
    file = write(folder, "agent-6")
    before = json.loads(file.read_text())
    with jsnats("agent", "run", file, "--credentials", broker.context_path("agent-6")) as process:
        line_with(process.stderr, "exporter agent-6: 1 drivers")
        file.write_text(json.dumps({**before, "labels": 3}))
        line_with(process.stderr, "exporter.yaml:1: labels: must be a map")
        file.write_text(json.dumps({**before, "labels": {"rev": "b"}, "lease": "if-held"}))
        line_with(process.stderr, "exporter agent-6: hosted as its file says now")
        line_with(process.stderr, "exporter agent-6: 1 drivers")
        with connect(context=broker.context("tester")) as lab:
            assert lab.tree("agent-6").labels == {"rev": "b"}
            assert lab.exporter("agent-6").relay.call("on") == "it is on"


def test_agent_name_taken(folder: Path, broker: TestBroker) -> None:
    """A name that is served already ends a second agent with exit code 6, and the first goes on."""
    broker.add("exporter", "agent-2")
    words = ("agent", "run", write(folder, "agent-2"), "--credentials", broker.context_path("agent-2").parent)
    with jsnats(*words) as process:
        line_with(process.stderr, "exporter agent-2: 1 drivers")
        done = run(*words)
        assert (done.returncode, "already served by an agent" in done.stderr) == (6, True)
        assert process.poll() is None


def test_agent_waits_for_its_broker(folder: Path) -> None:
    """An agent without a broker says so and tries again, until it is there."""
    with jsnats("agent", "run", write(folder, "agent-3"), "--nats", "nats://127.0.0.1:1") as process:
        line_with(process.stderr, "no broker at nats://127.0.0.1:1")
        line_with(process.stderr, "trying again in 1 s")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_wrong_credentials(folder: Path, broker: TestBroker) -> None:
    """Credentials of another principal are refused before anything is sent."""
    done = run("agent", "run", write(folder, "agent-4"), "--credentials", broker.context_path("tester"))
    assert (done.returncode, "is for user 'tester', not for exporter 'agent-4'" in done.stderr) == (2, True)


# ------------------------------------------------------------------ several exporters in a process


def several(folder: Path, broker: TestBroker, *names: str) -> list[LoadedExporter]:
    """Loaded exporters that the broker lets in."""
    for name in names:
        broker.add("exporter", name)
    return load([write(folder, *names)])


async def test_one_is_taken_over(folder: Path, broker: TestBroker) -> None:
    """An exporter whose name was taken is dropped; the others go on; the end of the last is an error."""
    loaded = several(folder, broker, "many-1", "many-2")
    all_hosted = [hosted(each, broker.context(each.name), "if-held") for each in loaded]
    async with hosting(all_hosted) as agent:
        await agent.settled()
        agent.running["many-1"].lost.set()
        async with asyncio.timeout(10), agent._changed:
            await agent._changed.wait_for(lambda: agent.failures)
        assert (list(agent.failures), list(agent.running)) == (["many-1"], ["many-2"])
        agent.running["many-2"].lost.set()
        await asyncio.wait_for(agent.ended(), 10)
        assert agent.failure().exit_code == NameTaken.exit_code


async def test_failures_by_name(folder: Path, broker: TestBroker) -> None:
    """Exporters that cannot start are reported by name; the others run."""
    loaded = several(folder, broker, "many-3", "many-4", "many-5")
    far = Context(url="nats://127.0.0.1:1", name="x")
    contexts = [broker.context("many-3"), far, far]
    async with hosting(
        [hosted(each, context, "if-held") for each, context in zip(loaded, contexts, strict=True)]
    ) as agent:
        await agent.settled()
        assert (list(agent.running), sorted(agent.failures)) == (["many-3"], ["many-4", "many-5"])
        error = agent.failure()
    assert isinstance(error, ConfigurationError)
    assert error.exit_code == BrokerUnreachable.exit_code
    assert error.faults[0].startswith("many-4: no broker at")


async def test_cancelling_stops_all(folder: Path, broker: TestBroker) -> None:
    """Cancelling `run_exporters` closes the drivers of every exporter."""
    loaded = several(folder, broker, "many-6", "many-7")
    work = asyncio.create_task(run_exporters([hosted(each, broker.context(each.name), "if-held") for each in loaded]))
    with connect(context=broker.context("tester")) as lab:
        while {"many-6", "many-7"} - {each.name for each in await asyncio.to_thread(lab.exporters) if each.online}:
            assert not work.done()
    work.cancel()
    await asyncio.wait({work})
    assert [(folder / name).read_text() for name in ("many-6", "many-7")] == ["closed", "closed"]


def test_context_of(folder: Path) -> None:
    """--nats wins over the file's url, which wins over that in the credentials; without those there is no seed."""
    (loaded,) = load([write(folder, "a")])
    Context(url="nats://far:1", name="a", role="exporter", seed="S").save(folder / "creds" / "a.json")
    assert context_of(loaded, None, folder / "creds").url == "nats://far:1"
    assert context_of(loaded, "nats://near:2", folder / "creds" / "a.json").url == "nats://near:2"
    assert (
        context_of(loaded, None, None).seed,
        hosted(loaded, context_of(loaded, None, None), "required").spec.auth,
    ) == (
        "",
        False,
    )
    assert os.environ.get("JSNATS_URL") is None
