"""Programs that people run over a forward: ssh, iperf3, busctl. What is not installed is skipped."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jsnats.common.utils import serve
from jsnats_driver_network.adapters import FabricAdapter, TcpPortforwardAdapter
from jsnats_driver_network.driver import DbusNetwork, TcpNetwork
from jsnats_driver_network.testing import SSHD, SshBoard, sshd


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip without them."""
    missing = [each for each in programs if shutil.which(each) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SshBoard]:
    """A real sshd with keys of its own."""
    if not SSHD:
        pytest.skip("sshd is not installed")
    with sshd(tmp_path) as board:
        yield board


@contextmanager
def forwarded(port: int) -> Iterator[tuple[str, int]]:
    """The address of a forward to a port of this machine."""
    with serve(TcpNetwork(host="127.0.0.1", port=port)) as client, TcpPortforwardAdapter(client=client) as address:
        yield address


def ssh(board: SshBoard, address: tuple[str, int], *words: str) -> list[str]:
    """The command line of ssh to an address, without the configuration of this user."""
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
    flags = [flag for option in options for flag in ("-o", option)]
    return ["ssh", "-F", "none", *flags, "-i", str(board.key), "-p", str(address[1]), address[0], *words]


@needs("ssh")
def test_ssh_over_a_forward(board: SshBoard) -> None:
    """A command runs on the board, with its input, its output and its exit code."""
    with forwarded(board.port) as address:
        command = ssh(board, address, "read word; echo got $word; exit 7")
        done = subprocess.run(command, input="it\n", capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("got it\n", "", 7)


@needs("ssh")
def test_files_over_ssh(board: SshBoard) -> None:
    """8 MiB come back as they went."""
    data = os.urandom(8 << 20)
    with forwarded(board.port) as address:
        done = subprocess.run(ssh(board, address, "cat"), input=data, capture_output=True, timeout=30, check=True)
    assert done.stdout == data


def test_fabric(board: SshBoard) -> None:
    """A Fabric connection runs commands, and may be closed and opened again."""
    with serve(TcpNetwork(host="127.0.0.1", port=board.port)) as client:
        keys = {"key_filename": str(board.key), "look_for_keys": False, "allow_agent": False}
        with FabricAdapter(client=client, user=getpass.getuser(), connect_kwargs=keys) as connection:
            assert connection.run("echo board", hide=True, in_stream=False).stdout == "board\n"
            connection.close()
            assert connection.run("exit 3", hide=True, warn=True, in_stream=False).exited == 3


@needs("iperf3")
@pytest.mark.parametrize("direction", [[], ["--reverse"]], ids=["up", "down"])
def test_iperf3_over_a_forward(direction: list[str]) -> None:
    """Four connections and their control connection at once; it is content with what it measured."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = subprocess.Popen(
        ["iperf3", "-s", "-1", "--forceflush", "-p", str(port)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout
    with server, forwarded(port) as address:
        next(line for line in server.stdout if f"listening on {port}" in line)
        command = ["iperf3", "-c", address[0], "-p", str(address[1]), "-n", "32M", "-P", "4", "-J", *direction]
        done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
        assert done.returncode == 0, done.stdout
        assert server.wait(10) == 0
        server.stdout.read()
    # Up, its server stops reading when the client has sent: how much has arrived by then depends on the windows.
    assert json.loads(done.stdout)["end"]["sum_received"]["bytes"] > 0


@needs("dbus-daemon", "busctl")
def test_a_bus_of_the_exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """busctl, started inside the block, lists who is on the exporter's bus."""
    policy = '<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>'
    (tmp_path / "bus.conf").write_text(
        f"<busconfig><type>session</type><listen>unix:path={tmp_path}/bus</listen><auth>EXTERNAL</auth>"
        f'<policy context="default">{policy}</policy></busconfig>'
    )
    command = ["dbus-daemon", f"--config-file={tmp_path}/bus.conf", "--nofork", "--print-address=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", daemon.stdout.readline().strip())
        with serve(DbusNetwork(kind="session")) as client, client:
            done = subprocess.run(["busctl", "--user", "list"], capture_output=True, text=True, timeout=20, check=False)
        daemon.terminate()
    assert done.returncode == 0, done.stderr
    assert "org.freedesktop.DBus" in done.stdout
