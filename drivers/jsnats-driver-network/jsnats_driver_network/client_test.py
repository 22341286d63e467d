import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner

from jsnats.common.exceptions import DriverConnectionError, DriverTimeout
from jsnats.common.utils import serve, session_broker
from jsnats.sdk import BlockingStream, StreamReset, connect_async
from jsnats_driver_network.client import DbusNetworkClient, NetworkClient
from jsnats_driver_network.dbus import parse
from jsnats_driver_network.driver import DbusNetwork, EchoNetwork, TcpNetwork, UdpNetwork, UnixNetwork, WebsocketNetwork
from jsnats_driver_network.testing import (
    echo_at_end,
    hanging,
    read_all,
    refusing_port,
    reset,
    tcp_service,
    udp_echo,
    unix_service,
    websocket_service,
)


@pytest.fixture
def j(tmp_path):
    """Start `j` with these words against the exporter of a client, and end it with Ctrl-C."""
    processes = []

    def start(client, *words):
        environment = os.environ | {
            "JSNATS_EXPORTER": client.exporter,
            "JSNATS_CONTEXT": str(session_broker().context_path("tester")),
        }
        command = [Path(sys.executable).with_name("j"), *words]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_tcp_both_ways_and_half_close():
    """A client's bytes come back after it has said that these were all."""
    with tcp_service(echo_at_end) as port, serve(TcpNetwork(host="127.0.0.1", port=port)) as client:
        assert isinstance(client, NetworkClient)
        with client.stream() as stream:
            assert not stream.messages
            stream.send(b"all ")
            stream.send(b"of it")
            stream.send_eof()
            assert b"".join(iter_stream(stream)) == b"all of it"


def test_datagrams_keep_their_boundaries_through_the_lab():
    """Each comes back as it was sent, an empty and a large one too."""
    with udp_echo() as port, serve(UdpNetwork(host="127.0.0.1", port=port)) as client, client.stream() as stream:
        assert stream.messages
        for datagram in (b"one", b"", b"x" * 8000):
            stream.send(datagram)
            assert stream.receive(timeout_s=10) == datagram


def test_websocket_messages_keep_their_boundaries_through_the_lab():
    """Larger ones than fit into a message of the broker, too; its end is the stream's end."""

    def talk(connection):
        for message in connection:
            connection.send(message)
            if message == b"end":
                return

    with (
        websocket_service(talk, max_size=None) as port,
        serve(WebsocketNetwork(url=f"ws://127.0.0.1:{port}")) as client,
        client.stream() as stream,
    ):
        for message in (b"a", b"b" * 2_000_000, b"", b"end"):
            stream.send(message)
            assert stream.receive(timeout_s=10) == message
        with pytest.raises(anyio.EndOfStream):
            stream.receive(timeout_s=10)


def test_a_socket_of_the_exporters_host(tmp_path):
    """Reached by who has never heard of that host."""
    path = str(tmp_path / "monitor")
    with unix_service(path, echo_at_end), serve(UnixNetwork(path=path)) as client, client.stream() as stream:
        stream.send(b"status")
        stream.send_eof()
        assert stream.receive(timeout_s=10) == b"status"


def test_echo_through_the_lab():
    """Every message is one."""
    with serve(EchoNetwork()) as client, client.stream() as stream:
        for message in (b"one", b"", b"two"):
            stream.send(message)
        assert [stream.receive(timeout_s=10) for _ in range(3)] == [b"one", b"", b"two"]


def test_a_service_that_is_not_there():
    """Opening the stream raises what the driver found, each time anew."""
    with refusing_port() as port, serve(TcpNetwork(host="127.0.0.1", port=port)) as client:
        for _ in range(2):
            with pytest.raises(DriverConnectionError, match=f"cannot connect to 127.0.0.1:{port}: connection refused"):
                client.open_stream()


def test_a_service_that_says_nothing():
    """A connection that hangs is a timeout of the driver."""
    with (
        hanging() as port,
        serve(TcpNetwork(host="127.0.0.1", port=port, connect_timeout=0.2)) as client,
        pytest.raises(DriverTimeout, match="did not answer within 0.2 s"),
    ):
        client.open_stream()


def test_a_service_that_dies_resets_the_stream():
    """The far end's reset is a reset here, with its reason, and not an end."""

    with (
        tcp_service(reset) as port,
        serve(TcpNetwork(host="127.0.0.1", port=port)) as client,
        client.stream() as stream,
    ):
        stream.send(b"x")
        with pytest.raises(StreamReset, match="far end"):
            stream.receive(timeout_s=10)


async def test_streams_of_asyncio_code():
    """The same over `connect_async`."""
    with tcp_service(echo_at_end) as port, serve(TcpNetwork(host="127.0.0.1", port=port)) as served:
        async with connect_async(context=session_broker().context("tester")) as lab:
            client = await lab.exporter(served.exporter)
            async with client.stream_async() as stream:
                await stream.send(b"all of it")
                await stream.send_eof()
                assert b"".join([chunk async for chunk in stream]) == b"all of it"


