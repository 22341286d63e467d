from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import nats
import pytest

from jsnats.broker import LabDir, nats_server_binary, run_broker
from jsnats.broker._lock import is_running
from jsnats.schemas import AccessDenied, BrokerUnfit, ConfigurationError
from jsnats.sdk import open_connection

TOTAL = 50_000_000
RUN = f"""
import asyncio, sys
from jsnats.broker import run_broker
async def main():
    async with run_broker(sys.argv[1], total_bytes={TOTAL}) as broker:
        print(broker.process.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_port_in_use(tmp_path: Path) -> None:
    """A port that somebody else holds is named in one line that offers another."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BrokerUnfit, match=f"127.0.0.1:{port} is in use: .*--port"):
            async with run_broker(tmp_path, port=port, total_bytes=TOTAL):
                pass


async def test_port_of_another_nats_server(tmp_path: Path) -> None:
    """Another NATS server on the port is not taken for ours."""
    async with run_broker(tmp_path / "one", total_bytes=TOTAL) as one:
        with pytest.raises(BrokerUnfit, match="in use"):
            async with run_broker(tmp_path / "two", port=one.process.config.port, total_bytes=TOTAL):
                pass


async def test_address_of_another_host(tmp_path: Path) -> None:
    """An address that this host does not have is refused before anything starts."""
    with pytest.raises(ConfigurationError, match="cannot listen on 192.0.2.1"):
        async with run_broker(tmp_path, listen="192.0.2.1", total_bytes=TOTAL):
            pass


async def test_options_that_fail_are_not_kept(tmp_path: Path) -> None:
    """The next run without options is as if there had been no such run, and so are the credentials handed out."""
    lab = LabDir(tmp_path)
    async with run_broker(tmp_path, total_bytes=TOTAL):
        before, context = lab.settings(), lab.context("broker")
    with pytest.raises(BrokerUnfit, match="did not start"):
        async with run_broker(tmp_path, listen="192.0.2.1", port=4222, mqtt=1883, total_bytes=2 * TOTAL, sync="10s"):
            pass
    assert (lab.settings(), lab.context("broker")) == (before, context)
    async with run_broker(tmp_path, port=None) as broker:
        assert broker.process.config.port == before.port


