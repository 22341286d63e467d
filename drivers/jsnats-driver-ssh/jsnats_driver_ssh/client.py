"""The user's side of ssh: never imports the driver."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import click

from jsnats.client import CompositeClient

from .commands import ssh_command
from .common import SSHSettings
from .session import Session, opened

SSH_FAILED = 255
"""What ssh exits with when it did not get as far as the command."""


class SSHWrapperClient(CompositeClient):
    """Client of a device's ssh: this machine's own ssh, scp and rsync, over the broker, with the exporter's key.

    `run`, `scp` and `rsync` ask nobody for a password: a login that is refused is an error.
    """

    def settings(self) -> SSHSettings:
        """Return who logs in, and the public keys of both sides."""
        return SSHSettings.model_validate(self.call("settings"))

    @contextmanager
    def forward(self) -> Iterator[tuple[str, int, dict[str, str]]]:
        """For programs and libraries that speak ssh: host and port of a forward, and the environment with the key.

        `SSH_AUTH_SOCK` of that environment leads to the exporter's key; without one it is that of this process.
        """
        with opened(self) as session:
            yield session.host, session.port, session.environment

    def run(
        self, *command: str, stdin: str | None = None, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the device, as `ssh` does with these words; options of ssh may stand before it.

        Return its `returncode`, `stdout` and `stderr`; one other than 0 is a result, no error. Raises ConnectionError
        with the words of ssh when the device is not reached or refuses the login, TimeoutError after `timeout` s.
        """
        with self._opened() as session:
            done = _run(session, session.ssh(*command), stdin, timeout)
        if done.returncode == SSH_FAILED:
            raise ConnectionError(f"ssh: {_last(done)}")
        return done

    def scp(self, *words: str, timeout: float | None = None) -> None:
        """Copy files: `scp("image.bin", ":/tmp/")`, `scp(":/var/log/messages", ".")`.

        Raises OSError with the words of scp, TimeoutError after `timeout` s.
        """
        with self._opened() as session:
            _check("scp", _run(session, session.scp(*words), None, timeout))

    def rsync(self, *words: str, timeout: float | None = None) -> str:
        """Copy what has changed: `rsync("-a", "build/", ":/srv/app/")`; return what rsync said. Raises as `scp`."""
        with self._opened() as session:
            return _check("rsync", _run(session, session.rsync(*words), None, timeout))

    def cli(self) -> click.Command:
        """Return the command of `j`: ssh itself, with scp and rsync below it."""
        return ssh_command(self)

    @contextmanager
    def _opened(self) -> Iterator[Session]:
        with opened(self, "BatchMode yes") as session:
            yield session


def _run(
    session: Session, command: list[str], stdin: str | None, timeout: float | None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env=session.environment,
            input=stdin or "",  # never ours
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{shlex.join(command)} did not end within {timeout:g} s") from error


def _check(program: str, done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        raise OSError(f"{program}: {_last(done)}")
    return done.stdout


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
