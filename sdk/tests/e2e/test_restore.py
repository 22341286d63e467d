"""A lab is lost and comes back from a backup, with everybody still there: holders, exporters, a console, files."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from jsnats.agent.testing import AgentProcess
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.schemas import CONSOLE, BrokerUnreachable, headers as h
from jsnats.sdk import Lab, connect, open_connection, replay
from jsnats.testing import until

pytestmark = pytest.mark.timeout(120)


def state(lab: Lab, name: str) -> str:
    """What an exporter is doing; nothing while the lab knows of none."""
    return next((each.state for each in lab.exporters() if each.name == name), "")


def epoch(lab: Lab, lease: str) -> int:
    """Of a lease, by its id."""
    return next(each.epoch for each in lab.leases() if each.id == lease)


class Site:
    """A lab in `folder` whose broker can be lost, and come back from a backup on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder / "lab.tar"
        self._stack = ExitStack()
        self.broker = self._run(folder / "old", total_bytes=200_000_000)
        self.creds = self.broker.directory / "creds"

    def _run(self, lab: Path, **options: Any) -> TestBroker:
        return self._stack.enter_context(running_broker(lab, **options))

    def back_up(self) -> None:
        """Make a backup, while everything runs."""
        self._command("backup", self.archive, "--dir", self.broker.directory, "--creds")

    def lose(self) -> None:
        """The broker is gone, and all that it had; it comes back from the backup."""
        self._stack.close()
        self._command("restore", self.archive, "--dir", self.folder / "new")
        self.broker = self._run(self.folder / "new", port=None, total_bytes=None)

    def close(self) -> None:
        """Stop it."""
        self._stack.close()

    def _command(self, *words: object) -> None:
        command = [sys.executable, "-m", "jsnats.sdk.cli", "broker", *(str(word) for word in words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A lab of alice and bob."""
    site = Site(tmp_path)
    for name in ("alice", "bob"):
        site.broker.add("user", name)
    yield site
    site.close()


def call_under(lab: Lab, exporter: str, number: int) -> str:
    """Call under the lease of that epoch; return why it is refused."""
    bridge = lab.inner.bridge
    assert bridge
    subject = f"jsnats.call.{exporter}.{lab.inner.connection.token}.is_on"
    answer = bridge.run(lab.inner.connection.request(subject, b"", headers={h.EPOCH: str(number)}))
    return answer.data.decode() if h.ERROR_CODE in (answer.headers or {}) else ""


def test_leases_after_a_restore(site: Site) -> None:
    """One that was never ended goes on, with its epoch, its holder and its power. One that was given back after the
    backup is over, also where somebody else was granted the board since; his is over too, because nobody knows of it.
    No old epoch is let in, and each new one is beyond all that there were. Who follows events hears of it."""
    with ExitStack() as stack:
        for name in ("e1", "e2", "e3"):
            site.broker.add("exporter", name)
            path = site.creds / f"exporter-{name}.json"
            stack.enter_context(AgentProcess(name, path, "jsnats.agent.testing:Board"))
        alice, bob = [stack.enter_context(connect(context=site.broker.context(name))) for name in ("alice", "bob")]
        follower = Follower(bob)
        follower.start()
        lease, other, third = [alice.lease(exporter=name, tether=0) for name in ("e1", "e2", "e3")]
        board, _, _ = [each.__enter__() for each in (lease, other, third)]
        board.call("on")
        kept, old = epoch(alice, lease.id), epoch(alice, other.id)
        site.back_up()
        other.give_back()
        third.give_back()
        for name in ("e2", "e3"):
            with bob.lease(exporter=name):
                pass
        later = bob.lease(exporter="e2")
        later.take()
        latest = epoch(bob, later.id)
        assert latest > old
        site.lose()
        until(lambda: [state(alice, name) for name in ("e1", "e2", "e3")] == ["leased", "available", "available"], 40)
        until(lambda: [each.id for each in alice.leases()] == [lease.id], 40)
        assert epoch(alice, lease.id) == kept
        assert (board.call("is_on"), lease.lost) == (True, None)
        until(lambda: later.lost, 40)
        for lab, number in ((alice, old), (bob, latest)):
            assert f"the lease of epoch {number} on e2 has ended" in call_under(lab, "e2", number)
        with bob.lease(exporter="e2") as again:
            assert again.call("is_on") is False
            [new] = [each.epoch for each in bob.leases() if each.boards == ["e2"]]
            assert new > latest
            until(lambda: new in follower.epochs, 40)
        lease.give_back()


class Follower(threading.Thread):
    """Follows the grants of a lab."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(daemon=True)
        self.epochs: list[int] = []
        self._events = lab.events(type="lease.granted", follow=True)

    def run(self) -> None:
        """Follow until the connection is closed."""
        with suppress(BrokerUnreachable):
            for event in self._events:
                self.epochs.append(event.data["epoch"])


class Device:
    """A device on a Unix socket."""

    def __init__(self, path: Path) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()

    def answer(self) -> None:
        """Wait for the agent."""
        self._end, _ = self._server.accept()

    def say(self, text: bytes) -> None:
        """Output of the device."""
        self._end.sendall(text)

    def close(self) -> None:
        """Switch it off."""
        self._end.close()
        self._server.close()


async def _recorded(broker: TestBroker) -> list[tuple[int, bytes]]:
    async with await open_connection(broker.context()) as nc:
        found = replay(nc, CONSOLE.name, CONSOLE.subjects)
        return [
            (int((message.headers or {})[h.OFFSET]), bytes(message.data))
            async for _, message in found
            if h.MARK not in (message.headers or {})
        ]


def recorded(broker: TestBroker) -> list[tuple[int, bytes]]:
    """What the consoles said, with its offset."""
    return asyncio.run(_recorded(broker))


def test_console_and_files_after_a_restore(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The console is there byte for byte, and goes on at the offset where its device is; a file needs no upload."""
    device = Device(tmp_path / "device")
    monkeypatch.setenv("JSNATS_TEST_CONSOLE", str(tmp_path / "device"))
    site.broker.add("exporter", "c1")
    image = os.urandom(3_000_000)
    with ExitStack() as stack:
        stack.callback(device.close)
        stack.enter_context(AgentProcess("c1", site.creds / "exporter-c1.json", "jsnats.agent.testing:SocketConsole"))
        device.answer()
        alice = stack.enter_context(connect(context=site.broker.context("alice")))
        sha256 = alice.blobs.put(image).sha256
        device.say(b"U-Boot\r\n")
        until(lambda: recorded(site.broker) == [(0, b"U-Boot\r\n")], 40)
        site.back_up()
        device.say(b"lost\r\n")
        until(lambda: len(recorded(site.broker)) == 2, 40)
        site.lose()
        until(lambda: state(alice, "c1") == "available", 40)
        device.say(b"login:")
        until(lambda: recorded(site.broker) == [(0, b"U-Boot\r\n"), (14, b"login:")], 40)
        sent: list[tuple[int, int]] = []
        alice.blobs.put(image, on_progress=lambda done, total: sent.append((done, total)))
        assert sent == [(len(image), len(image))]
        alice.blobs.get(sha256, tmp_path / "image")
        assert (tmp_path / "image").read_bytes() == image
