"""The broker of a lab: runs a real nats-server, or provisions one, and says who may do what on it.

    _roles.py     permissions of each role, from the subject table of jsnats.schemas
    _config.py    the text of nats-server's configuration: pure
    _lab_dir.py   the directory of a lab, and whom its changes are told; _lab_files.py reads and writes its files
    _principals.py, _settings.py    who is let in, and each one's secret; what the broker was last started with
    _at_broker.py how commands reach the broker of a directory
    _lock.py      one broker per directory
    _server.py    the process of nats-server: start, watch, restart, stop
    _outside.py, _reload_outside.py    the servers that somebody else runs: their configuration, its reload
    _sites.py, _links.py    a site behind a link: what each side's configuration says of it; what the hub does for it
    _services.py  what a lab has beside its servers: streams, store, scheduler
    _reload.py    its log, and the reload that only the log confirms
    _ensure.py    the streams and buckets, made and kept as the table says
    _retention.py       what a lab keeps otherwise than the table says
    _archive.py         the file of a backup; _transfer_stream.py gets a stream out of JetStream and in
    _backup.py          a lab into an archive; _restore.py streams out of it, _restore_lab.py the lab around them
    _requests.py  what the services beside the broker share: a request, its verb, its answer
    _store.py     the store of files: the service
    _storekeeper.py, _shelf.py, _garbage.py    what each request does; the files in the streams; which are dropped
    _scheduler.py           the scheduler: grants, bookings, ends; _serve_scheduler.py runs it as a service
    _lab_state.py, _matches.py    what the lab's records say right now, and which exporters a selector means
    _over.py, _clocks.py    which leases are over, and when to look again
    _ledger.py    writing records with compare-and-set
    _desk.py, _admin_desk.py, _ask.py    what is asked about leases and exporters, verb by verb; their fields
    _policy.py    what users may ask for
    _absence.py   exporters that went without a word
    _outbox.py    the scheduler's events
    _turn.py      which of several stores serves
    _run.py       all of it together: `run_broker`
    cli.py        `jsnats broker` and `jsnats auth`, with cli_outside.py, cli_backup.py and cli_retention.py;
                  cli_scheduler.py `jsnats scheduler`
    testing.py    a broker for the tests of every part; _container.py runs it from an image, _cluster.py and
                  _cluster_network.py three of them, _linked.py a hub and its site, _compose.py a lab in containers

It is a layer of its own so that a client installs none of it. Names load on first use, because the `jsnats` command
imports this package to learn its sub-commands, and NATS and the crypto library cost it 150 ms.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._config import BrokerConfig, Principal, is_loopback, render
    from ._ensure import Usage, check_fit, default_total, df, ensure_streams, stream_config
    from ._lab_dir import BROKER, LabDir, default_lab_dir
    from ._lock import abandoned
    from ._policy import Limits, Policy, parse_policy
    from ._roles import Permissions, permissions
    from ._run import Broker, run_broker
    from ._serve_scheduler import serving_scheduler
    from ._server import BrokerProcess, nats_server_binary
    from ._settings import Settings
    from ._store import serving_store
    from ._storekeeper import Storekeeper

__all__ = [
    "BROKER",
    "Broker",
    "BrokerConfig",
    "BrokerProcess",
    "LabDir",
    "Limits",
    "Permissions",
    "Policy",
    "Principal",
    "Settings",
    "Storekeeper",
    "Usage",
    "abandoned",
    "check_fit",
    "default_lab_dir",
    "default_total",
    "df",
    "ensure_streams",
    "is_loopback",
    "nats_server_binary",
    "parse_policy",
    "permissions",
    "render",
    "run_broker",
    "serving_scheduler",
    "serving_store",
    "stream_config",
]

_HOME = {
    "BROKER": "_lab_dir",
    "Broker": "_run",
    "BrokerConfig": "_config",
    "BrokerProcess": "_server",
    "LabDir": "_lab_dir",
    "Limits": "_policy",
    "Permissions": "_roles",
    "Policy": "_policy",
    "Principal": "_config",
    "Settings": "_settings",
    "Usage": "_ensure",
    "abandoned": "_lock",
    "check_fit": "_ensure",
    "default_lab_dir": "_lab_dir",
    "default_total": "_ensure",
    "df": "_ensure",
    "ensure_streams": "_ensure",
    "is_loopback": "_config",
    "nats_server_binary": "_server",
    "parse_policy": "_policy",
    "permissions": "_roles",
    "render": "_config",
    "run_broker": "_run",
    "serving_scheduler": "_serve_scheduler",
    "serving_store": "_store",
    "Storekeeper": "_storekeeper",
    "stream_config": "_ensure",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
