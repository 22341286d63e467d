"""Faults of a cluster under everything that a user does: how long each kind of traffic stalls, and what goes wrong.

    python sdk/benchmarks/faults.py             # all faults, each on a fresh cluster of three servers
    python sdk/benchmarks/faults.py --list      # their names
    python sdk/benchmarks/faults.py kill-agent cut-agent --json

Those with a partition need root, `ip` and `iptables`: the servers then run in network namespaces. A cell is the longest
time in seconds that this kind of traffic made no progress, with the error, or what was lost or came twice, if any.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from faults_board import ECHO_PORT
from faults_traffic import KINDS, Cell, Traffic, echo_service

from jsnats.agent.testing import AgentProcess
from jsnats.broker.testing import TestCluster, running_cluster
from jsnats.sdk import Context, connect

HOLD_S = 15.0
"""How long a fault lasts, unless told otherwise: longer than presence lives, and than a silent server is noticed."""
WARM_S = 3.0
RECOVER_S = 60.0
AGENT = "exporter bench"


class Holding:
    """How long faults last in this run."""

    seconds = HOLD_S

    def __call__(self) -> None:
        """Let it last."""
        time.sleep(self.seconds)


holding = Holding()
Row = dict[str, Cell]


def kill(cluster: TestCluster, number: int) -> None:
    """SIGKILL, and a start a while later."""
    cluster.kill(number)
    holding()
    cluster.start(number)


def freeze(cluster: TestCluster, number: int) -> None:
    """SIGSTOP, and SIGCONT a while later."""
    cluster.freeze(number)
    holding()
    cluster.thaw(number)


def cut(cluster: TestCluster, number: int) -> None:
    """Its cable is pulled: it sees neither servers nor clients."""
    cluster.cut(number)
    holding()
    cluster.heal(number)


def split(cluster: TestCluster, number: int) -> None:
    """It does not see the other servers; its clients still see it."""
    cluster.cut(number, routes_only=True)
    holding()
    cluster.heal(number)


def kill_each(cluster: TestCluster) -> None:
    """SIGKILL of one after the other, so of every leader there is."""
    for number in range(cluster.count):
        kill(cluster, number)
        cluster.settle()


def roll(cluster: TestCluster) -> None:
    """An upgrade: each is stopped in order and started again."""
    for number in range(cluster.count):
        cluster.stop(number)
        time.sleep(1)
        cluster.start(number)
        cluster.settle()


def agents(cluster: TestCluster) -> int:
    """The server that the agent is at."""
    return cluster.home(AGENT)


def other(cluster: TestCluster) -> int:
    """A server that the agent is not at: some of the clients are."""
    return (cluster.home(AGENT) + 1) % cluster.count


def leader(stream: str) -> Callable[[TestCluster], int]:
    """The server that leads a stream."""
    return lambda cluster: cluster.leader(stream)


def at(fault: Callable[[TestCluster, int], None], where: Callable[[TestCluster], int]) -> Callable[[TestCluster], None]:
    """A fault of one server, which is looked up when it happens."""
    return lambda cluster: fault(cluster, where(cluster))


@dataclass(frozen=True, slots=True)
class Fault:
    """A row of the table. `work` causes the fault and ends it; `ends` are the kinds of traffic that may end with it and
    begin anew: none may be stuck."""

    name: str
    text: str
    work: Callable[[Any], object]
    network: bool = False
    ends: tuple[str, ...] = ()

    def is_passed(self, kind: str, cell: Cell) -> bool:
        """Whether what that kind of traffic saw is as it should be."""
        return not cell.stuck and (kind in self.ends or not (cell.errors or cell.wrong))


FAULTS = (
    Fault("none", "nothing", lambda _: holding()),
    Fault("kill-agent", "SIGKILL of the agent's server", at(kill, agents)),
    Fault("kill-results", "SIGKILL of the leader of RESULTS", at(kill, leader("JSNATS_RESULTS"))),
    Fault("kill-lab", "SIGKILL of the leader of the lab's records", at(kill, leader("KV_jsnats_lab"))),
    Fault("kill-each", "SIGKILL of each server in turn", kill_each),
    Fault("roll", "rolling restart of all three", roll),
    Fault("freeze-agent", "SIGSTOP of the agent's server", at(freeze, agents)),
    Fault("freeze-lab", "SIGSTOP of the leader of the lab's records", at(freeze, leader("KV_jsnats_lab"))),
    Fault("cut-agent", "the agent's server cut off", at(cut, agents), network=True),
    Fault("cut-lab", "the leader of the lab's records cut off", at(cut, leader("KV_jsnats_lab")), network=True),
    Fault("split-agent", "the agent's server without the others", at(split, agents), network=True),
    Fault("split-other", "another server without the others", at(split, other), network=True),
)


class Place(Protocol):
    """Where traffic is made: a lab's principals, and who they are there."""

    def add(self, role: str, name: str) -> Context:
        """Let a principal in."""

    def context(self, name: str) -> Context:
        """The context of a principal."""

    def context_path(self, name: str) -> Path:
        """Its file."""


