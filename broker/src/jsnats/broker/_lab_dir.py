"""The directory of a lab: who may connect, with which key, and everything that nats-server reads and writes.

    auth.json      the principals: names, roles, public keys; passwords of those who come by MQTT
    broker.json    where the broker listens and how much it stores
    leaf.json      what the lab needs to reach its hub, if it is a site behind a link
    outside.json   the servers that somebody else runs, if there are any; conf/ has their configuration
    creds/         one context file for each principal, with its secret seed; for MQTT, name and password
    policy.yaml    what users may ask of the scheduler: written by hand, or not there
    nats.conf      made from the above, never edited by hand
    nats.log, nats.pid, store/    the server's own
    lab.lock       held by the one broker that runs here

Files are replaced as a whole; only the owner can read the secrets or enter the directory.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shlex
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from jsnats.schemas import ADMIN, USER, VIEWER, VISITOR, BrokerUnreachable, ConfigurationError, escape_user
from jsnats.sdk import Context, write_secret

from ._config import BrokerConfig, Principal, render
from ._lab_files import read_json
from ._lock import editing, is_running, running
from ._outside import Node, Outside
from ._principals import Credentials, checked, from_row, known_as, rows, taken, token_of
from ._reload import reload_server
from ._reload_outside import reload_servers
from ._settings import Settings
from ._sites import SITE, Leaf, check_site, names, visitor

log = logging.getLogger("jsnats.broker")

BROKER = "broker"
"""Name of the admin that the broker itself connects as, to make the streams."""

SYSTEM = "system"


def default_lab_dir() -> Path:
    """The lab of this user: `$XDG_STATE_HOME/jsnats/lab`, normally `~/.local/state/jsnats/lab`."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home) / "jsnats" / "lab"


