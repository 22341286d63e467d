"""Brokers that somebody else runs - containers, systemd, a cluster: what is written for them.

In the directory of the lab, `outside.json` says which servers there are, and `conf/` is what they need: one file for
each, and `accounts.conf`, which says who may connect and is the same for all.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from jsnats.schemas import ConfigurationError

from ._config import MAX_MEMORY, Principal, domain, link_settings, render_accounts, render_node, sync_settings
from ._sites import PLAIN, TLS, Leaf

CLIENTS, ROUTES = 4222, 6222


@dataclass(frozen=True, slots=True)
class Node:
    """A server: the host under which everybody reaches it, its port for clients and the one for the other servers."""

    host: str
    port: int = CLIENTS
    routes: int = ROUTES

    @property
    def name(self) -> str:
        """Its name as a server and as a file, unique in the lab."""
        plain = re.sub(r"[^A-Za-z0-9-]", "-", self.host).strip("-")
        return plain if self.port == CLIENTS else f"{plain}-{self.port}"

    @property
    def address(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host


def parse_nodes(text: str) -> tuple[Node, ...]:
    """Read `a,b,c`, each a HOST, HOST:PORT or HOST:PORT:ROUTES, an IPv6 address in brackets.

    Raises ConfigurationError for what is no host or port, for two servers of one name, and for an even number, of which
    none is left over to decide when one half does not see the other.
    """
    nodes = tuple(_node(each.strip()) for each in text.split(","))
    if len({node.name for node in nodes}) != len(nodes):
        raise ConfigurationError(f"two servers of one name in {text!r}: give each its host, or a port of its own")
    if len(nodes) % 2 == 0:
        raise ConfigurationError(f"a cluster has 3 or 5 servers, {text!r} has {len(nodes)}")
    return nodes


def _node(text: str) -> Node:
    found = re.fullmatch(r"(\[[0-9a-fA-F.]*:[0-9a-fA-F:.]*\]|[A-Za-z0-9_.-]+)(?::(\d{1,5}))?(?::(\d{1,5}))?", text)
    if not found:
        raise ConfigurationError(f"{text!r} is no server: write HOST, HOST:PORT or HOST:PORT:ROUTES")
    port, routes = int(found[2] or CLIENTS), int(found[3] or ROUTES)
    if not (0 < port < 65536 and 0 < routes < 65536):
        raise ConfigurationError(f"{text!r} has no such port: ports go from 1 to 65535")
    host = found[1].strip("[]")
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise ConfigurationError(f"{text!r}: {error}") from error
    return Node(host, port, routes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """How the servers are to run. `store` is the folder for data on their hosts, ports of 0 are not opened.

    `leafnodes` is the port that sites dial into, `sync` is as in BrokerConfig, `password` what the servers of a cluster
    know each other by. Of files in PEM on the servers' hosts, a hub has `leafnodes_cert` and `leafnodes_key`, a site
    `leaf_ca`, who vouches for its hub.
    """

    nodes: tuple[Node, ...]
    listen: str = "0.0.0.0"
    store: str = "/data"
    max_file: int = 0
    monitor: int = 0
    mqtt: int = 0
    websocket: int = 0
    sync: str = ""
    leafnodes: int = 0
    leafnodes_cert: str = ""
    leafnodes_key: str = ""
    leaf_ca: str = ""
    password: str = ""

    @property
    def url(self) -> str:
        """What clients connect to: any of the servers."""
        return ",".join(f"nats://{node.address}:{node.port}" for node in self.nodes)

    @property
    def replicas(self) -> int:
        """On how many servers everything is stored."""
        return min(3, len(self.nodes))

    @property
    def _folder(self) -> str:
        """A cluster does not know the streams of a server that ran alone: it would drop them as orphans, half a minute
        after its start (nats-server 2.15). So it does not find them."""
        return "cluster" if len(self.nodes) > 1 else ""

    @property
    def leaf_urls(self) -> tuple[str, ...]:
        """What sites dial."""
        scheme = TLS if self.leafnodes_cert else PLAIN
        return tuple(f"{scheme}://{node.address}:{self.leafnodes}" for node in self.nodes)

    def files(self, system_key: str, principals: Iterable[Principal], leaf: Leaf | None = None) -> dict[str, str]:
        """The text of each file of `conf/` by its name; of a site with a `leaf`. Several servers know each other by
        `password`."""
        links = link_settings(self.listen, self.leafnodes, leaf, self._tls(leaf))
        ours = domain(self.leafnodes, leaf)
        files = {f"{node.name}.conf": render_node(self._settings(node, ours) | links) for node in self.nodes}
        return files | {"accounts.conf": render_accounts(system_key, tuple(principals))}

    def _tls(self, leaf: Leaf | None) -> dict[str, str]:
        """The files of a hub, or of a site with a `leaf`. Raises ConfigurationError for those that do not fit."""
        if bool(self.leafnodes_cert) != bool(self.leafnodes_key) or (self.leafnodes_cert and not self.leafnodes):
            raise ConfigurationError("--leafnodes-cert and --leafnodes-key go together, with the port of --leafnodes")
        if self.leaf_ca and not (leaf and leaf.encrypted):
            raise ConfigurationError("--leaf-ca is for a site whose hub has a certificate: get a new --leaf file there")
        files = {"cert_file": self.leafnodes_cert, "key_file": self.leafnodes_key, "ca_file": self.leaf_ca}
        return {name: file for name, file in files.items() if file}

    def _settings(self, node: Node, ours: dict[str, str]) -> dict[str, object]:
        settings: dict[str, object] = {
            "server_name": node.name,
            "host": self.listen,
            "port": node.port,
            "jetstream": {
                "store_dir": str(PurePosixPath(self.store) / self._folder / node.name),
                "max_mem": MAX_MEMORY,
                "max_file": self.max_file,
                **sync_settings(self.sync),
                **ours,
            },
        }
        if self.monitor:
            settings["http"] = f"{self.listen}:{self.monitor}"
        if self.mqtt:
            # By default what MQTT keeps is on as many servers as there are when the first client comes.
            settings["mqtt"] = {"host": self.listen, "port": self.mqtt, "stream_replicas": self.replicas}
        if self.websocket:
            # Browsers come from any page; what they may do is decided by their credential alone.
            settings["websocket"] = {"host": self.listen, "port": self.websocket, "no_tls": True}
        if len(self.nodes) > 1:
            # Contexts name every server. Clients count by this how many of them see each other.
            settings["client_advertise"] = f"{node.address}:{node.port}"
            settings["cluster"] = self._cluster(node)
        return settings

    def _cluster(self, node: Node) -> dict[str, object]:
        others = [each for each in self.nodes if each != node]
        return {
            "name": "jsnats",
            "listen": f"{self.listen}:{node.routes}",
            "authorization": {"user": "route", "password": self.password},
            "routes": [f"nats://route:{self.password}@{each.address}:{each.routes}" for each in others],
            # A server that is silent or cut off is dropped by the others after 6 s, and not after 30.
            "ping_interval": "2s",
            "ping_max": 2,
        }


def new_password() -> str:
    """A password for the routes of a cluster, without characters that mean something in a URL."""
    return secrets.token_urlsafe(24)
