"""A site behind a link: a lab of its own whose broker dials out to a hub. What each side's configuration says of it.

At the hub each site has an account of its own. So nothing of a site is ever taken for something of the hub's or of
another site's, and the hub's streams store nothing that comes over the link. Who may see the site from the hub is a
visitor: a principal of that account, with a name that ends in `@hub`, which no principal of a site has.

The streams of the site's account are copies, mirrors that a hub makes. A visitor reads them with the requests that he
would use at the site. What is not copied he reads at the site: the account maps those requests to the site's API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from jsnats.schemas import (
    BLOBS,
    CONSOLE,
    EVENTS,
    INTERFACE,
    LAB,
    LINK_BUCKET,
    LOGS,
    PRESENCE,
    RESULTS,
    TREE,
    VISITOR,
    ConfigurationError,
    link_key,
)

from ._roles import Permissions, permissions

SITE: Final = "site"
"""The role of the credential that a site's broker has at the hub."""
HUB_DOMAIN: Final = "hub"
PLAIN, TLS = "nats-leaf", "tls"
"""Schemes of the hub's addresses. With the latter a site takes no hub that does not encrypt."""
COPIED: Final = (TREE, INTERFACE, PRESENCE, LAB, EVENTS, LOGS, CONSOLE)
_DOMAIN = re.compile(r"[A-Za-z0-9_-]{1,32}")
_REQUESTS: Final = ("jsnats.call.>", "jsnats.ctl.>", "jsnats.up.>", "jsnats.lease.>", "jsnats.store.>")
_ANSWERS: Final = tuple(f"jsnats.{kind}.>" for kind in ("reply", "down", "live", "watch", "log", "event"))
WITHIN: Final = ("jsnats.admin.>", "jsnats.result.>", "jsnats.console.>", "$KV.>", "$SYS.>")
"""What a site lets cross in neither direction, whatever the hub allows: its boards are its own admins' alone.

Directions are for the hub to say, which a site cannot: nats-server 2.15 takes what a remote denies to import for
denied both ways, and refuses to reload a configuration in which that has changed.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What a site needs to reach its hub: the site's own name, the hub's addresses for leaf nodes, an NKey seed."""

    site: str
    urls: tuple[str, ...]
    seed: str

    def encode(self) -> str:
        """The file that is carried to the site."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def load(cls, path: Path) -> Leaf:
        """Read that file. Raises ConfigurationError."""
        try:
            data = json.loads(path.read_text())
            return cls(site=check_site(data["site"]), urls=tuple(map(str, data["urls"])), seed=str(data["seed"]))
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{path} is not what `jsnats auth add site NAME` writes at the hub") from error

    @property
    def encrypted(self) -> bool:
        """Whether the hub has a certificate. If so, the site connects in no other way."""
        return all(url.startswith(f"{TLS}:") for url in self.urls)

    def settings(self, tls: dict[str, str]) -> dict[str, Any]:
        """The site's part of a leaf node, as nats-server takes it."""
        remote = {
            "urls": list(self.urls),
            "account": "LAB",
            "nkey": self.seed,
            "deny_imports": list(WITHIN),
            "deny_exports": list(WITHIN),
        }
        return {"reconnect": "1s", "remotes": [remote | ({"tls": tls} if tls else {})]}


def check_site(name: str) -> str:
    """Return the name of a site. Raises ConfigurationError for one that cannot be."""
    if not isinstance(name, str) or not _DOMAIN.fullmatch(name) or name == HUB_DOMAIN:
        raise ConfigurationError(f"{name!r} is no name for a site: 1 to 32 of A-Z a-z 0-9 _ -, and not {HUB_DOMAIN!r}")
    return name


def visitor(name: str) -> str:
    """The name at a site of who has that name at the hub."""
    return name if name.endswith(VISITOR) else name + VISITOR


def account(site: str) -> str:
    """The account of a site at the hub."""
    return f"SITE_{site}"


def api_of(site: str) -> str:
    """What requests to the JetStream of a site begin with, from the hub."""
    return f"$JS.{site}.API"


def mappings(site: str) -> dict[str, str]:
    """Requests about what is not copied go to the site."""
    return {f"$JS.API.{request}": f"{api_of(site)}.{request}" for request in _AT_SITE}


_AT_SITE: Final = (
    f"CONSUMER.CREATE.{RESULTS.name}.>",
    f"CONSUMER.MSG.NEXT.{RESULTS.name}.>",
    f"DIRECT.GET.{BLOBS.name}.>",
)


def visitor_permissions(role: str, token: str, site: str) -> Permissions:
    """Those of the role at the site, the requests in the form that reaches it, and the state of the link."""
    allowed = permissions(role, token)
    assert allowed
    asked = [each for each in allowed.publish if each.startswith("$JS.API.") and _is_at_site(each)]
    there = [f"{api_of(site)}.{each.removeprefix('$JS.API.')}" for each in asked]
    link = f"$JS.API.DIRECT.GET.{LINK_BUCKET}.{link_key(site)}"
    return Permissions((*allowed.publish, *there, link), allowed.subscribe)


def _is_at_site(request: str) -> bool:
    return any(f".{spec.name}." in request for spec in (RESULTS, BLOBS))


def leaf_permissions(site: str) -> Permissions:
    """What may cross a link: published by the site, received by it."""
    api = api_of(site)
    copies = [f"{api}.CONSUMER.CREATE.{spec.name}{rest}" for spec in COPIED for rest in ("", ".>")]
    asked = [f"{api}.STREAM.INFO.{LAB.name}", *(f"{api}.{request}" for request in _AT_SITE)]
    publish = (*_ANSWERS, "$JS.M.>", "$JSC.R.>")
    return Permissions(publish, (*_REQUESTS, "jsnats.blob.>", "$SRV.>", "$JS.FC.>", *copies, *asked))


def names(sites: Iterable[str]) -> str:
    """Them for people."""
    return ", ".join(sorted(sites)) or "none"