class LabDir:
    """A lab directory. Changes of principals reach a running broker before the method returns."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path).absolute() if path else default_lab_dir()
        self.creds = self.path / "creds"
        self._secrets = Credentials(self.creds)
        self.log = self.path / "nats.log"
        self.policy = self.path / "policy.yaml"
        self.conf = self.path / "conf"
        self._auth = self.path / "auth.json"
        self._broker = self.path / "broker.json"
        self._outside = self.path / "outside.json"
        self._leaf = self.path / "leaf.json"

    # ------------------------------------------------------------------ the directory

    def init(self) -> None:
        """Create what is missing of it: the directory, the system key, the broker's own admin.

        Raises ConfigurationError for a place where it cannot be.
        """
        try:
            self.creds.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.chmod(0o700)
        except OSError as error:
            raise ConfigurationError(
                f"cannot keep a lab in {self.path} ({error.strerror}): choose another --dir"
            ) from error
        with editing(self.path / "auth.lock"):
            if not self._broker.exists():
                self.save_settings(Settings(server_name=f"jsnats-{secrets.token_hex(4)}"))
            if not self._auth.exists():
                url = self.settings().url
                system = self._secrets.issue(url, ADMIN, SYSTEM, path=self._secrets.system)
                admin = self._secrets.issue(url, ADMIN, BROKER)
                self._save_principals(system.key, [admin])

    def exists(self) -> bool:
        """Whether there is a lab in the directory."""
        return self._auth.exists()

    @property
    def option(self) -> str:
        """What a command that is printed needs to mean this lab: ` --dir DIR`, or nothing for that of this user."""
        return "" if self.path == default_lab_dir() else f" --dir {shlex.quote(str(self.path))}"

    def lock(self) -> AbstractContextManager[int]:
        """Be the one broker of this lab. Raises ConfigurationError if another is."""
        return running(self.path / "lab.lock")

    def is_running(self) -> bool:
        """Whether there is one."""
        return is_running(self.path / "lab.lock")

    def settings(self) -> Settings:
        """What the broker was last started with. Raises ConfigurationError for a directory that is no lab."""
        return Settings.read(read_json(self._broker))

    def save_settings(self, settings: Settings) -> None:
        """Remember them for the next start and for new credentials."""
        write_secret(self._broker, json.dumps(asdict(settings), indent=1))

    def move_to(self, settings: Settings) -> None:
        """Remember the settings, and let the context files that lie here lead there."""
        self.save_settings(settings)
        self._secrets.lead_to(settings.url)

    def configure(self, settings: Settings) -> BrokerConfig:
        """Take over where the broker listens: in nats.conf, and in the context files that lie here."""
        with editing(self.path / "auth.lock"):
            config = self._config(settings)
            text = render(config)
            self.move_to(settings)
            write_secret(self.path / "nats.conf", text)
        return config

    def outside(self) -> Outside | None:
        """The servers that somebody else runs, None if the lab has none."""
        if not self._outside.exists():
            return None
        data = read_json(self._outside)
        return Outside(**data | {"nodes": tuple(Node(**node) for node in data["nodes"])})

    def configure_outside(self, outside: Outside, store_bytes: int, leaf: Leaf | None = None) -> list[Path]:
        """Write the configuration of servers that somebody else runs, and let the context files lead to them. With a
        `leaf`, the lab is a site from their next start on.

        Returns the files. Raises ConfigurationError for what cannot be, and leaves it at what was before.
        """
        outside.files("", (), leaf or self.leaf())
        with editing(self.path / "auth.lock"):
            if leaf:
                self.join(leaf)
            self.move_to(replace(self.settings(), url=outside.url, store_bytes=store_bytes))
            write_secret(self._outside, json.dumps(asdict(outside), indent=1))
            return self._write_conf(outside)

    def reload_outside(self) -> list[str]:
        """Make the servers that somebody else runs read their configuration again; return the names of those that did.

        Raises ConfigurationError if there are none, BrokerUnreachable, BrokerUnfit for one that refuses it.
        """
        outside = self.outside()
        if outside is None:
            raise ConfigurationError(f"the lab in {self.path} runs its broker itself: there is nothing to reload")
        return reload_servers(self.system_context(), len(outside.nodes), self.sites())

    # ------------------------------------------------------------------ sites behind a link

    def leaf(self) -> Leaf | None:
        """What this lab needs to reach its hub, None if it is no site."""
        return Leaf.load(self._leaf) if self._leaf.exists() else None

    def join(self, leaf: Leaf) -> None:
        """Be a site of a hub from the next start of the broker on."""
        write_secret(self._leaf, leaf.encode())

    def sites(self) -> list[str]:
        """The sites of this hub, by name."""
        return [each.name for each in self.principals() if each.role == SITE]

    def add_site(self, name: str) -> Leaf:
        """Let a site's broker dial in; return what it needs for that, the same as before for one that is known.

        Raises ConfigurationError for a name that cannot be or that somebody has, and for a lab that no site can reach.
        """
        check_site(name)
        urls = self._leaf_urls()
        with self._editing() as principals:
            known = known_as(principals, name)
            if known and known.role != SITE:
                raise taken(known)
            leaf, site = self._secrets.issue_leaf(known, name, urls)
            if site != known:
                principals[:] = [*(each for each in principals if each != known), site]
            self._add(principals, ADMIN, visitor(BROKER), name)
        return leaf

    def _leaf_urls(self) -> tuple[str, ...]:
        outside = self.outside()
        if outside is None or not outside.leafnodes:
            raise ConfigurationError("no site can reach this lab: `jsnats broker config --leafnodes 7422` opens a port")
        return outside.leaf_urls

    # ------------------------------------------------------------------ the principals

    def add(self, role: str, name: str, *, site: str = "") -> Context:
        """Let `name` in as `role` and return its context; the existing one if it is already in with that role.

        With `site`, as a visitor of that site of this hub, a user or a viewer: `ann` is `ann@hub` there.
        Raises ConfigurationError for a role there is not, a name that cannot be, or one that has another role.
        """
        if site and (site not in self.sites() or role not in (USER, VIEWER)):
            raise ConfigurationError(f"visitors are users and viewers, of one of the sites: {names(self.sites())}")
        if not site:
            _refuse_visitor(name)
        with self._editing() as principals:
            return self._add(principals, role, visitor(name) if site else name, site)

    def _add(self, principals: list[Principal], role: str, name: str, site: str) -> Context:
        known = known_as(principals, token_of(role, name), site)
        if known and (known.role != role or known.password):
            raise taken(known)
        if known and self._secrets.file(known).exists():
            return Context.load(self._secrets.file(known))
        principal = self._secrets.issue(self.settings().url, role, name, site=site)
        principals[:] = [*(each for each in principals if each != known), principal]
        return Context.load(self._secrets.file(principal))

    def add_mqtt(self, name: str) -> Path:
        """Let `name` in as a viewer who comes by MQTT; return the file with name and password.

        Raises ConfigurationError for a name that somebody else has, or a visitor would.
        """
        _refuse_visitor(name)
        with self._editing() as principals:
            known = known_as(principals, escape_user(name))
            if known and not known.password:
                raise taken(known)
            principal = self._secrets.issue_login(known, name)
            if not known:
                principals.append(principal)
        return self._secrets.file(principal)

    def revoke(self, name: str, *, site: str = "") -> Principal:
        """Lock `name` out, or a visitor of a `site`; a running broker drops its connections at once.

        A site goes with all its visitors. Raises ConfigurationError if unknown.
        """
        with self._editing() as principals:
            gone = self._find(principals, visitor(name) if site else name, site)
            if gone.name in (BROKER, visitor(BROKER)):
                raise ConfigurationError(f"{BROKER!r} is the broker's own name and cannot be revoked")
            for each in [each for each in principals if each == gone or (gone.role == SITE and each.site == gone.site)]:
                self._secrets.file(each).unlink(missing_ok=True)
                principals.remove(each)
        return gone

    def principals(self) -> list[Principal]:
        """Everybody who is let in, in order of names."""
        found = read_json(self._auth)["principals"]
        return sorted(map(from_row, found), key=lambda each: (each.site, each.name))

    def rows(self) -> list[dict[str, str]]:
        """The principals as they stand in auth.json: name, role, public key, password."""
        return rows(self.principals())

    def admit(self, found: Iterable[dict[str, str]]) -> list[Principal]:
        """Let those in who were let in elsewhere, and return them; who is in here already stays as he is.

        The admins that the broker itself has, one for each site, are new ones. Raises ConfigurationError for rows that
        no lab has written.
        """
        with self._editing() as principals:
            new = [each for each in map(checked, found) if not known_as(principals, each.token, each.home)]
            new = [each for each in new if (each.role, each.name) != (ADMIN, visitor(BROKER))]
            principals += new
            for site in [each.name for each in new if each.role == SITE]:
                self._add(principals, ADMIN, visitor(BROKER), site)
        return new

    def context(self, name: str, *, site: str = "") -> Context:
        """The context of a principal. Raises ConfigurationError if there is none."""
        return Context.load(self.context_path(name, site=site))

    def context_path(self, name: str, *, site: str = "") -> Path:
        """Where the context file of a principal is. Raises ConfigurationError if there is none."""
        return self._secrets.file(self._find(self.principals(), visitor(name) if site else name, site))

    def system_context(self) -> Context:
        """The way into the system account, where the broker tells who connects and disconnects."""
        return Context.load(self._secrets.system)

    def secret_files(self) -> list[Path]:
        """What lets somebody in: context files, logins of MQTT, and what a site needs to reach its hub."""
        return [*sorted(each for each in self.creds.rglob("*") if each.is_file()), *self.path.glob(self._leaf.name)]

    def secret_file(self, principal: Principal) -> Path:
        """Where that of a principal is, or would be."""
        return self._secrets.file(principal)

    # ------------------------------------------------------------------ files

    @contextmanager
    def _editing(self) -> Iterator[list[Principal]]:
        self.init()
        with editing(self.path / "auth.lock"):
            before = self.principals()
            principals = list(before)
            yield principals
            if principals != before:
                self._save_principals(read_json(self._auth)["system"], principals)
                self._tell()

    def _tell(self) -> None:
        """Bring the changed principals to the brokers."""
        write_secret(self.path / "nats.conf", render(self._config(self.settings())))
        if self.is_running():
            reload_server(self.path)
        if outside := self.outside():
            self._write_conf(outside)
            self._tell_outside(outside)

    def _tell_outside(self, outside: Outside) -> None:
        later = "it counts from their next start, or `jsnats broker reload`"
        try:
            told = self.reload_outside()
        except BrokerUnreachable:
            log.warning("stored, but no server answers at %s: %s", outside.url, later)
            return
        if missing := sorted({node.name for node in outside.nodes} - set(told)):
            log.warning("stored, but not told to %s: %s", ", ".join(missing), later)

    def _write_conf(self, outside: Outside) -> list[Path]:
        self.conf.mkdir(mode=0o700, exist_ok=True)
        files = outside.files(read_json(self._auth)["system"], self.principals(), self.leaf())
        for name, text in files.items():
            write_secret(self.conf / name, text)
        return [self.conf / name for name in files]

    def _config(self, settings: Settings) -> BrokerConfig:
        return BrokerConfig(
            server_name=settings.server_name,
            host=settings.host,
            port=settings.port,
            directory=self.path,
            max_file=settings.max_file,
            mqtt=settings.mqtt,
            sync=settings.sync,
            auth=settings.auth,
            system_key=read_json(self._auth)["system"],
            principals=tuple(self.principals()),
        )

    def _find(self, principals: list[Principal], name: str, site: str = "") -> Principal:
        for each in principals:
            if name in (each.name, each.token) and site == each.home:
                return each
        raise ConfigurationError(f"the lab in {self.path} knows no {name!r}: see `jsnats auth ls`")

    def _save_principals(self, system_key: str, principals: list[Principal]) -> None:
        write_secret(self._auth, json.dumps({"system": system_key, "principals": rows(principals)}, indent=1))


def _refuse_visitor(name: str) -> None:
    if name.endswith(VISITOR):
        raise ConfigurationError(f"{name!r}: names that end in {VISITOR} are of those who come by a hub")
