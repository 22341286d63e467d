"""Where the broker is and who we are there: the context file, and how one is found.

A context file is JSON with mode 0600: url, name, role, seed. `jsnats auth add` writes one for each principal,
`jsnats up` one for as long as it runs.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from jsnats.schemas import ADMIN, ROLES, USER, ConfigurationError, escape_user

_FIELDS = ("url", "name", "role", "seed", "site")
DEFAULT_URL = "nats://127.0.0.1:4222"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A way into a lab. `seed` is the NKey seed, "" for a broker without authentication. `site` is the name of the site
    that is seen from its hub by it, "" for the lab of the broker itself."""

    url: str
    name: str
    role: str = USER
    seed: str = ""
    site: str = ""

    @property
    def token(self) -> str:
        """The name as it stands in subjects."""
        return escape_user(self.name)

    def save(self, path: Path) -> None:
        """Write the file with mode 0600, whole or not at all. Raises ConfigurationError where it cannot be."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_secret(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Context:
        """Read a context file. Raises ConfigurationError with what is wrong in it."""
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError:
            raise ConfigurationError(f"no context file {path}: `jsnats up` or `jsnats auth add` write one") from None
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"cannot read context file {path}: {error}") from error
        fields = {key: str(data[key]) for key in _FIELDS if isinstance(data, dict) and key in data}
        if "url" not in fields or "name" not in fields or fields.get("role", USER) not in ROLES:
            raise ConfigurationError(f"context file {path} needs url, name and a role of {', '.join(ROLES)}")
        return cls(**fields)


def write_secret(path: Path, text: str) -> None:
    """Replace a file as a whole; only the owner can read it. Raises ConfigurationError, and changes nothing."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".secret-")  # mode 0600
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


def default_path() -> Path:
    """The context used when nothing else is named."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(home) / "jsnats" / "context.json"


def find_context(url: str | None = None, path: str | os.PathLike[str] | None = None) -> Context:
    """Choose the context: the arguments, then JSNATS_CONTEXT, JSNATS_URL, the default file, a local broker.

    A `url` replaces the one in the file. Raises ConfigurationError for a file that is named but not usable.
    """
    url = url or os.environ.get("JSNATS_URL")
    named = path or os.environ.get("JSNATS_CONTEXT")
    if named:
        found = Context.load(Path(named))
    elif not url and default_path().exists():
        found = Context.load(default_path())
    else:
        return Context(url=url or DEFAULT_URL, name=_login(), role=ADMIN)
    return replace(found, url=url) if url else found


def _login() -> str:
    return os.environ.get("JSNATS_USER") or os.environ.get("USER") or "anonymous"
