"""For tests of devices and drivers: the pytest plugin, which gives them a lab, a bench and its console as fixtures; and
`until`, which waits for what nobody announces.

`plugin.py` is what pytest loads (entry point `pytest11`): options, fixtures and hooks, nothing that takes time to
import. `_wish.py` says which exporter a test wants, from its mark, its class, the command line and the ini file.
`_benches.py` gives it to the fixtures, `_leases.py` takes leases, `_up.py` runs a whole lab for the length of a test
session, `_since.py` reads what consoles and drivers said since a test began, `_report.py` puts that into reports and
JUnit XML, `_case.py` is the form for those who write test classes.

`_until.py` needs neither pytest nor a lab. What has a name here is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._case import JsnatsTest
    from ._until import until, until_async

__all__ = ["JsnatsTest", "until", "until_async"]

_HOME = {"JsnatsTest": "_case", "until": "_until", "until_async": "_until"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
