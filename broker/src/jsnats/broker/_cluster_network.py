"""A network for the servers of a test cluster, whose cables can be pulled.

Each server has a namespace of its own, and a cable from there to a bridge of the host, where clients and exporters are.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


class Network:
    """One namespace for each node, with a cable to a bridge of the host."""

    def __init__(self, count: int) -> None:
        self.tag = f"{os.getpid() % 100_000:x}{secrets.token_hex(1)}"
        self.bridge = f"jsb{self.tag}"
        self.spaces = [f"jsn{self.tag}-{number}" for number in range(count)]
        self.prefix = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
        self.hosts = [f"{self.prefix}.{number + 1}" for number in range(count)]

    @staticmethod
    def possible() -> bool:
        """Whether this process may make it: root is not enough in many a container."""
        if not (shutil.which("ip") and shutil.which("iptables")):
            return False
        probe = f"jsp{secrets.token_hex(4)}"
        made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
        return made.returncode == 0

    @contextmanager
    def up(self) -> Iterator[None]:
        """Make it, and take it away."""
        with ExitStack() as stack:
            _run("ip", "link", "add", self.bridge, "type", "bridge")
            stack.callback(_run, "ip", "link", "del", self.bridge)
            _run("ip", "addr", "add", f"{self.prefix}.254/24", "dev", self.bridge)
            _run("ip", "link", "set", self.bridge, "up")
            for number, (space, host) in enumerate(zip(self.spaces, self.hosts, strict=True)):
                cable = f"jsv{self.tag}{number}"
                _run("ip", "netns", "add", space)
                stack.callback(_run, "ip", "netns", "del", space)
                _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
                _run("ip", "link", "set", cable, "master", self.bridge, "up")
                self._in(number, "ip", "addr", "add", f"{host}/24", "dev", "eth0")
                self._in(number, "ip", "link", "set", "eth0", "up")
                self._in(number, "ip", "link", "set", "lo", "up")
            yield

    def cut(self, number: int, *, only: int = 0, silent: bool = True) -> None:
        """Drop what goes to the node and comes from it, or `only` what concerns that port of TCP; unless `silent`,
        both ends of such connections are told at once, and new ones refused."""
        what = ([],) if not only else (["-p", "tcp", "--sport", str(only)], ["-p", "tcp", "--dport", str(only)])
        how = ["DROP"] if silent else ["REJECT", "--reject-with", "tcp-reset"]
        for chain in ("INPUT", "OUTPUT"):
            for each in what:
                self._in(number, "iptables", "-A", chain, *each, "-j", *how)

    def heal(self, number: int) -> None:
        """Let everything through again."""
        self._in(number, "iptables", "-F")

    def command(self, number: int, command: list[str]) -> list[str]:
        """`command` such that it runs on that node."""
        return [_program("ip"), "netns", "exec", self.spaces[number], *command]

    def _in(self, number: int, *command: str) -> None:
        _run("ip", "netns", "exec", self.spaces[number], *command)


def _program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        raise RuntimeError(f"there is no {name} here")
    return found


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
