"""Faults of the lab in containers under everything that a user does: the table of faults.py, for compose.yaml.

    python sdk/tests/stack/engine.py python sdk/benchmarks/faults_stack.py          # all faults, each on a fresh stack
    python sdk/benchmarks/faults_stack.py crash-broker upgrade-broker --json        # where a Docker engine answers

Users are on this host, the boards in two agents' containers: `bench` in that of agent-1, and in that of agent-2 the one
that is leased over and over. When the container of `bench` dies, what is done there ends with it: its errors are in the
table, and are no failure of the run.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from faults import Fault, Row, holding, main, through, users

from jsnats.broker.testing import Stack

ROOT = Path(__file__).resolve().parents[2]
UPGRADE = os.environ.get("JSNATS_TEST_UPGRADE", "nats:2.15-alpine")
SHIFT = 200


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


def agents(stack: Stack) -> str:
    """The broker that the agent is at."""
    return stack.home("exporter bench")


FAULTS = (
    StackFault("none", "nothing", lambda _: holding()),
    StackFault("crash-broker", "SIGKILL of the broker, Docker starts it again", lambda stack: stack.crash("broker")),
    StackFault("kill-broker", "SIGKILL of the broker, dead for 15 s", lambda stack: kill(stack, "broker")),
    StackFault("restart-broker", "`docker compose restart broker`", lambda stack: restart(stack, "broker")),
    StackFault("pause-broker", "the broker frozen for 15 s", lambda stack: pause(stack, "broker")),
    StackFault(
        "upgrade-broker",
        "the broker's next version",
        lambda stack: stack.up("--no-deps", "broker", JSNATS_BROKER_IMAGE=UPGRADE),
    ),
    StackFault("crash-scheduler", "SIGKILL of the scheduler", lambda stack: stack.crash("scheduler")),
    StackFault("kill-scheduler", "the scheduler dead for 15 s", lambda stack: kill(stack, "scheduler")),
    StackFault("crash-other", "SIGKILL of the other agent", lambda stack: stack.crash("agent-2")),
    StackFault("crash-agent", "SIGKILL of the board's agent", lambda stack: stack.crash("agent-1")),
    StackFault(
        "cluster-crash",
        "three: SIGKILL of the agent's broker",
        lambda stack: stack.crash(agents(stack)),
        profile="cluster",
    ),
    StackFault(
        "cluster-kill",
        "three: the agent's broker dead for 15 s",
        lambda stack: kill(stack, agents(stack)),
        profile="cluster",
    ),
)


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
            return through(faults, stack, traffic)
    finally:
        stack.down()


if __name__ == "__main__":
    main(FAULTS, measure, __doc__)
