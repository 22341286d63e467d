"""What the user's own programs work with: a local port that leads to the device, and a configuration for ssh.

The folder has no secret in it. The key is at the exporter: ssh asks a socket that leads there.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from jsnats.client import DriverClient
from jsnats.common.exceptions import ConfigurationError
from jsnats_driver_network.adapters import TcpPortforwardAdapter, UnixPortforwardAdapter

from .common import SSHSettings

_REMOTE = re.compile(r"^([^\s:/@]+@)?:")


@dataclass(frozen=True)
class Session:
    """A forward that stands. `name` is what ssh calls the device, `agent` the socket that signs, if there is one."""

    host: str
    port: int
    name: str
    config: Path
    agent: str | None

    @property
    def environment(self) -> dict[str, str]:
        """Ours, with the way to the key in it."""
        return os.environ | ({"SSH_AUTH_SOCK": self.agent} if self.agent else {})

    def ssh(self, *words: str) -> list[str]:
        """The command line of ssh: options, then what to run."""
        return [_found("ssh"), "-F", str(self.config), self.name, *words]

    def scp(self, *words: str) -> list[str]:
        """That of scp; `:path` is a path on the device."""
        return [_found("scp"), "-F", str(self.config), *self._named(words)]

    def rsync(self, *words: str) -> list[str]:
        """That of rsync; `:path` is a path on the device."""
        program, shell = _found("rsync"), [_found("ssh"), "-F", str(self.config)]
        return [program, "-e", shlex.join(shell), *self._named(words)]

    def _named(self, words: Sequence[str]) -> list[str]:
        return [_REMOTE.sub(lambda found: f"{found[1] or ''}{self.name}:", word) for word in words]


@contextmanager
def opened(client: DriverClient, *options: str) -> Iterator[Session]:
    """Stand for as long as the block. `options` are lines for the configuration of ssh, before ours."""
    settings = SSHSettings.model_validate(client.call("settings"))
    name = f"{client.exporter}.{client.path}".rstrip(".")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jsnats-ssh-")))
        host, port = stack.enter_context(TcpPortforwardAdapter(client=client.children["tcp"]))
        agent = None
        if settings.identity:
            agent = stack.enter_context(UnixPortforwardAdapter(client=client, path=folder / "agent", method="sign"))
        session = Session(host, port, name, folder / "config", agent)
        lines = [*options, *_lines(session, settings)]
        session.config.write_text("".join(f"{line}\n" for line in (f"Host {name}", *lines)))
        (folder / "known_hosts").write_text(f"{name} {settings.host_key}\n" if settings.host_key else "")
        yield session


def _lines(session: Session, settings: SSHSettings) -> Iterator[str]:
    yield f"HostName {session.host}"
    yield f"Port {session.port}"
    if settings.username:
        yield f"User {settings.username}"
    # A device gets new keys with each image: what is not configured is taken, and forgotten with the session.
    yield f"StrictHostKeyChecking {'yes' if settings.host_key else 'accept-new'}"
    yield f"HostKeyAlias {session.name}"
    yield f'UserKnownHostsFile "{session.config.with_name("known_hosts")}"'
    yield "GlobalKnownHostsFile /dev/null"
    yield "UpdateHostKeys no"
    yield "LogLevel ERROR"
    if session.agent:
        yield f'IdentityAgent "{session.agent}"'
        yield "IdentityFile none"  # else the user's own keys are tried too, and a server that counts says no


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        package = "rsync" if program == "rsync" else "openssh-client"
        raise ConfigurationError(f"{program} is not installed here: on Debian, apt-get install {package}")
    return path
