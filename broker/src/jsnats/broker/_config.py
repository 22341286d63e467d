"""The text of nats-server's configuration, a pure function of what it shall say."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jsnats.schemas import ADMIN, ConfigurationError

from ._roles import Permissions, mqtt_permissions, permissions
from ._sites import HUB_DOMAIN, SITE, Leaf, account, leaf_permissions, mappings, visitor_permissions

LIMITS: Final[dict[str, Any]] = {
    "max_payload": 1 << 20,
    # A client that is cut off without a word is gone after 30 s; the default is 4 min.
    "ping_interval": "10s",
    "ping_max": 2,
    # A slow reader is dropped when it has not taken 64 MiB, or one write, in this time.
    "write_deadline": "10s",
    "max_pending": 64 << 20,
}
MAX_MEMORY: Final = 64 << 20
LOG_BYTES = 32 << 20
_SYNC = re.compile(r"always|[1-9]\d{0,5}(ms|s|m|h)")
# A link that has gone without a word is cut after 9 to 16 s: two pings unanswered, and up to two intervals until they
# are due and counted. nats-server 2.15 has no setting for links alone.
_HALF_OPEN: Final = {"ping_interval": "4s"}


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody the broker knows. `token` is the name as it stands in subjects, `key` the public NKey.

    Who comes by MQTT, which knows no NKeys, has a `password` instead. One with a `site` is a principal of that site's
    account.
    """

    name: str
    token: str
    role: str
    key: str
    password: str = ""
    site: str = ""

    @property
    def home(self) -> str:
        """The site among whose principals it is; "" for those of the lab, of which a site itself is one."""
        return "" if self.role == SITE else self.site


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """One nats-server with JetStream. `max_file` is in bytes; the files of the server lie in `directory`.

    `mqtt` is the port for MQTT, 0 for none. `sync` is how often data is forced onto the disk, see `sync_settings`.
    `system_key` is the public NKey of the only user of the system account.
    Without `auth` anybody may do anything.
    """

    server_name: str
    host: str
    port: int
    directory: Path
    max_file: int
    mqtt: int = 0
    sync: str = ""
    auth: bool = True
    system_key: str = ""
    principals: tuple[Principal, ...] = ()


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def sync_settings(sync: str) -> dict[str, str]:
    """How often JetStream forces what it stores onto the disk: "always", which is before it acknowledges, or every
    "10s"; "" leaves it at nats-server's own 2 min. Raises ConfigurationError for anything else.
    """
    if sync and not _SYNC.fullmatch(sync):
        raise ConfigurationError(f"--sync {sync!r} is neither `always` nor a time: write it like 10s or 2m")
    return {"sync_interval": sync} if sync else {}


def render(config: BrokerConfig) -> str:
    """Return the configuration file. Raises ConfigurationError for a broker open to the network without auth."""
    if not config.auth and not is_loopback(config.host):
        raise ConfigurationError(f"listening on {config.host} without credentials is refused: use 127.0.0.1")
    return _text(_server(config) | (_accounts(config.system_key, config.principals) if config.auth else {}))


def render_node(settings: dict[str, Any]) -> str:
    """The file of a server that somebody else runs, which finds `accounts.conf` beside it."""
    return _text(LIMITS | settings) + "include ./accounts.conf\n"


def render_accounts(system_key: str, principals: tuple[Principal, ...]) -> str:
    """The file that says who may connect."""
    return _text(_accounts(system_key, principals))


def _text(settings: dict[str, Any]) -> str:
    # JSON values are valid in this format, and quoting keeps `$` from being read as a variable.
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False, indent=1)}\n" for key, value in settings.items())


def link_settings(listen: str, leafnodes: int, leaf: Leaf | None, tls: dict[str, str]) -> dict[str, Any]:
    """What a server says of links: of a hub that sites dial into at port `leafnodes`, of a site that has a `leaf`.

    `tls` names the files of either. Raises ConfigurationError for one that would be both.
    """
    if leafnodes and leaf:
        raise ConfigurationError(f"this lab is the site {leaf.site!r} of a hub: it cannot be one itself")
    if leaf:
        return {"leafnodes": leaf.settings(tls), **_HALF_OPEN}
    if not leafnodes:
        return {}
    listening = {"host": listen, "port": leafnodes, "no_advertise": True}
    return {"leafnodes": listening | ({"tls": tls} if tls else {}), **_HALF_OPEN}


def domain(leafnodes: int, leaf: Leaf | None) -> dict[str, str]:
    """The JetStream of a hub and that of a site are told apart by it."""
    found = leaf.site if leaf else HUB_DOMAIN if leafnodes else ""
    return {"domain": found} if found else {}


def _server(config: BrokerConfig) -> dict[str, Any]:
    mqtt = {"mqtt": {"host": config.host, "port": config.mqtt}} if config.mqtt else {}
    return mqtt | {
        "server_name": config.server_name,
        "host": config.host,
        "port": config.port,
        **LIMITS,
        "log_file": str(config.directory / "nats.log"),
        "logfile_size_limit": LOG_BYTES,
        "logfile_max_num": 3,
        "pid_file": str(config.directory / "nats.pid"),
        "jetstream": {
            "store_dir": str(config.directory / "store"),
            "max_mem": MAX_MEMORY,
            "max_file": config.max_file,
            **sync_settings(config.sync),
        },
    }


def _accounts(system_key: str, principals: tuple[Principal, ...]) -> dict[str, Any]:
    # Whose connection has ended is told in the system account; the scheduler hears it from there.
    system = {
        "users": [{"nkey": system_key}],
        "exports": [{"stream": "$SYS.ACCOUNT.*.DISCONNECT", "accounts": ["LAB"]}],
    }
    lab = {
        "jetstream": "enabled",
        "imports": [{"stream": {"account": "SYS", "subject": "$SYS.ACCOUNT.LAB.DISCONNECT"}}],
        "users": [_user(principal) for principal in principals if not principal.site],
    }
    sites = [each.site for each in principals if each.role == SITE]
    return {
        "accounts": {"SYS": system, "LAB": lab} | {account(site): _site(site, principals) for site in sites},
        "system_account": "SYS",
    }


def _site(site: str, principals: tuple[Principal, ...]) -> dict[str, Any]:
    users = [_user(each) for each in principals if each.site == site]
    return {"jetstream": "enabled", "mappings": mappings(site), "users": users}


def _user(principal: Principal) -> dict[str, Any]:
    if principal.password:
        # In clear: it stands in a file beside this one, both for the owner only, so a hash would hide nothing.
        return {
            "user": principal.name,
            "password": principal.password,
            "allowed_connection_types": ["MQTT"],
            "permissions": _subjects(mqtt_permissions()),
        }
    if principal.role == SITE:
        crossing = _subjects(leaf_permissions(principal.site))
        return {"nkey": principal.key, "allowed_connection_types": ["LEAFNODE"], "permissions": crossing}
    if principal.site and principal.role != ADMIN:
        allowed: Permissions | None = visitor_permissions(principal.role, principal.token, principal.site)
    else:
        allowed = permissions(principal.role, principal.token)
    return {"nkey": principal.key} | ({} if allowed is None else {"permissions": _subjects(allowed)})


def _subjects(allowed: Permissions) -> dict[str, Any]:
    # To the server an empty list of what is allowed means everything.
    publish = {"allow": allowed.publish} if allowed.publish else {"deny": [">"]}
    return {"publish": publish, "subscribe": {"allow": allowed.subscribe}}
