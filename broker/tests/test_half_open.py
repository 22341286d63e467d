"""A link that has gone without a word is cut, in a network namespace of the test's own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jsnats.broker.testing import OutsideServer, free_port, join, outside_lab

pytestmark = pytest.mark.skipif(
    not os.environ.get("JSNATS_LINKS"), reason="takes half a minute and root: `make test-links`"
)
CUT_S = 20.0


@pytest.fixture
def namespace() -> Iterator[tuple[str, ...]]:
    """The command that runs another one there."""
    name = f"jsnats-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    inside = ("ip", "netns", "exec", name)
    try:
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        yield inside
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def seconds_until(log: Path, words: str, count: int, timeout_s: float) -> float:
    """How long until the words stand there that often."""
    began = time.monotonic()
    while log.read_text().count(words) < count:
        assert time.monotonic() - began < timeout_s, f"no {words!r} in {log}"
        time.sleep(0.05)
    return time.monotonic() - began


def test_a_half_open_link_is_cut(tmp_path: Path, namespace: tuple[str, ...]) -> None:
    """By both ends within 20 s of the last packet that came through; and it is back soon after packets are."""
    port = free_port()
    hub = outside_lab(tmp_path / "hub", leafnodes=port)
    site = outside_lab(tmp_path / "site")
    join(site, hub)
    logs = [tmp_path / "hub.log", tmp_path / "site.log"]
    servers = [OutsideServer(lab, *namespace, log=log) for lab, log in zip((hub, site), logs, strict=True)]
    try:
        for server, log in zip(servers, logs, strict=True):
            log.touch()
            server.start()
        seconds_until(logs[0], "Leafnode connection created", 1, 30)
        drop(namespace, port, "-A")
        took = sum(seconds_until(log, "Leafnode connection closed: Stale", 1, CUT_S) for log in logs)
        assert took < CUT_S
        drop(namespace, port, "-D")
        back = seconds_until(logs[0], "Leafnode connection created", 2, 30)
        print(f"cut after {took:.1f} s, back after {back:.1f} s")
    finally:
        for server in servers:
            server.kill()


def drop(namespace: tuple[str, ...], port: int, verb: str) -> None:
    """Drop what goes to that port and what comes from it, or stop that."""
    for side in ("--dport", "--sport"):
        subprocess.run([*namespace, "iptables", verb, "INPUT", "-p", "tcp", side, str(port), "-j", "DROP"], check=True)
