from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jsnats.broker import LabDir
from jsnats.broker.cli import auth_app, broker_app
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.schemas import ConfigurationError
from jsnats.sdk import Context


def auth(*args: str | Path):
    """Run `jsnats auth`."""
    return CliRunner().invoke(auth_app, [str(arg) for arg in args])


def test_add_list_revoke(tmp_path: Path) -> None:
    """Somebody added is listed, has a context file where asked for, and is gone after revoke."""
    out = tmp_path / "ann.json"
    assert auth("add", "user", "ann", "--dir", tmp_path / "lab", "--output", out).stdout.strip() == str(out)
    assert Context.load(out).role == "user"
    assert auth("add", "admin", "root", "--dir", tmp_path / "lab").exit_code == 0
    rows = json.loads(auth("ls", "--json", "--dir", tmp_path / "lab").output)
    assert {row["name"]: row["role"] for row in rows} == {"ann": "user", "broker": "admin", "root": "admin"}
    assert auth("revoke", "ann", "--dir", tmp_path / "lab").exit_code == 0
    assert "ann" not in auth("ls", "--dir", tmp_path / "lab").output


def test_a_lab_that_add_makes_is_told(tmp_path: Path) -> None:
    """Once, on stderr, so that a directory that was mistyped is seen; what it prints is the context file alone."""
    first, second = (auth("add", "user", "ann", "--dir", tmp_path / "lab") for _ in range(2))
    assert (first.exit_code, first.stderr) == (0, f"made a new lab in {tmp_path / 'lab'}\n")
    assert (first.stdout, "") == (second.stdout, second.stderr)
    assert len(first.stdout.splitlines()) == 1


def test_errors_are_one_line(tmp_path: Path) -> None:
    """A mistake gives one line on stderr and the error's exit code."""
    result = auth("revoke", "ann", "--dir", tmp_path)
    assert result.exit_code == 2
    assert len(auth("add", "exporter", "a.b", "--dir", tmp_path).stderr.splitlines()) == 1


@pytest.mark.parametrize("role", ["user", "site"])
def test_an_output_that_cannot_be_changes_nothing(tmp_path: Path, role: str) -> None:
    """A folder that is not there is to be made by hand; the line names the file, and nobody was let in."""
    for path, why in ((tmp_path / "none" / "x.json", "make the folder"), (tmp_path, "it is a folder")):
        result = auth("add", role, "ann", "--dir", tmp_path / "lab", "--output", path)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert f"cannot write {path}: {why}" in result.stderr
        assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """And no temporary one, of which nothing is left."""
    path = tmp_path / "here" / ("x" * 300)
    path.parent.mkdir()
    result = auth("add", "user", "ann", "--dir", tmp_path / "lab", "--output", path)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, f"error: cannot write {path}: File name too long")
    assert list(path.parent.iterdir()) == []


def test_a_secret_that_cannot_be_put_in_place_is_gone(tmp_path: Path) -> None:
    """It does not lie there under a name that nobody looks for."""
    with pytest.raises(ConfigurationError, match=f"cannot write {tmp_path}/lab: Is a directory"):
        (tmp_path / "lab").mkdir()
        Context(url="nats://lab", name="ann", seed="secret").save(tmp_path / "lab")
    assert [each.name for each in tmp_path.iterdir()] == ["lab"]


def test_bad_store_size(tmp_path: Path) -> None:
    """A size that is none is refused before anything starts."""
    result = CliRunner().invoke(broker_app, ["run", "--dir", str(tmp_path), "--store-size", "lots"])
    assert (result.exit_code, "like 500M" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--port", "70000"),
        ("run", "--mqtt", "-1"),
        *(("config", option, "65536") for option in ("--monitor", "--mqtt", "--websocket", "--leafnodes")),
    ],
)
def test_bad_port(tmp_path: Path, words: tuple[str, ...]) -> None:
    """A port that is none is refused in one line that names the option, before anything is made."""
    result = CliRunner().invoke(broker_app, [*words, "--dir", str(tmp_path / "lab")])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert f"{words[1]} {words[2]}: there is no such port" in result.stderr
    assert not (tmp_path / "lab").exists()


def test_a_lab_that_runs_is_not_given_to_other_servers(tmp_path: Path) -> None:
    """`broker config` would lead new credentials to servers that are not there: it is refused, and changes nothing."""
    with running_broker(tmp_path) as broker:
        before = broker.inner.lab.settings()
        result = CliRunner().invoke(broker_app, ["config", "--dir", str(tmp_path)])
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert "stop it first" in result.stderr
        assert (broker.inner.lab.settings(), broker.inner.lab.outside()) == (before, None)


def test_df(broker: TestBroker) -> None:
    """df shows each stream of a running lab."""
    plain = CliRunner().invoke(broker_app, ["df", "--dir", str(broker.directory)])
    assert "JSNATS_CONSOLE" in plain.output
    rows = json.loads(CliRunner().invoke(broker_app, ["df", "--json", "--dir", str(broker.directory)]).output)
    assert {row["stream"]: row["max_bytes"] for row in rows}["JSNATS_BLOBS"] == 500_000_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_prints_where_it_is_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """`broker run` says its address and ends with 0 and no complaint on Ctrl-C or SIGTERM."""
    code = "from jsnats.broker.cli import broker_app; broker_app()"
    command = [sys.executable, "-c", code, "run", "--dir", tmp_path, "--port", "0", "--store-size", "50M"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("broker     nats://127.0.0.1:")
        process.stdout.readline(), process.stdout.readline()
        assert process.stdout.readline().startswith(f"next       jsnats auth add user NAME --dir {tmp_path} ")
        process.send_signal(number)
        _, complaints = process.communicate(timeout=20)
    assert (process.returncode, complaints) == (0, "")


def test_what_to_do_next_is_said_for_that_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --dir, so that it can be copied; without for the lab of this user."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert LabDir().option == LabDir(tmp_path / "jsnats" / "lab").option == ""
    assert LabDir(tmp_path / "my lab").option == f" --dir '{tmp_path}/my lab'"


def test_help_loads_no_nats() -> None:
    """The commands can be listed without loading the NATS client or the crypto library."""
    code = "import sys, jsnats.broker.cli; print([m for m in ('nats', 'nkeys', 'asyncio') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
