"""What pytest loads: options, fixtures, and hooks that tell a failing test's story.

Nothing of jsnats that takes time is imported before a fixture needs it: every pytest session on a machine where jsnats
is installed loads this module.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from ._case import client_of
from ._report import Sections, attach, begin_test, say_lost
from ._wish import add_settings, check_marks, scope_of, wish_of

if TYPE_CHECKING:
    from jsnats.client import ConsoleClient
    from jsnats.sdk import Lab


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the settings."""
    add_settings(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark, and write to JUnit XML if there is one."""
    config.addinivalue_line(
        "markers", "jsnats(exporter=..., selector=..., console=...): which bench of a jsnats lab the test needs"
    )
    config.pluginmanager.register(Sections(config), "jsnats-sections")


# ------------------------------------------------------------------ fixtures


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab: the one of `--jsnats-up`, `--jsnats-context` or `--jsnats-url`, else as `jsnats.sdk.connect()` finds."""
    from ._benches import open_lab

    with open_lab(request.config) as lab:
        yield lab


@pytest.fixture(scope=scope_of)
def bench(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The root client of the exporter that the test is for: `bench.dut.power.on()`."""
    yield from client_of(request)


@pytest.fixture(scope=scope_of)
def console(request: pytest.FixtureRequest, bench: Any) -> Iterator[ConsoleClient]:
    """The console of the bench: the only one, or the one that mark or settings name. Given back after the test."""
    from ._benches import console_of

    with console_of(bench, wish_of(request).console) as console:
        yield console


# ------------------------------------------------------------------ hooks


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """From here on everything that a bench says belongs to this test."""
    check_marks(item)
    begin_test(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the consoles and drivers of a failing test's benches said since it began."""
    report = yield
    if call.excinfo and report.failed:
        say_lost(report, call.excinfo)
    if report.failed:
        attach(item, report)
    return report
