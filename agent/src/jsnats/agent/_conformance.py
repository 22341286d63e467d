"""What every driver has to keep to, as tests for its author: `conformance_tests` for pytest, `check_driver` without it.

`_conformance_static.py` looks at the class and its package, `_conformance_live.py` at a driver that is served by a real
broker, `_samples.py` makes arguments from published schemas. A check hands back its faults, all that it found, each
with the method it is about and what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from jsnats.driver import Driver, build_tree
from jsnats.schemas import ConfigurationError

from ._conformance_live import cancel_faults, lifecycle_faults, refusal_faults
from ._conformance_static import client_faults, example_faults, package_faults, schema_faults

Arguments = Sequence[Any] | Mapping[str, Any]
Make = Callable[[], Driver | AbstractContextManager[Driver]]


@dataclass(frozen=True, kw_only=True)
class _Kit:
    """What an author has said; the methods of children are named with their path: `power.on`."""

    make: Make
    arguments: Mapping[str, Arguments] = field(default_factory=dict)
    skip: Mapping[str, str] = field(default_factory=dict)

    def faults(self, check: str) -> list[str]:
        """What one check has found."""
        with self._made() as driver:
            try:
                return self._unknown(driver) or self._run(check, driver)
            except ConfigurationError as error:  # a tree that cannot be, a driver that does not start
                return error.faults

    def _unknown(self, driver: Driver) -> list[str]:
        nodes = build_tree(driver).values()
        known = {f"{node.path}.{name}".lstrip("."): None for node in nodes for name in node.methods}
        unknown = [name for name in (*self.arguments, *self.skip) if name not in known]
        return [f"{name}: is not exported: there is {', '.join(known) or 'none'}" for name in unknown]

    def _run(self, check: str, driver: Driver) -> list[str]:
        if check in _STATIC:
            return _STATIC[check](driver)
        return asyncio.run(_LIVE[check](driver, self.arguments, self.skip))

    @contextmanager
    def _made(self) -> Iterator[Driver]:
        made = self.make()
        if isinstance(made, Driver):
            yield made
        else:
            with made as driver:
                yield driver


_STATIC: Final[dict[str, Callable[[Driver], list[str]]]] = {
    "example": example_faults,
    "schemas": schema_faults,
    "client": client_faults,
    "package": package_faults,
}
_LIVE: Final = {"refusals": refusal_faults, "lifecycle": lifecycle_faults, "cancel": cancel_faults}
CHECKS: Final = (*_STATIC, *_LIVE)
"""Names of the checks, in the order they are made."""


def check_driver(
    make: Make, *, arguments: Mapping[str, Arguments] | None = None, skip: Mapping[str, str] | None = None
) -> None:
    """Make all checks, each with a driver of its own. Raises AssertionError with a line for each fault.

    `make` makes the driver: its class, a function, or one that returns a context manager, for a device that has to be
    there. `arguments` are those of methods that cannot be called with made-up ones, positional or by name. `skip` are
    methods that must not be called here, each with the reason: they would do harm, or block.
    """
    kit = _Kit(make=make, arguments=arguments or {}, skip=skip or {})
    _say([f"{check}: {fault}" for check in CHECKS for fault in kit.faults(check)])


def conformance_tests(
    make: Make, *, arguments: Mapping[str, Arguments] | None = None, skip: Mapping[str, str] | None = None
) -> Callable[[str], None]:
    """As `check_driver`, as a pytest test for each check: `test_conformance = conformance_tests(MyDriver)`."""
    import pytest  # here: an agent installs without it

    kit = _Kit(make=make, arguments=arguments or {}, skip=skip or {})

    @pytest.mark.parametrize("check", CHECKS)
    def test(check: str) -> None:
        """The driver keeps to what is asked of every driver."""
        __tracebackhide__ = True
        _say(kit.faults(check))

    return test


def _say(faults: list[str]) -> None:
    __tracebackhide__ = True
    if faults:
        raise AssertionError("\n".join(faults))
