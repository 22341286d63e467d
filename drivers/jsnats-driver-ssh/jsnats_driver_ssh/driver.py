"""The exporter's side: what a client has to know to log in, and a key that signs logins and stays here."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from jsnats.driver import Composite, export, exportstream

from .common import SSHSettings
from .identity import Identity
from .signing import SigningStream


def _host_key(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"(ssh|ecdsa|sk)-\S+ AAAA[A-Za-z0-9+/=]+( [^\r\n]*)?", text):
        raise ValueError("this is no host key: give what ssh-keyscan prints behind the host, as ssh-ed25519 AAAA...")
    return text


@dataclass(kw_only=True)
class SSHWrapper(Composite):
    """The ssh of a device, for the users' own ssh, scp and rsync. Its child `tcp` leads to the device's sshd.

    `default_username` logs in unless the user says another; `host_key` (`ssh-ed25519 AAAA...`) is what the device must
    prove to be, without it any is taken. The private key is `ssh_identity`, its text, or in `ssh_identity_file`; it
    signs logins here and is never handed out.
    """

    default_username: str = Field(default="", pattern=r"^(\w[\w.@-]*\$?)?$")
    ssh_identity: str | None = Field(default=None, repr=False)
    ssh_identity_file: Path | None = None
    host_key: Annotated[str | None, AfterValidator(_host_key)] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if "tcp" not in self.children:
            raise ValueError(f"{type(self).__name__} needs a child tcp: the way to the device's sshd, a TcpNetwork")
        if self.ssh_identity is not None and self.ssh_identity_file is not None:
            raise ValueError("give ssh_identity or ssh_identity_file, not both")
        text = self.ssh_identity if self.ssh_identity_file is None else _read(self.ssh_identity_file)
        self._identity = None if text is None else _identity(text)

    @classmethod
    def client(cls) -> str:
        """Return the client that runs ssh."""
        return "jsnats_driver_ssh.client.SSHWrapperClient"

    @export
    async def settings(self) -> SSHSettings:
        """Say who logs in, and the public keys of both sides."""
        identity = self._identity.public if self._identity else None
        return SSHSettings(username=self.default_username, host_key=self.host_key, identity=identity)

    @exportstream
    @asynccontextmanager
    async def sign(self) -> AsyncGenerator[SigningStream, None]:
        """Connect to an ssh agent that has the key and signs logins with it. Raises ValueError without a key."""
        if self._identity is None:
            raise ValueError("there is no key here: set ssh_identity or ssh_identity_file")
        async with SigningStream(self._identity, self.logger.info) as stream:
            yield stream


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"ssh_identity_file {path}: {getattr(error, 'strerror', 'no text')}") from error


def _identity(text: str) -> Identity:
    try:
        return Identity(text)
    except ValueError as error:
        raise ValueError(f"ssh_identity: {error}") from None
