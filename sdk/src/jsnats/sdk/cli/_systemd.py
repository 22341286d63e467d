"""`install --systemd`: the unit of a service, and where it goes."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jsnats.schemas import ConfigurationError

from ._options import UNITS

CREDENTIALS = "${CREDENTIALS_DIRECTORY}"
"""Where systemd puts the credentials of a service, for it alone to read."""

_UNIT = """\
# Written by `jsnats {words} install --systemd`. Change it with `systemctl edit {name}`.
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
Restart=always
RestartSec=2
WatchdogSec=30
KillMode=mixed
TimeoutStopSec=60
# It reads its configuration, writes to its state and its cache, and gains nothing.
StateDirectory=jsnats
CacheDirectory=jsnats
Environment=XDG_STATE_HOME=/var/lib XDG_CACHE_HOME=/var/cache PYTHONUNBUFFERED=1
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
{own}

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A service of systemd. `words` is the command it runs, as in `jsnats agent run`; `own` are lines of its own.

    `credentials` are files that only root need be able to read, by the name under which the service finds them.
    """

    name: str
    words: str
    description: str
    arguments: Sequence[str]
    own: Sequence[str] = ()
    credentials: Mapping[str, Path] = field(default_factory=dict)

    def text(self) -> str:
        """The unit file."""
        program = str(Path(sys.executable).with_name("jsnats"))
        command = [program, *self.words.split(), "run", *self.arguments]
        loaded = [f"LoadCredential={name}:{path}" for name, path in self.credentials.items()]
        return _UNIT.format(
            words=self.words,
            name=self.name,
            description=self.description,
            command=" ".join(map(_quoted, command)),
            own="\n".join([*loaded, *self.own]),
        )


def install_unit(unit: Unit, folder: Path, *, systemd: bool) -> str:
    """Write the unit into `folder`; return its path and what is left to do, for people.

    Raises ConfigurationError for a folder we may not write to, and unless `systemd` was asked for.
    """
    if not systemd:
        raise ConfigurationError("say for what: --systemd is what there is")
    path = folder / unit.name
    try:
        path.write_text(unit.text())
        path.chmod(0o644)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {path}: {error.strerror}; become root, or name another folder with --output"
        ) from error
    return f"{path}\n{_next(path)}"


def _next(path: Path) -> str:
    start = f"systemctl daemon-reload && systemctl enable --now {path.stem}"
    return start if path.parent == UNITS else f"cp {path} {UNITS}/ && {start}"


def _quoted(word: str) -> str:
    """A word of ExecStart, see systemd.service(5)."""
    if word.startswith(CREDENTIALS):
        return word
    word = word.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[A-Za-z0-9_./:@,+=$%-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
