import json
import shutil
import socket
import subprocess
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from jsnats.agent.testing import AgentProcess
from jsnats.common.exceptions import DriverConnectionError, DriverOSError
from jsnats.common.utils import serve, session_broker
from jsnats.sdk import connect
from jsnats.testing import until
from jsnats_driver_network.adapters import TcpPortforwardAdapter
from jsnats_driver_network.testing import read_all
from jsnats_driver_probe_rs import turn
from jsnats_driver_probe_rs.client import ProbeRsClient
from jsnats_driver_probe_rs.driver import ProbeRs
from jsnats_driver_probe_rs.testing import Bench, elf, firmware, is_alive

missing = [each for each in ("gdb-multiarch", "qemu-system-arm") if not shutil.which(each)]
debugged = pytest.mark.skipif(bool(missing), reason=f"{' and '.join(missing)} not installed")


@pytest.fixture
def bench(tmp_path):
    """A stand-in for probe-rs, and its target."""
    return Bench(tmp_path)


@pytest.fixture
def client(bench):
    """The client of it, over a broker."""
    with serve(ProbeRs(probe_rs_path=str(bench.program), chip="LM3S6965")) as client:
        yield client


def run(client: ProbeRsClient, *arguments: str) -> str:
    """What `j probe ARGUMENTS` prints."""
    result = CliRunner().invoke(client.cli(), arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def gdb(address: tuple[str, int], *commands: str) -> str:
    """What a real gdb says, connected to there."""
    lines = (f"target remote {address[0]}:{address[1]}", *commands)
    argv = ["gdb-multiarch", "-nx", "-batch", *(word for line in lines for word in ("-ex", line))]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=50)
    return done.stdout + done.stderr


def test_flash_erase_and_read_over_a_broker(client, bench):
    """What is downloaded is in the flash, is read back, and is erased; progress is reported in percent."""
    assert isinstance(client, ProbeRsClient)
    told: list[dict[str, Any]] = []
    client.options(on_progress=told.append).download_file(elf(firmware()))
    assert client.read(32, 0, 3) == [0x20010000, 9, 0xE7FE202A]
    assert {("Programming", 100), ("Verifying", 100)} <= {(each["message"], each["done"]) for each in told}
    client.erase()
    assert client.read(8, 0, 2) == [255, 255]
    client.reset()
    assert bench.calls()[-1]["arguments"][0] == "reset"
    assert "Debug Port" in client.info()


def test_all_words_of_the_longest_read_arrive(client):
    """64 Ki words, however long the message."""
    assert client.read(32, 0x2000_0000, 1 << 14) == [0] * (1 << 14)
    assert len(client.read(8, 0, 1 << 16)) == 1 << 16


def test_commands(client, bench, tmp_path):
    """`j probe` does what the methods do, and prints what they return."""
    image = tmp_path / "firmware.bin"
    image.write_bytes(firmware())
    assert run(client, "download", "--base-address", "0x1000", str(image)) == ""
    assert run(client, "read", "b32", "0x1000", "5") == (
        "00001000: 20010000 00000009 e7fe202a ffffffff\n00001010: ffffffff\n"
    )
    assert json.loads(run(client, "read", "--json", "b16", "4096", "3")) == [0, 0x2001, 9]
    assert run(client, "info").endswith("Debug Port: DPv1, Designer: ARM Ltd\n")
    assert run(client, "reset") == run(client, "erase") == ""
    assert bench.flash()[0x1000:0x1004] == b"\xff" * 4
    assert "is no number" in CliRunner().invoke(client.cli(), ["read", "b8", "zero", "1"]).stderr


def test_errors_arrive_as_what_they_are(client, bench):
    """No probe is a DriverConnectionError, a flash that does not hold is a DriverOSError."""
    bench.break_by("no probe")
    with pytest.raises(DriverConnectionError, match="exit code 1.*No connected probes"):
        client.reset()
    bench.break_by("bad flash")
    with pytest.raises(DriverOSError, match="contents do not match"):
        client.download_file(firmware())


def test_rtt_is_read_until_one_leaves(client, bench, monkeypatch):
    """Lines come while the target runs; the probe is refused to others until then, and is free right behind it."""
    monkeypatch.setattr(turn, "GOING_S", 0.02)
    pieces = client.attach(elf(firmware()))
    said = next(pieces)
    while "beat 2\n" not in said:
        said += next(pieces)
    assert said == "beat 0\nbeat 1\nbeat 2\n"
    with pytest.raises(DriverConnectionError, match="attach has the probe: end it first"):
        client.reset()
    monkeypatch.undo()
    pieces.close()
    client.reset()
    assert not bench.is_running()


