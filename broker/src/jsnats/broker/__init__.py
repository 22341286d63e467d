"""The broker of a lab: runs a real nats-server, or provisions one, and says who may do what on it.

    _roles.py     permissions of each role, from the subject table of jsnats.schemas
    _config.py    the text of nats-server's configuration: pure
    _lab_dir.py   the directory of a lab: principals, credentials, settings
    _lock.py      one broker per directory
    _server.py    the process of nats-server: start, watch, restart, stop
    _reload.py    its log, and the reload that only the log confirms
    _ensure.py    the streams and buckets, made and kept as the table says
    _store.py     the store of files: the service, its requests and answers
    _storekeeper.py, _shelf.py, _garbage.py    what each request does; the files in the streams; which are dropped
    _run.py       all of it together: `run_broker`
    cli.py        `jsnats broker` and `jsnats auth`
    testing.py    a broker for the tests of every part

It is a layer of its own so that a client installs none of it. Names load on first use, because the `jsnats` command
imports this package to learn its sub-commands, and NATS and the crypto library cost it 150 ms.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._config import BrokerConfig, Principal, is_loopback, render
    from ._ensure import Usage, check_fit, default_total, df, ensure_streams, stream_config
    from ._lab_dir import BROKER, LabDir, Settings, default_lab_dir
    from ._lock import abandoned
    from ._roles import Permissions, permissions
    from ._run import Broker, run_broker
    from ._server import BrokerProcess, nats_server_binary
    from ._store import serving_store
    from ._storekeeper import Storekeeper

__all__ = [
    "BROKER",
    "Broker",
    "BrokerConfig",
    "BrokerProcess",
    "LabDir",
    "Permissions",
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
    "permissions",
    "render",
    "run_broker",
    "serving_store",
    "stream_config",
]

_HOME = {
    "BROKER": "_lab_dir",
    "Broker": "_run",
    "BrokerConfig": "_config",
    "BrokerProcess": "_server",
    "LabDir": "_lab_dir",
    "Permissions": "_roles",
    "Principal": "_config",
    "Settings": "_lab_dir",
    "Usage": "_ensure",
    "abandoned": "_lock",
    "check_fit": "_ensure",
    "default_lab_dir": "_lab_dir",
    "default_total": "_ensure",
    "df": "_ensure",
    "ensure_streams": "_ensure",
    "is_loopback": "_config",
    "nats_server_binary": "_server",
    "permissions": "_roles",
    "render": "_config",
    "run_broker": "_run",
    "serving_store": "_store",
    "Storekeeper": "_storekeeper",
    "stream_config": "_ensure",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
