"""What environment a command runs in.

From the agent it inherits everything but the agent's own settings, which name its broker and its key. From the caller
it takes any variable except those that change which program runs or what code it loads: the exporter's configuration
decides that, not the user.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

OWN_PREFIXES: Final = ("JSNATS_", "NATS_", "NKEY")
"""Of the agent: neither inherited nor settable."""

BLOCKED: Final = frozenset(
    {
        "BASHOPTS",
        "BASH_ENV",
        "CDPATH",
        "EDITOR",
        "ENV",
        "GCONV_PATH",
        "GLIBC_TUNABLES",
        "HOME",
        "HOSTALIASES",
        "IFS",
        "LOCPATH",
        "NLSPATH",
        "NODE_OPTIONS",
        "NODE_PATH",
        "PAGER",
        "PATH",
        "PROMPT_COMMAND",
        "PS4",
        "SHELL",
        "SHELLOPTS",
        "SSH_ASKPASS",
        "SSH_AUTH_SOCK",
        "TERMINFO",
        "VISUAL",
        "ZDOTDIR",
    }
)

BLOCKED_PREFIXES: Final = (
    *OWN_PREFIXES,
    "BASH_FUNC_",
    "CLASSPATH",
    "DYLD_",
    "GIT_",
    "JAVA_",
    "JDK_",
    "LD_",
    "LUA_",
    "MALLOC_",
    "PERL",
    "PIP_",
    "PYTHON",
    "RUBY",
    "SUDO_",
    "XDG_",
    "_JAVA_",
)

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def environment(inherited: Mapping[str, str], asked: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command: the agent's without its own settings, and what the caller asks for.

    Raises ValueError that names the first variable which is malformed or not the caller's to set.
    """
    for name, value in asked.items():
        _check(name, value)
    return {name: value for name, value in inherited.items() if not name.startswith(OWN_PREFIXES)} | dict(asked)


def _check(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an environment variable: use A-Z a-z 0-9 _ and no digit first")
    if name in BLOCKED or name.startswith(BLOCKED_PREFIXES):
        raise ValueError(f"{name} may not be set by a caller: it changes what runs on the exporter's host")
    if "\0" in value:
        raise ValueError(f"the value of {name} has a NUL character in it")
