"""Who is let in: the principals of a lab, as rows of `auth.json`, and each one's secret, a file in `creds/`."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import nkeys

from jsnats.schemas import EXPORTER, ROLES, VIEWER, ConfigurationError, check_name, escape_user
from jsnats.sdk import Context, write_secret

from ._config import Principal
from ._sites import SITE, Leaf, check_site

_STORED = ("name", "role", "key", "password", "site")


class Credentials:
    """The folder of secrets: a context file of each principal; for MQTT, name and password; for a site, a leaf."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.system = path / "system.json"

    def file(self, principal: Principal) -> Path:
        """Where the secret of a principal is."""
        if principal.role == SITE:
            return self.path / principal.site / "leaf.json"
        kind = "mqtt" if principal.password else "json"
        return self.path / principal.site / f"{principal.role}-{principal.token}.{kind}"

    def issue(self, url: str, role: str, name: str, *, site: str = "", path: Path | None = None) -> Principal:
        """Make a new secret that leads to `url`, in a context file."""
        seed = _seed()
        context = Context(url=url, name=name, role=role, seed=seed, site=site)
        principal = Principal(name, context.token, role, _public_key(seed), site=site)
        context.save(path or self.file(principal))
        return principal

    def issue_login(self, known: Principal | None, name: str) -> Principal:
        """A viewer who comes by MQTT, with the password that he has if he is known."""
        principal = known or Principal(name, escape_user(name), VIEWER, "", secrets.token_urlsafe(24))
        login = {"username": principal.name, "password": principal.password}
        write_secret(self.file(principal), json.dumps(login, indent=1) + "\n")
        return principal

    def issue_leaf(self, known: Principal | None, name: str, urls: tuple[str, ...]) -> tuple[Leaf, Principal]:
        """What a site needs to reach its hub at `urls`, with the key that it has if it is known."""
        if known and self.file(known).exists():
            leaf, principal = replace(Leaf.load(self.file(known)), urls=urls), known
        else:
            leaf = Leaf(site=name, urls=urls, seed=_seed())
            principal = Principal(name, name, SITE, _public_key(leaf.seed), site=name)
        self.file(principal).parent.mkdir(mode=0o700, exist_ok=True)
        write_secret(self.file(principal), leaf.encode())
        return leaf, principal

    def lead_to(self, url: str) -> None:
        """Let the context files that lie here lead there."""
        for path in [*self.path.glob("*.json"), *self.path.glob("*/*-*.json")]:
            context = Context.load(path)
            if context.url != url:
                replace(context, url=url).save(path)


def rows(principals: Iterable[Principal]) -> list[dict[str, str]]:
    """Them as they stand in auth.json."""
    return [{name: getattr(each, name) for name in _STORED} for each in principals]


def from_row(row: dict[str, str]) -> Principal:
    """One of them back."""
    return Principal(
        row["name"], escape_user(row["name"]), row["role"], row["key"], row.get("password", ""), row.get("site", "")
    )


def checked(row: dict[str, str]) -> Principal:
    """One of an archive, whose words become paths here. Raises ConfigurationError for what no lab has written."""
    found = from_row(row)
    if found.role == SITE and found.name != found.site:
        raise ConfigurationError(f"{found.name!r} is not the site {found.site!r}")
    if found.role != SITE:
        token_of(found.role, found.name)
    if found.site:
        check_site(found.site)
    return found


def known_as(principals: Iterable[Principal], token: str, site: str = "") -> Principal | None:
    """Who has that token; who is at another site is somebody else."""
    return next((each for each in principals if (each.token, each.home) == (token, site)), None)


def token_of(role: str, name: str) -> str:
    """What stands for it in subjects. Raises ConfigurationError for a role there is not, a name that cannot be."""
    if role not in ROLES:
        raise ConfigurationError(f"there is no role {role!r}: use one of {', '.join(ROLES)}")
    return check_name(name, "exporter name") if role == EXPORTER else escape_user(name)


def taken(known: Principal) -> ConfigurationError:
    """Why that name cannot be somebody else's too."""
    how = " by MQTT" if known.password else ""
    return ConfigurationError(f"{known.name!r} is already {known.role}{how}: revoke it first, or choose another name")


def _seed() -> str:
    return str(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode())


def _public_key(seed: str) -> str:
    # nkeys wipes the buffer it is given, so it gets one of its own.
    return str(nkeys.from_seed(bytearray(seed.encode())).public_key.decode())
