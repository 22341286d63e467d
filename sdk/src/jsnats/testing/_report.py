"""Puts what benches said into the reports of failing tests, and from there into JUnit XML."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ._benches import Benches

KEY: pytest.StashKey[Benches] = pytest.StashKey()
CONSOLE, LOG = "console ", "exporter log "
"""How the sections of a report begin; the exporter's or the console's name follows."""


def begin_test(item: pytest.Item) -> None:
    """Forget what benches said to earlier tests."""
    benches = item.config.stash.get(KEY, None)
    if benches:
        benches.begin_test()


def attach(item: pytest.Item, report: pytest.TestReport) -> None:
    """Add a section for each console and each exporter that said something."""
    benches = item.config.stash.get(KEY, None)
    if benches:
        report.sections += benches.said()


def say_lost(report: pytest.TestReport, raised: pytest.ExceptionInfo[BaseException]) -> None:
    """A lease that was lost is said in one line: where the test was then does not matter."""
    schemas = sys.modules.get("jsnats.schemas")
    if schemas and isinstance(raised.value, schemas.LeaseLost):
        report.longrepr = str(raised.value)


class Sections:
    """Copies our sections into JUnit XML, as <system-out> of the test.

    Reports come here in the process that writes the file, also from workers of pytest-xdist. The element is looked up
    while pytest has it at hand and filled in when it is complete: so ours and the one of `junit_logging` are one.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._found: list[tuple[Any, str]] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note our sections of this report."""
        texts = [f"{name:-^80}\n{text}" for name, text in report.sections if name.startswith((CONSOLE, LOG))]
        xml = _xml(self._config) if texts else None
        if xml is not None:
            self._found.append((xml.node_reporter(report), "\n".join(texts)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Fill them in, before the file is written."""
        for reporter, text in self._found:
            _append(reporter.to_xml(), text)


def _xml(config: pytest.Config) -> Any:
    from _pytest.junitxml import xml_key  # pytest has no public way to <system-out>

    return config.stash.get(xml_key, None)


def _append(testcase: Any, text: str) -> None:
    from xml.etree import ElementTree

    from _pytest.junitxml import bin_xml_escape

    out = testcase.find("system-out")
    if out is None:
        out = ElementTree.SubElement(testcase, "system-out")
    out.text = f"{out.text or ''}{bin_xml_escape(text)}\n"
