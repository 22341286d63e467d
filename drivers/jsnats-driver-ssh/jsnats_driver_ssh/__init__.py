"""A device's ssh: `driver.py` has the driver, `identity.py` its key, `signing.py` the service that signs with it.

`client.py` is the client, `session.py` the forward and the configuration that the user's own programs work with,
`commands.py` those of `j`, `common.py` what both sides say alike, `wire.py` ssh's types of data. The driver is imported
when it is asked for, so that a client never loads cryptography.
"""

from typing import TYPE_CHECKING

from .client import SSHWrapperClient

if TYPE_CHECKING:
    from .driver import SSHWrapper

__all__ = ["SSHWrapper", "SSHWrapperClient"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
