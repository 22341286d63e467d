"""A cluster for tests: three real nats-servers as `jsnats broker config` configures them, each to be killed, frozen or
cut off, and the services beside them.

On loopback; or with `network` where cables can be pulled, which needs root, `ip` and `iptables`.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from jsnats.schemas import SCHEDULER, STREAMS, BrokerError
from jsnats.sdk import Connection, Context, Message, leashed, open_connection
from jsnats.testing import until_async

from ._cluster_network import Network
from ._lab_dir import BROKER, LabDir
from ._outside import CLIENTS, ROUTES, Node, Outside
from ._reload_outside import ask_servers
from ._serve_scheduler import SCHEDULER_NAME
from ._server import nats_server_binary, server_info
from ._services import serving_lab
from ._sites import account

STORE = 1_000_000_000
READY_S = 60.0
POLL_S = 0.05


class Servers:
    """The nats-servers of a lab, as somebody else would run them. Ends them at the end of the `async with`."""

    def __init__(self, lab: LabDir, network: Network | None = None) -> None:
        outside = lab.outside()
        assert outside, "configure_outside comes first"
        self.nodes = outside.nodes
        self._lab = lab
        self._network = network
        self._processes: dict[int, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> Servers:
        await asyncio.gather(*(self.start(number) for number in range(len(self.nodes))))
        return self

    async def __aexit__(self, *_: object) -> None:
        for number in list(self._processes):
            await self.kill(number)

    async def start(self, number: int) -> None:
        """Start a server and wait until it speaks NATS; it may not have found the others yet."""
        node = self.nodes[number]
        command = [str(nats_server_binary()), "-c", str(self._lab.conf / f"{node.name}.conf")]
        if self._network:
            command = self._network.command(number, command)
        with (self._lab.path / f"{node.name}.log").open("ab") as output:
            self._processes[number] = await asyncio.create_subprocess_exec(
                *leashed(command), stdout=output, stderr=output, start_new_session=True
            )
        await until_async(lambda: _speaks(node), READY_S)

    async def kill(self, number: int, how: int = signal.SIGKILL) -> None:
        """Kill a server and wait until it is gone."""
        process = self._processes.pop(number)
        with suppress(ProcessLookupError):
            process.send_signal(how)
        await process.wait()

    def signal(self, number: int, which: int) -> None:
        """SIGSTOP and SIGCONT."""
        self._processes[number].send_signal(which)


class TestCluster:
    """A running cluster, to be used from any thread that is not its own. Every method blocks until it is done.

    Servers are numbered from 0.
    """

    __test__ = False  # no test class, whatever its name

    def __init__(self, lab: LabDir, servers: Servers, network: Network | None, portal: BlockingPortal) -> None:
        self.lab = lab
        self.servers = servers
        self.network = network
        self.url = lab.context(BROKER).url
        self.directory = lab.path
        self.count = len(servers.nodes)
        self._portal = portal

    def context(self, name: str = BROKER) -> Context:
        """The context of a principal, by default the admin."""
        return self.lab.context(name)

    def context_path(self, name: str) -> Path:
        """The context file of a principal, for JSNATS_CONTEXT of another process."""
        return self.lab.context_path(name)

    def add(self, role: str, name: str) -> Context:
        """Let a principal in."""
        return self._portal.call(asyncio.to_thread, self.lab.add, role, name)

    def revoke(self, name: str) -> None:
        """Lock a principal out."""
        self._portal.call(asyncio.to_thread, self.lab.revoke, name)

    # ------------------------------------------------------------------ faults

    def kill(self, number: int) -> None:
        """SIGKILL a server; it stays dead until `start`."""
        self._portal.call(self.servers.kill, number)

    def stop(self, number: int) -> None:
        """Stop a server in order, as an upgrade does."""
        self._portal.call(self.servers.kill, number, signal.SIGTERM)

    def start(self, number: int) -> None:
        """Start it again."""
        self._portal.call(self.servers.start, number)

    def freeze(self, number: int) -> None:
        """SIGSTOP: connected, and silent."""
        self.servers.signal(number, signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        """SIGCONT."""
        self.servers.signal(number, signal.SIGCONT)

    def cut(self, number: int, *, routes_only: bool = False) -> None:
        """Drop every packet of a server, or only those to the other servers. Needs `network`."""
        assert self.network, "running_cluster(network=True) has cables"
        self.network.cut(number, only=ROUTES if routes_only else 0)

    def heal(self, number: int) -> None:
        """End of the partition."""
        assert self.network, "running_cluster(network=True) has cables"
        self.network.heal(number)

    # ------------------------------------------------------------------ what it is doing

    def leader(self, stream: str) -> int:
        """The number of the server that leads a stream."""
        return int(self._portal.call(self._asked, lambda nc: _leader(nc, stream, self.servers.nodes)))

    def home(self, client: str) -> int:
        """The number of the server that a connection of that name, such as "exporter bench", is at."""
        return int(self._portal.call(_home, self.lab.system_context(), client, self.servers.nodes))

    def linked(self, site: str) -> list[int]:
        """The numbers of the servers that a site's broker is connected to: one, or none while it is on its way."""
        return list(self._portal.call(_linked, self.lab.system_context(), account(site), self.servers.nodes))

    def settle(self) -> None:
        """Wait until every stream is on all servers, with nothing to catch up."""
        self._portal.call(self._asked, lambda nc: _settled(nc, self.count))

    async def _asked(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        async with await open_connection(self.lab.context(BROKER), name="jsnats test") as nc:
            async with asyncio.timeout(READY_S):
                return await work(nc)


async def _leader(nc: Connection, stream: str, nodes: Sequence[Node]) -> int:
    names = [node.name for node in nodes]
    while True:
        with suppress(BrokerError, ValueError, KeyError):
            return names.index((await nc.api(f"STREAM.INFO.{stream}"))["cluster"]["leader"])
        await asyncio.sleep(POLL_S)


async def _home(system: Context, client: str, nodes: Sequence[Node]) -> int:
    nc = await open_connection(system, name="jsnats test")
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def take(message: Message) -> None:
        told = json.loads(message.data)
        names = [each.get("name") for each in told["data"].get("connections") or ()]
        if client in names and not found.done():
            found.set_result(told["server"]["name"])

    try:
        inbox = f"_INBOX.{secrets.token_hex(8)}"
        await nc.listen(inbox, take)
        async with asyncio.timeout(READY_S):
            await nc.publish("$SYS.REQ.SERVER.PING.CONNZ", b'{"limit": 10000}', reply=inbox)
            return [node.name for node in nodes].index(await found)
    finally:
        await nc.close()


async def _linked(system: Context, account: str, nodes: Sequence[Node]) -> list[int]:
    async with await open_connection(system, name="jsnats test") as nc:
        told = await ask_servers(nc, "LEAFZ", len(nodes))
    names = [node.name for node in nodes]
    links = [(each["server"]["name"], each["data"].get("leafs") or ()) for each in told]
    return [names.index(name) for name, leafs in links if any(leaf["account"] == account for leaf in leafs)]


async def _settled(nc: Connection, count: int) -> None:
    for spec in STREAMS:
        await until_async(partial(_is_whole, nc, spec.name, count), READY_S)


async def _speaks(node: Node) -> bool:
    return (await server_info(node.host, node.port)).get("server_name") == node.name


async def _is_whole(nc: Connection, stream: str, count: int) -> bool:
    try:
        cluster = (await nc.api(f"STREAM.INFO.{stream}"))["cluster"]
    except BrokerError:
        return False
    there = [each for each in cluster.get("replicas", ()) if each["current"] and not each.get("offline")]
    return bool(cluster.get("leader")) and len(there) == min(3, count) - 1


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports of an address of this machine that nobody has right now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def local_nodes(count: int) -> tuple[Node, ...]:
    """Servers on loopback, on free ports."""
    ports = free_ports(2 * count)
    return tuple(Node("127.0.0.1", *pair) for pair in zip(ports[:count], ports[count:], strict=True))


def outside_at(directory: Path, nodes: tuple[Node, ...], listen: str = "127.0.0.1", leafnodes: int = 0) -> Outside:
    """How test servers run that store beside their lab."""
    store, password, room = str(directory / "data"), "between-them", STORE * 2 if leafnodes else STORE * 5 // 4
    return Outside(nodes=nodes, listen=listen, store=store, max_file=room, leafnodes=leafnodes, password=password)


@asynccontextmanager
async def serving_patiently(lab: LabDir) -> AsyncIterator[None]:
    """What serves beside servers that are just coming up."""
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(READY_S):
            while True:
                try:
                    await stack.enter_async_context(serving_lab(lab))
                    break
                except BrokerError:
                    await asyncio.sleep(POLL_S)
        yield


@asynccontextmanager
async def _cluster(
    directory: Path, count: int, network: Network | None, services: bool, leafnodes: int, portal: BlockingPortal
) -> AsyncIterator[TestCluster]:
    lab = LabDir(directory / "lab")
    await asyncio.to_thread(lab.add, SCHEDULER, SCHEDULER_NAME)
    nodes = tuple(Node(host, CLIENTS, ROUTES) for host in network.hosts) if network else local_nodes(count)
    outside = outside_at(directory, nodes, "0.0.0.0" if network else "127.0.0.1", leafnodes)
    await asyncio.to_thread(lab.configure_outside, outside, STORE)
    async with Servers(lab, network) as servers, serving_patiently(lab) if services else nullcontext():
        yield TestCluster(lab, servers, network, portal)


@contextmanager
def running_cluster(
    directory: Path | None = None,
    *,
    count: int = 3,
    network: bool = False,
    services: bool = True,
    leafnodes: int = 0,
) -> Iterator[TestCluster]:
    """Run a cluster of `count` servers in `directory`, by default a temporary one, and with `services` what makes its
    streams and serves beside it. Sites dial in at port `leafnodes`, which needs `network`: it is the same at each."""
    with ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="jsnats-", ignore_cleanup_errors=True))
        cables = Network(count) if network else None
        if cables:
            stack.enter_context(cables.up())
        portal = stack.enter_context(start_blocking_portal())
        running = _cluster(directory or Path(temporary), count, cables, services, leafnodes, portal)
        cluster = stack.enter_context(portal.wrap_async_context_manager(running))
        if services:
            cluster.settle()
        yield cluster
