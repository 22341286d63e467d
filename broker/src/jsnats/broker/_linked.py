"""Servers that somebody else runs, for tests: one of a lab, and those of a hub with a site behind a link.

The link is on loopback; or with `network` the hub has a namespace of its own, and its port for sites can be closed.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal

from jsnats.schemas import SCHEDULER, BrokerError
from jsnats.sdk import Connection, leashed, open_connection
from jsnats.testing import until_async

from ._cluster import READY_S, STORE, free_ports, local_nodes, serving_patiently
from ._cluster_network import Network
from ._lab_dir import BROKER, LabDir
from ._links import ORIGIN
from ._outside import CLIENTS, ROUTES, Node, Outside
from ._serve_scheduler import SCHEDULER_NAME
from ._server import nats_server_binary
from ._sites import COPIED

LEAFNODES = 7422
SITE = "berlin"


class OutsideServer:
    """The only server of a lab, as somebody else would run it: `prefix` is a command that runs it elsewhere."""

    def __init__(self, lab: LabDir, *prefix: str, log: Path | None = None) -> None:
        outside = lab.outside()
        assert outside
        self.lab = lab
        conf = lab.conf / f"{outside.nodes[0].name}.conf"
        self._command = [*prefix, str(nats_server_binary()), "-c", str(conf), *(("-l", str(log)) if log else ())]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, without waiting for it to answer."""
        self._process = subprocess.Popen(leashed(self._command), stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process:
            self._process.kill()
            self._process.wait()


def outside_lab(
    folder: Path, node: Node | None = None, listen: str = "127.0.0.1", store_bytes: int = STORE, **more: Any
) -> LabDir:
    """A lab in `folder` with one server, by default on free ports of loopback, configured and not started."""
    lab = LabDir(folder / "lab")
    lab.add(SCHEDULER, SCHEDULER_NAME)
    nodes = (node,) if node else local_nodes(1)
    store = str(folder / "data")
    lab.configure_outside(
        Outside(nodes=nodes, listen=listen, store=store, max_file=store_bytes * 2, **more), store_bytes
    )
    return lab


def join(site: LabDir, hub: LabDir, name: str = SITE) -> None:
    """Make a lab a site of a hub, from the next start of its servers on."""
    outside = site.outside()
    assert outside
    site.configure_outside(outside, site.settings().store_bytes, hub.add_site(name))


@contextmanager
def serving_outside(lab: LabDir, *prefix: str) -> Iterator[OutsideServer]:
    """The server of such a lab, and what serves beside it, in a thread."""
    server = OutsideServer(lab, *prefix)
    server.start()
    try:
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving_patiently(lab)):
            yield server
    finally:
        server.kill()


@dataclass(slots=True)
class TestLink:
    """A hub and its site `berlin`: their directories and servers; `stop_hub` and `stop_site` end what serves there."""

    __test__ = False  # no test class, whatever its name

    hub: LabDir
    site: LabDir
    hub_server: OutsideServer
    site_server: OutsideServer
    stop_hub: Callable[[], None]
    stop_site: Callable[[], None]
    network: Network | None = None

    def cut(self, *, silent: bool = False) -> None:
        """Close the link and refuse it, or with `silent` drop its packets without a word. Needs `network`."""
        assert self.network, "running_link(network=True) has a cable"
        self.network.cut(0, only=LEAFNODES, silent=silent)

    def heal(self) -> None:
        """Let it through again."""
        assert self.network, "running_link(network=True) has a cable"
        self.network.heal(0)


@contextmanager
def running_link(directory: Path | None = None, *, network: bool = False) -> Iterator[TestLink]:
    """Run a hub and its site, each a server and what serves beside it, in `directory`, by default a temporary one."""
    with ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="jsnats-", ignore_cleanup_errors=True))
        folder = directory or Path(temporary)
        cable = Network(1) if network else None
        if cable:
            stack.enter_context(cable.up())
            node, prefix = Node(cable.hosts[0], CLIENTS, ROUTES), cable.command(0, [])
            hub = outside_lab(folder / "hub", node, "0.0.0.0", leafnodes=LEAFNODES)
        else:
            prefix = []
            hub = outside_lab(folder / "hub", leafnodes=free_ports(1)[0])
        site = outside_lab(folder / "site")
        join(site, hub)
        at_hub, at_site = stack.enter_context(ExitStack()), stack.enter_context(ExitStack())
        hub_server = at_hub.enter_context(serving_outside(hub, *prefix))
        site_server = at_site.enter_context(serving_outside(site))
        asyncio.run(_copied(hub))
        yield TestLink(hub, site, hub_server, site_server, at_hub.close, at_site.close, cable)


async def _copied(hub: LabDir) -> None:
    """Wait until the hub copies what is at the site, and not what was to be there."""
    async with await open_connection(hub.context(BROKER, site=SITE), name="jsnats test") as nc:
        for spec in COPIED:
            await until_async(partial(_has_origin, nc, spec.name), READY_S)


async def _has_origin(nc: Connection, copy: str) -> bool:
    try:
        return ORIGIN in (await nc.api(f"STREAM.INFO.{copy}"))["config"].get("metadata", {})
    except BrokerError:
        return False