@contextmanager
def running_traffic(cluster: Place, folder: Path) -> Iterator[list[Traffic]]:
    """The boards, and what users do with them."""
    for role, names in (("exporter", ("bench", "spare")), ("user", ("alice", "bob"))):
        for name in names:
            cluster.add(role, name)
    with ExitStack() as stack:
        os.environ[ECHO_PORT] = str(stack.enter_context(echo_service()))
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)
        stack.enter_context(AgentProcess("bench", cluster.context_path("bench"), "faults_board:FaultBoard"))
        stack.enter_context(AgentProcess("spare", cluster.context_path("spare"), lease="required"))
        yield stack.enter_context(users(cluster.context("alice"), cluster.context("bob"), folder))


@contextmanager
def users(alice: Context, bob: Context, folder: Path) -> Iterator[list[Traffic]]:
    """What both do: one holds a lease throughout, the other takes those that are counted."""
    with connect(context=alice) as lab:
        while {each.name for each in lab.exporters()} < {"bench", "spare"}:  # a hub copies them first
            time.sleep(0.1)
        held = lab.lease(exporter="bench", tether="30s")
        with held:
            traffic = [kind(bob if kind.name == "lease" else alice, folder) for kind in KINDS]
            for each in traffic:
                each.start()
            yield traffic
            if held.lost:
                next(each for each in traffic if each.name == "lease").cell.errors.append(f"the held one: {held.lost}")


def measure(*faults: Fault) -> Row:
    """One row, on a cluster of its own; several faults come one after the other."""
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as folder,
        running_cluster(network=any(fault.network for fault in faults)) as cluster,
        running_traffic(cluster, Path(folder)) as traffic,
    ):
        return through(traffic, [partial(fault.work, cluster) for fault in faults])


def through(traffic: list[Traffic], faults: Iterable[Callable[[], object]]) -> Row:
    """Let it go on through one fault after the other, each until all is well again."""
    for fault in faults:
        time.sleep(WARM_S)
        fault()
        for each in traffic:
            each.wait_for_progress(RECOVER_S)
    time.sleep(WARM_S)
    for each in traffic:
        each.over.set()
    return {each.name: each.stop() for each in traffic}


def as_text(rows: dict[str, Row]) -> str:
    """The table in Markdown; all rows have the same columns."""
    names = list(next(iter(rows.values())))
    lines = [f"| fault | {' | '.join(names)} |", f"|{'---|' * (len(names) + 1)}"]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(row[each].text for each in names)} |")
    return "\n".join(lines)


def main(known: Sequence[Any], measure: Callable[..., Row], words: str | None, hold_s: float = HOLD_S) -> None:
    """Measure, print; exit with 1 if anything went wrong. `known` are the faults that there are."""
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", choices=[*(fault.name for fault in known), []], metavar="FAULT")
    parser.add_argument("--json", action="store_true", help="everything that was seen, for machines")
    parser.add_argument("--list", action="store_true", help="print the names of the faults")
    parser.add_argument("--hold", type=float, default=hold_s, help="how many seconds a fault lasts (%(default)g)")
    parser.add_argument("--same", action="store_true", help="one after the other on one cluster, as one row")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{fault.name:<18} {fault.text}" for fault in known))
        return
    holding.seconds = options.hold
    chosen = [fault for fault in known if not options.faults or fault.name in options.faults]
    rows: dict[str, Row] = {}
    failed = False
    for faults in [chosen] if options.same else [[fault] for fault in chosen]:
        name = ", then ".join(fault.name for fault in faults)
        rows[name] = row = measure(*faults)
        failed |= not all(any(fault.is_passed(*seen) for fault in faults) for seen in row.items())
        print(name, {kind: cell.text for kind, cell in row.items()}, file=sys.stderr)
    if options.json:
        told = {name: {kind: cell.as_json() for kind, cell in row.items()} for name, row in rows.items()}
        print(json.dumps({"machine": f"{platform.machine()}, {os.cpu_count()} processors", "faults": told}, indent=1))
    else:
        texts = {fault.name: fault.text for fault in known}
        print(as_text({texts.get(name, name): row for name, row in rows.items()}))
    sys.exit(failed)


if __name__ == "__main__":
    main(FAULTS, measure, __doc__)