def test_firmware_that_panics_is_an_error(client, bench, tmp_path):
    """After all it has said; `j probe attach` prints that and fails."""
    bench.break_by("panics")
    said: list[str] = []
    with pytest.raises(DriverOSError, match=r"attach failed \(exit code 1\): Error: Exception"):
        said.extend(client.attach(elf(firmware())))
    assert "".join(said).endswith("beat 2\nFirmware exited unexpectedly: Exception\n")


@debugged
def test_a_real_gdb_debugs_a_real_core(client, bench):
    """gdb, through a forward, steps a Cortex-M3 through what was downloaded; when it leaves its server is gone."""
    client.download_file(elf(firmware()))
    with TcpPortforwardAdapter(client=client) as address:
        for _ in range(2):
            said = gdb(address, "stepi", "print $r0", "x/xw 4", "detach")
            assert "$1 = 42\n" in said, said
            assert "0x4:\t0x00000009" in said
            client.reset()  # at once: the probe is free
    assert [each["arguments"][0] for each in bench.calls()] == ["download", "gdb", "reset", "gdb", "reset"]
    assert not bench.is_running()


@debugged
def test_a_server_that_starts_slowly_gets_each_packet_once(client, bench):
    """gdb asks again every 2 s while probe-rs attaches; two answers would confuse it."""
    bench.break_by("slow")
    with TcpPortforwardAdapter(client=client) as address:
        said = gdb(address, "print $pc", "detach")
    assert "$1 = (void (*)()) 0x" in said, said


@debugged
def test_one_gdb_at_a_time(client, bench, monkeypatch, caplog):
    """While it has the probe another one and commands are refused; a killed one frees it."""
    with TcpPortforwardAdapter(client=client) as address, socket.create_connection(address) as first:
        first.sendall(b"+$?#3f")
        assert first.recv(1) == b"+"
        with monkeypatch.context() as patch:
            patch.setattr(turn, "GOING_S", 0.02)
            with socket.create_connection(address) as second, pytest.raises(ConnectionResetError):
                second.recv(1)
            with pytest.raises(DriverConnectionError, match="gdb has the probe: end it first"):
                client.erase()
        server = bench.pid()
        assert is_alive(server)
    client.reset()
    assert not is_alive(server)
    assert "gdb has the probe" in caplog.text


@debugged
def test_a_server_that_dies_is_a_reset(client, bench, caplog):
    """Not an end, and the log of the forward says what has happened."""
    with TcpPortforwardAdapter(client=client) as address, socket.create_connection(address) as local:
        local.sendall(b"+$?#3f")
        assert local.recv(1) == b"+"
        subprocess.run(["kill", "-KILL", str(bench.pid())], check=True)
        with pytest.raises(ConnectionResetError):
            read_all(local)
    assert "probe-rs gdb failed (exit code 137)" in caplog.text


@pytest.mark.parametrize(("fault", "told"), [("no target", "unsuccessful"), ("port taken", "Address already in use")])
def test_a_server_that_does_not_start_says_why(client, bench, fault, told):
    """Also where probe-rs ends with exit code 0."""
    bench.break_by(fault)
    with pytest.raises(DriverConnectionError, match=f"probe-rs gdb .*{told}"), client.stream() as stream:
        stream.receive()


def test_a_server_that_does_not_come_is_given_up(bench):
    """After `timeout`, and it is gone then."""
    bench.break_by("hangs")
    with (
        serve(ProbeRs(probe_rs_path=str(bench.program), timeout=1.0)) as client,
        pytest.raises(TimeoutError, match="probe-rs gdb did not serve within 1 s"),
        client.stream() as stream,
    ):
        stream.receive()
    assert not bench.is_running()


@contextmanager
def agent(name):
    """An agent in a process of its own, with probe-rs on its PATH; yields it and the client."""
    broker = session_broker()
    broker.add("exporter", name)
    kind = "jsnats_driver_probe_rs.driver:ProbeRs"
    with (
        AgentProcess(name, broker.context_path(name), kind) as process,
        connect(context=broker.context("tester")) as lab,
    ):
        yield process, lab.exporter(name)


def test_nothing_outlives_an_agent_that_is_killed(bench, monkeypatch):
    """SIGKILL of the agent is the end of probe-rs."""
    monkeypatch.setenv("PATH", str(bench.folder), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(bench.folder))
    with agent("killed") as (process, client):
        pieces = client.attach(elf(firmware()))
        assert next(pieces).startswith("beat 0")
        assert is_alive(bench.pid())
        process.kill()
        until(lambda: not is_alive(bench.pid()))
        with pytest.raises(Exception, match="killed"):
            next(pieces)
