from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pexpect
import pytest

from jsnats.common.exceptions import DriverConnectionError
from jsnats.common.utils import serve, session_broker
from jsnats.sdk import connect_async
from jsnats_driver_network.adapters import PexpectAdapter
from jsnats_driver_network.driver import TcpNetwork
from jsnats_driver_network.testing import Talk, echo, refusing_port, tcp_service


@contextmanager
def spawned(talk: Talk, **options: Any) -> Iterator[Any]:
    """A pexpect spawn over a service on this machine."""
    with (
        tcp_service(talk) as port,
        serve(TcpNetwork(host="127.0.0.1", port=port)) as client,
        PexpectAdapter(client=client, options=options) as console,
    ):
        yield console


def shell(connection: socket.socket) -> None:
    """A board's shell: a prompt, and an answer to each line."""
    lines = connection.makefile("rw")
    lines.write("board$ ")
    lines.flush()
    for line in lines:
        if line == "exit\n":
            return
        lines.write(f"said: {line}board$ ")
        lines.flush()


def test_a_dialogue() -> None:
    """A prompt is waited for, a line is sent, its answer is found; the end is EOF."""
    with spawned(shell) as console:
        console.expect_exact("board$ ", timeout=10)
        console.sendline("uname")
        console.expect(rb"said: (\w+)", timeout=10)
        assert console.match.group(1) == b"uname"
        console.sendline("exit")
        assert console.expect([pexpect.EOF], timeout=10) == 0


def test_options_go_to_pexpect() -> None:
    """Such as an encoding."""
    with spawned(shell, encoding="utf-8", timeout=10) as console:
        console.expect_exact("board$ ")
        assert console.after == "board$ "


def test_a_lot_of_output() -> None:
    """Nothing of 3 MB is lost on the way to a reader that is slower."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"x" * 3_000_000 + b"done")
        echo(connection)

    with spawned(talk, maxread=1 << 20, searchwindowsize=10) as console:
        console.expect_exact(b"done", timeout=30)
        assert len(console.before) == 3_000_000


def test_a_service_that_is_not_there_is_told_at_once() -> None:
    """The block is not entered."""
    with (
        refusing_port() as port,
        serve(TcpNetwork(host="127.0.0.1", port=port)) as client,
        pytest.raises(DriverConnectionError, match="connection refused"),
    ):
        PexpectAdapter(client=client).__enter__()


def test_the_end_of_the_block_closes_it() -> None:
    """Nothing more can be read from the spawn."""
    with spawned(echo) as console:
        console.send("x")
        console.expect_exact("x", timeout=10)
    assert not console.isalive()


async def test_in_asyncio_code() -> None:
    """`async with`, and pexpect, which blocks, in a thread."""
    with tcp_service(shell) as port, serve(TcpNetwork(host="127.0.0.1", port=port)) as served:
        async with connect_async(context=session_broker().context("tester")) as lab:
            client = await lab.exporter(served.exporter)
            async with PexpectAdapter(client=client) as console:
                assert await asyncio.to_thread(console.expect_exact, ["board$ "], timeout=10) == 0


@pytest.mark.parametrize(
    ("adapter", "library", "extra"),
    [
        ("PexpectAdapter", "pexpect", "pexpect"),
        ("FabricAdapter", "fabric", "ssh"),
        ("NovncAdapter", "websockets", "novnc"),
    ],
)
def test_a_library_that_is_not_installed(adapter: str, library: str, extra: str) -> None:
    """Asking for an adapter without it says what to install."""
    code = f"import sys; sys.modules[{library!r}] = None; from jsnats_driver_network.adapters import {adapter}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    advice = f"{adapter} needs {library}: pip install 'jsnats-driver-network[{extra}]'"
    assert done.stderr.splitlines()[-1].endswith(f"ConfigurationError: {advice}")