def test_a_bus_is_that_of_this_process(tmp_path, monkeypatch):
    """Inside the block the environment leads to the exporter's bus, after it to what it led to before."""
    path = str(tmp_path / "bus")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={path}")
    with unix_service(path), serve(DbusNetwork(kind="session")) as client:
        assert isinstance(client, DbusNetworkClient)
        with client:
            ((_, values),) = parse(os.environ["DBUS_SESSION_BUS_ADDRESS"])
            assert values["path"] != path
            with socket.socket(socket.AF_UNIX) as bus:
                bus.connect(values["path"])
                bus.sendall(b"AUTH")
                assert bus.recv(100) == b"AUTH"
        assert os.environ["DBUS_SESSION_BUS_ADDRESS"] == f"unix:path={path}"
        monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
        with client:
            assert "DBUS_SESSION_BUS_ADDRESS" in os.environ
        assert "DBUS_SESSION_BUS_ADDRESS" not in os.environ
        assert not Path(values["path"]).exists()


def test_forward_tcp_from_the_shell(j):
    """`j forward-tcp 0` prints where it listens, forwards, and ends on Ctrl-C without a message."""
    with tcp_service(echo_at_end) as port, serve(TcpNetwork(host="127.0.0.1", port=port)) as client:
        process = j(client, "forward-tcp", "0")
        host, _, bound = process.stdout.readline().strip().rpartition(":")
        assert host == "127.0.0.1"
        with socket.create_connection((host, int(bound))) as local:
            local.sendall(b"all of it")
            local.shutdown(socket.SHUT_WR)
            assert read_all(local) == b"all of it"
        process.send_signal(signal.SIGINT)
        assert process.communicate() == ("", "\n")  # click ends the line of the ^C
        assert process.returncode == 130


def test_ctrl_c_closes_open_connections(j):
    """Who is connected sees the end at once."""
    with tcp_service() as port, serve(TcpNetwork(host="127.0.0.1", port=port)) as client:
        process = j(client, "forward-tcp", "0", "--address", "127.0.0.1")
        bound = int(process.stdout.readline().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", bound)) as local:
            local.sendall(b"x")
            assert local.recv(1) == b"x"
            process.send_signal(signal.SIGINT)
            with pytest.raises(ConnectionResetError):
                local.recv(1)


def test_forward_unix_from_the_shell(j, tmp_path):
    """`j forward-unix PATH` listens there; Ctrl-C removes the socket."""
    with tcp_service() as port, serve(TcpNetwork(host="127.0.0.1", port=port)) as client:
        path = tmp_path / "board"
        process = j(client, "forward-unix", str(path))
        assert process.stdout.readline() == f"{path}\n"
        with socket.socket(socket.AF_UNIX) as local:
            local.connect(str(path))
            local.sendall(b"x")
            assert local.recv(1) == b"x"
        process.send_signal(signal.SIGINT)
        process.wait()
        assert not path.exists()


def test_a_port_in_use_is_told_in_one_line(j):
    """With what to do, and the exit code of a wrong argument."""
    with tcp_service() as port, serve(EchoNetwork()) as client:
        process = j(client, "forward-tcp", str(port))
        assert process.communicate() == (
            "",
            f"error: cannot listen on 127.0.0.1:{port}: somebody else does; choose another, or port 0 for a free one\n",
        )
        assert process.returncode == 2


def test_a_refused_connection_is_told_in_one_line(j):
    """The command goes on: the board may come up later."""
    with refusing_port() as port, serve(TcpNetwork(host="127.0.0.1", port=port)) as client:
        process = j(client, "forward-tcp", "0")
        bound = int(process.stdout.readline().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", bound)) as local, pytest.raises(ConnectionResetError):
            local.recv(1)
        line = process.stderr.readline()
        assert line.endswith(f"connect: cannot connect to 127.0.0.1:{port}: connection refused\n")
        assert process.poll() is None


def test_the_help_tells_the_commands():
    """Both, with what they do."""
    with serve(EchoNetwork()) as client:
        shown = CliRunner().invoke(client.cli(), ["--help"]).output
    assert "forward-tcp" in shown
    assert "forward-unix" in shown


def iter_stream(stream: BlockingStream) -> Iterator[bytes]:
    """Everything until the end."""
    while True:
        try:
            yield stream.receive(timeout_s=10)
        except anyio.EndOfStream:
            return


README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize(
    "code", re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL), ids=["use", "adapter", "own"]
)
def test_the_readme_tells_the_truth(code, capsys):
    """Its Python runs, and prints what was sent."""
    exec(compile(code, str(README), "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out in ("b'hello'\n", "")