def test_binary_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named binary that is missing is an error that names it; none at all says what to install."""
    monkeypatch.setenv("JSNATS_NATS_SERVER", str(tmp_path / "absent"))
    with pytest.raises(BrokerUnfit, match="absent"):
        nats_server_binary()
    monkeypatch.delenv("JSNATS_NATS_SERVER")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(BrokerUnfit, match=r"jsnats\[broker\]"):
        nats_server_binary()


@pytest.mark.parametrize(
    ("text", "reason"), [("#!/bin/sh\necho hello\n", "is no nats-server"), ("no program", "cannot run")]
)
async def test_binary_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str) -> None:
    """A program that is no nats-server is refused before it is given a lab."""
    fake = tmp_path / "fake"
    fake.write_text(text)
    fake.chmod(0o755)
    monkeypatch.setenv("JSNATS_NATS_SERVER", str(fake))
    with pytest.raises(BrokerUnfit, match=reason):
        async with run_broker(tmp_path / "lab", total_bytes=TOTAL):
            pass


async def test_killed_server_comes_back_with_its_data(tmp_path: Path, connect) -> None:
    """After SIGKILL the server is back on its port, a client reconnects by itself, and what was stored is there."""
    async with run_broker(tmp_path, total_bytes=TOTAL) as broker:
        nc = await connect(broker.context())
        await nc.request("$KV.jsnats_tree.rack1", b"tree")
        back = asyncio.Event()

        async def note() -> None:
            back.set()

        nc.on_reconnect.append(note)
        before = broker.process.pid
        await broker.kill()
        assert broker.process.pid != before
        async with asyncio.timeout(20):
            await back.wait()
        kept = await nc.request("$JS.API.DIRECT.GET.KV_jsnats_tree.$KV.jsnats_tree.rack1")
        assert kept.data == b"tree"


async def test_restart_keeps_port_and_data(tmp_path: Path, connect) -> None:
    """An orderly restart serves on the same port with the same store."""
    async with run_broker(tmp_path, total_bytes=TOTAL) as broker:
        nc = await connect(broker.context())
        await nc.request("$KV.jsnats_tree.rack1", b"tree")
        await nc.close()
        await broker.restart()
        again = await connect(broker.context())
        kept = await again.request("$JS.API.DIRECT.GET.KV_jsnats_tree.$KV.jsnats_tree.rack1")
        assert kept.data == b"tree"


async def test_second_broker_on_a_directory_is_refused(tmp_path: Path) -> None:
    """Two brokers cannot share a lab: the second names the pid of the first, and the first goes on."""
    async with run_broker(tmp_path, total_bytes=TOTAL) as broker:
        with pytest.raises(ConfigurationError, match=rf"already running \(pid {os.getpid()}\)"):
            async with run_broker(tmp_path, total_bytes=TOTAL):
                pass
        assert broker.process.ready.is_set()


async def test_server_ends_with_the_block(tmp_path: Path) -> None:
    """Leaving the block stops the server, and the lab can be run again."""
    async with run_broker(tmp_path, total_bytes=TOTAL) as broker:
        pid = broker.process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    async with run_broker(tmp_path, total_bytes=TOTAL) as broker:
        assert broker.process.pid != pid


def test_server_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """SIGKILL of the process that runs the broker takes nats-server with it; the lab is locked until it is gone."""
    with subprocess.Popen([sys.executable, "-c", RUN, tmp_path], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        server = os.pidfd_open(pid)
        os.kill(pid, signal.SIGSTOP)  # it cannot go before we looked
        parent.kill()
    try:
        assert is_running(tmp_path / "lab.lock")
        os.kill(pid, signal.SIGCONT)
        assert select.select([server], [], [], 15)[0], "nats-server outlived its parent"
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(server, signal.SIGKILL)
        os.close(server)
    assert not is_running(tmp_path / "lab.lock")


def test_lab_of_a_killed_parent_can_be_run_again_at_once(tmp_path: Path) -> None:
    """A new broker waits for the server that a killed one left behind, instead of refusing."""
    with subprocess.Popen([sys.executable, "-c", RUN, tmp_path], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        parent.stdout.readline()
        parent.kill()

    async def run_again() -> None:
        async with run_broker(tmp_path, total_bytes=TOTAL):
            pass

    asyncio.run(run_again())


async def test_revoke_disconnects_at_once(tmp_path: Path, connect) -> None:
    """A revoked client loses its connection and gets no other; the others notice nothing."""
    async with run_broker(tmp_path, total_bytes=TOTAL) as broker:
        context, admin = await broker.add("user", "ann"), await connect(broker.context())
        gone = asyncio.Event()

        async def note() -> None:
            gone.set()

        ann = await nats.connect(context.url, nkeys_seed_str=context.seed, disconnected_cb=note, allow_reconnect=False)
        await broker.revoke("ann")
        async with asyncio.timeout(2):
            await gone.wait()
        with pytest.raises(AccessDenied):
            await open_connection(context)
        await ann.close()
        assert admin.connected.is_set()


async def test_added_principal_can_connect_at_once(tmp_path: Path, connect) -> None:
    """Who is added by another process while the broker runs can connect when `add` has returned."""
    async with run_broker(tmp_path, total_bytes=TOTAL):
        context = await asyncio.to_thread(LabDir(tmp_path).add, "exporter", "rack9")
        assert (await connect(context)).connected.is_set()


async def test_refused_configuration_is_said(tmp_path: Path) -> None:
    """A reload that the server refuses is an error, not silence."""
    async with run_broker(tmp_path, total_bytes=TOTAL) as broker:
        path = tmp_path / "auth.json"
        data = json.loads(path.read_text())
        data["principals"][0]["key"] = "no key"
        path.write_text(json.dumps(data))
        with pytest.raises(BrokerUnfit, match="refused its new configuration"):
            await broker.add("user", "ann")


async def test_without_auth(tmp_path: Path, connect) -> None:
    """A broker without auth serves a client that has no credential."""
    async with run_broker(tmp_path, total_bytes=TOTAL, auth=False) as broker:
        nc = await connect(broker.context("ann"))
        assert not nc.context.seed
        assert b'"seq"' in (await nc.request("jsnats.event.lab.x", b"{}")).data


@pytest.mark.parametrize("listen", ["0.0.0.0", "::"])
async def test_without_auth_only_on_loopback(tmp_path: Path, listen: str) -> None:
    """Listening for the network without credentials is refused."""
    with pytest.raises(ConfigurationError, match="without credentials is refused"):
        async with run_broker(tmp_path, listen=listen, port=4222, auth=False):
            pass


async def test_credentials_for_the_network(tmp_path: Path, connect) -> None:
    """A broker that listens everywhere gives out credentials with the name of this host, and is reached locally."""
    async with run_broker(tmp_path, listen="0.0.0.0", total_bytes=TOTAL) as broker:
        context = await broker.add("user", "ann")
        assert socket.gethostname() in context.url
        assert "127.0.0.1" in broker.url
        await connect(broker.context("ann"))


def test_signal_is_sent_to_no_stranger(tmp_path: Path) -> None:
    """A pid file that was left behind makes `add` signal nobody, as no broker runs."""
    lab = LabDir(tmp_path)
    lab.init()
    (tmp_path / "nats.pid").write_text(str(os.getpid()))
    heard: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda *_: heard.append(1))
    try:
        lab.add("user", "ann")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not heard
