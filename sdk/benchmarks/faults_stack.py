"""Faults of the lab in containers under everything that a user does: the table of faults.py, for compose.yaml.

    python sdk/tests/stack/engine.py python sdk/benchmarks/faults_stack.py          # all faults, each on a fresh stack
    python sdk/benchmarks/faults_stack.py crash-broker upgrade-broker --json        # where a Docker engine answers

Users are on this host, the boards in two agents' containers: `bench` in that of agent-1, and in that of agent-2 the one
that is leased over and over. Some faults end what is done: that stands in the table, and is no failure of the run.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from faults import Fault, Row, holding, main, through, users

from jsnats.broker.testing import Stack

ROOT = Path(__file__).resolve().parents[2]
UPGRADE = os.environ.get("JSNATS_TEST_UPGRADE", "nats:2.15-alpine")
SHIFT = 300


@dataclass(frozen=True, slots=True)
class StackFault(Fault):
    """A row of this table: a fault of a Stack, in a profile of compose.yaml."""

    profile: str = ""


def kill(stack: Stack, service: str) -> None:
    """SIGKILL, and a start a while later."""
    stack.kill(service)
    holding()
    stack.start(service)


def pause(stack: Stack, service: str) -> None:
    """Frozen by the kernel for a while."""
    stack.compose("pause", service)
    holding()
    stack.compose("unpause", service)


def restart(stack: Stack, service: str) -> None:
    """Stopped in order, and started."""
    stack.compose("restart", service)
    stack.healthy(service)


def upgrade(stack: Stack) -> None:
    """Another image."""
    stack.up("--no-deps", "broker", JSNATS_BROKER_IMAGE=UPGRADE)


def home(stack: Stack) -> str:
    """The broker that the agent is at."""
    return stack.home("exporter bench")


THERE = ("call", "stream", "forward", "flash", "console", "event")
FAULTS = (
    StackFault("none", "nothing", lambda _: holding()),
    StackFault("crash-broker", "SIGKILL of the broker", lambda stack: stack.crash("broker")),
    StackFault("kill-broker", "the broker dead for a while", lambda stack: kill(stack, "broker")),
    StackFault("restart-broker", "`docker compose restart broker`", lambda stack: restart(stack, "broker")),
    StackFault("upgrade-broker", "the broker's next version", upgrade),
    StackFault(
        "pause-broker", "the broker frozen for a while", lambda stack: pause(stack, "broker"), ends=(*THERE, "lease")
    ),
    StackFault("crash-scheduler", "SIGKILL of the scheduler", lambda stack: stack.crash("scheduler")),
    StackFault(
        "kill-scheduler", "the scheduler dead for a while", lambda stack: kill(stack, "scheduler"), ends=("flash",)
    ),
    StackFault("crash-other", "SIGKILL of another agent", lambda stack: stack.crash("agent-2"), ends=("lease",)),
    StackFault("crash-agent", "SIGKILL of the board's agent", lambda stack: stack.crash("agent-1"), ends=THERE),
    StackFault(
        "cluster-crash",
        "of three: SIGKILL of the agent's broker",
        lambda stack: stack.crash(home(stack)),
        profile="cluster",
    ),
    StackFault(
        "cluster-kill",
        "of three: the agent's broker dead for a while",
        lambda stack: kill(stack, home(stack)),
        profile="cluster",
    ),
)
"""One that is killed and not kept dead is started again by Docker, at once."""


@cache
def build() -> None:
    """The images, once."""
    Stack(ROOT, "jsnats-faults").compose("build")


def measure(*faults: StackFault) -> Row:
    """One row, on a stack of its own; several faults come one after the other."""
    build()
    profile = ",".join({fault.profile for fault in faults} - {""})
    files = ("compose.yaml", "sdk/benchmarks/faults_stack.yaml")
    stack = Stack(ROOT, "jsnats-faults", *files, shift=SHIFT, COMPOSE_PROFILES=profile)
    stack.down()
    try:
        stack.up("scheduler", *stack.brokers)
        for name in ("bench", "spare"):
            stack.add("exporter", name)
        stack.up()
        alice, bob = (stack.add("user", name) for name in ("alice", "bob"))
        with tempfile.TemporaryDirectory(prefix="faults-") as folder, users(alice, bob, Path(folder)) as traffic:
            return through(traffic, [partial(fault.work, stack) for fault in faults])
    finally:
        stack.down()


if __name__ == "__main__":
    main(FAULTS, measure, __doc__)
