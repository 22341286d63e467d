"""`install --systemd`: the units, read by systemd itself and run as it would run them."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from jsnats.agent.cli import agent_app
from jsnats.broker.cli_scheduler import scheduler_app
from jsnats.broker.testing import TestBroker

EXPORTER = "name: {name}\nexport:\n  power: {{type: MockPower}}\n"


@pytest.fixture
def exporters(tmp_path: Path) -> list[Path]:
    """Two files of exporters; the name of one would mean something to systemd."""
    files = [tmp_path / "bench 1 50%.yaml", tmp_path / "bench-2.yaml"]
    for number, file in enumerate(files, 1):
        file.write_text(EXPORTER.format(name=f"bench-{number}"))
        (tmp_path / f"bench-{number}.json").write_text("{}")
    return files


def install(app: object, *words: object) -> Result:
    """Run `install` of a part."""
    return CliRunner().invoke(app, ["install", *map(str, words)])  # type: ignore[arg-type]


def verify(unit: Path) -> None:
    """Let systemd read a unit."""
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("systemd-analyze is not here")
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


def test_the_unit_of_an_agent_is_what_systemd_takes(tmp_path: Path, exporters: list[Path]) -> None:
    """With the credential of each exporter, which only root need be able to read."""
    done = install(agent_app, "--systemd", *exporters, "--credentials", tmp_path, "--output", tmp_path)
    assert done.exit_code == 0, done.output
    unit = tmp_path / "jsnats-agent.service"
    text = unit.read_text()
    assert f"LoadCredential=bench-1.json:{tmp_path}/bench-1.json\n" in text
    assert f'"{tmp_path}/bench 1 50%%.yaml" {tmp_path}/bench-2.yaml --credentials ${{CREDENTIALS_DIRECTORY}}\n' in text
    assert "systemctl enable --now jsnats-agent" in done.output
    verify(unit)


def test_the_unit_of_a_scheduler_is_what_systemd_takes(tmp_path: Path) -> None:
    """With its credential and its policy."""
    files = [tmp_path / "scheduler.json", tmp_path / "policy.yaml"]
    for file in files:
        file.touch()
    done = install(scheduler_app, "--systemd", "--context", files[0], "--policy", files[1], "--output", tmp_path)
    assert done.exit_code == 0, done.output
    verify(tmp_path / "jsnats-scheduler.service")


def test_what_cannot_be_installed_is_said(tmp_path: Path, exporters: list[Path]) -> None:
    """No folder to write to, nothing chosen, no credential: one line each."""
    for app, words, told in (
        (agent_app, ["--systemd", exporters[0], "--output", tmp_path / "none"], "cannot write .*No such file"),
        (agent_app, [exporters[0], "--output", tmp_path], "--systemd is what there is"),
        (scheduler_app, ["--systemd", "--output", tmp_path], "a scheduler needs a credential"),
        (scheduler_app, ["--systemd", "--context", tmp_path / "none.json"], "no context file .*none.json"),
    ):
        done = install(app, *words)
        assert done.exit_code != 0
        assert re.search(told, done.output + str(done.exception))


def test_the_agent_of_a_unit_says_when_it_is_ready(tmp_path: Path, exporters: list[Path], broker: TestBroker) -> None:
    """Its command, run as systemd runs it, tells READY and the watchdog, and stops at SIGTERM with 0."""
    broker.add("exporter", "bench-2")
    install(agent_app, "--systemd", exporters[1], "--output", tmp_path)
    (line,) = re.findall(r"^ExecStart=(.*)$", (tmp_path / "jsnats-agent.service").read_text(), re.MULTILINE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000", "HOME": str(tmp_path)}
        credentials = ["--credentials", str(broker.context_path("bench-2"))]
        with subprocess.Popen(shlex.split(line) + credentials, env=environment, stderr=subprocess.DEVNULL) as agent:
            assert [systemd.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(30) == 0
