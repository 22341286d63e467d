"""The pytest plugin: tests of devices get a lab, a bench and its console as fixtures.

`plugin.py` is what pytest loads (entry point `pytest11`): options, fixtures and hooks, nothing that takes time to
import. `_wish.py` says which exporter a test wants, from its mark, its class, the command line and the ini file.
`_benches.py` gives it to the fixtures, `_leases.py` takes leases, `_up.py` runs a whole lab for the length of a test
session, `_since.py` reads what consoles and drivers said since a test began, `_report.py` puts that into reports and
JUnit XML, `_case.py` is the form for those who write test classes.
"""

from ._case import JsnatsTest

__all__ = ["JsnatsTest"]
