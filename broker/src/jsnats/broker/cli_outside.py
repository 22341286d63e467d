"""`jsnats broker config`, `serve` and `reload`, for servers that somebody else runs.

What they need is imported when they run, so that `--help` stays fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli import SYNC_HELP, Dir, PolicyFile, broker_app, checked_port, one_line_errors, parse_bytes, refuse

if TYPE_CHECKING:
    from ._lab_dir import LabDir
    from ._sites import Leaf

Cluster = Annotated[
    str,
    typer.Option(metavar="A,B,C", help="The servers: HOST, HOST:PORT or HOST:PORT:ROUTES.", show_default="this host"),
]
Listen = Annotated[str, typer.Option(help="Address to listen on, at each server.")]
Store = Annotated[str, typer.Option(metavar="DIR", help="Where a server keeps its data, in a folder of its name.")]
StoreSize = Annotated[str, typer.Option(help="Bytes to store at most: 500M, 10G.")]
Monitor = Annotated[
    int, typer.Option(metavar="PORT", help="Also answer monitoring by HTTP there.", callback=checked_port)
]
Mqtt = Annotated[int, typer.Option(metavar="PORT", help="Also listen for MQTT there.", callback=checked_port)]
Websocket = Annotated[
    int, typer.Option(metavar="PORT", help="Also listen for websockets there.", callback=checked_port)
]
Sync = Annotated[str, typer.Option(help=SYNC_HELP, show_default="2m")]
Leafnodes = Annotated[
    int,
    typer.Option(
        metavar="PORT", help="Be a hub: sites dial in there, see `jsnats auth add site`.", callback=checked_port
    ),
]
LeafFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Be a site: the file that `jsnats auth add site` made.")
]

LeafnodesCert = Annotated[
    str, typer.Option(metavar="FILE", help="As a hub: encrypt links, with that certificate at each server, in PEM.")
]
LeafnodesKey = Annotated[str, typer.Option(metavar="FILE", help="The key of that certificate.")]
LeafCa = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="As a site: who vouches for the hub's certificate, at each server.",
        show_default="those that the host knows",
    ),
]


@broker_app.command()
def config(
    directory: Dir = None,
    cluster: Cluster = "",
    listen: Listen = "0.0.0.0",
    store: Store = "/data",
    store_size: StoreSize = "10G",
    monitor: Monitor = 0,
    mqtt: Mqtt = 0,
    websocket: Websocket = 0,
    sync: Sync = "",
    leafnodes: Leafnodes = 0,
    leaf: LeafFile = None,
    leafnodes_cert: LeafnodesCert = "",
    leafnodes_key: LeafnodesKey = "",
    leaf_ca: LeafCa = "",
) -> None:
    """Write the configuration of nats-servers that something else runs: containers, systemd, a cluster of three.

    It is in conf/ of the lab: a file for each server, and accounts.conf, which belongs beside each of them. Run them as
    `nats-server -c NAME.conf`, and `jsnats broker serve` beside them.

    Example: jsnats broker config --cluster nats1,nats2,nats3 --store-size 100G
    """
    from ._outside import Outside, parse_nodes

    with one_line_errors():
        lab, joined = _prepared(directory), _loaded(leaf)
        size = parse_bytes(store_size) or 0
        outside = Outside(
            nodes=parse_nodes(cluster or _this_host()),
            listen=listen,
            store=store,
            max_file=size * 2 if leafnodes else size * 5 // 4,  # copies of sites need room
            monitor=monitor,
            mqtt=mqtt,
            websocket=websocket,
            sync=sync,
            leafnodes=leafnodes,
            leafnodes_cert=leafnodes_cert,
            leafnodes_key=leafnodes_key,
            leaf_ca=leaf_ca,
            password=_password(lab),
        )
        for path in lab.configure_outside(outside, size, joined):
            typer.echo(str(path))


def _prepared(directory: Path | None) -> LabDir:
    """The lab, with what `serve` needs in it."""
    from jsnats.schemas import SCHEDULER

    from ._lab_dir import LabDir
    from ._serve_scheduler import SCHEDULER_NAME

    lab = LabDir(directory)
    if lab.is_running():
        refuse(f"`jsnats broker run` runs the lab in {lab.path}: stop it first, then let other servers have it")
    lab.add(SCHEDULER, SCHEDULER_NAME)
    return lab


def _loaded(leaf: Path | None) -> Leaf | None:
    """The link of a site."""
    from ._sites import Leaf

    return Leaf.load(leaf) if leaf else None


def _password(lab: LabDir) -> str:
    """What the servers know each other by: as before, for those that are not restarted together."""
    from ._outside import new_password

    known = lab.outside()
    return known.password if known else new_password()


def _this_host() -> str:
    import socket

    return socket.gethostname()


@broker_app.command()
def serve(
    directory: Dir = None,
    policy: PolicyFile = None,
) -> None:
    """Serve beside the servers of `jsnats broker config` until Ctrl-C: make the streams, keep the files, grant leases.

    A broker that is not there yet is waited for.

    Example: jsnats broker serve --dir /srv/lab
    """
    from ._lab_dir import LabDir
    from ._services import serving_lab
    from .cli_scheduler import serve_until_signal

    with one_line_errors():
        lab = LabDir(directory)
        url = lab.settings().url
        serve_until_signal(lambda: serving_lab(lab, policy=policy), f"serving    the lab in {lab.path} at {url}")


@broker_app.command("reload")
def reload_configuration(directory: Dir = None) -> None:
    """Make the servers of `jsnats broker config` read their files again, and print the names of those that did.

    `jsnats auth add` and `revoke` do so by themselves; this is for files that had to be copied to other hosts first.

    Example: jsnats broker reload
    """
    from ._lab_dir import LabDir

    with one_line_errors():
        for name in LabDir(directory).reload_outside():
            typer.echo(name)
