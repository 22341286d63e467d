"""Which bench a test wants: from its mark, else its class, else the command line, else the ini file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

DEFAULT = "JSNATS_EXPORTER"
"""Names the exporter in the environment of `jsnats up`."""
HOW = (
    "say --jsnats-exporter NAME, --jsnats-selector board=rpi4 or --jsnats-up=exporter.yaml (ini: jsnats_exporter, ...; "
    "mark: @pytest.mark.jsnats(exporter=...)), or run pytest in `jsnats up exporter.yaml -- pytest`"
)
WAIT = "10m"
SCOPES = ("function", "class", "module", "package", "session")


def add_settings(parser: pytest.Parser) -> None:
    """Declare the options, and an ini value for each."""
    group = parser.getgroup("jsnats", "devices of a jsnats lab (write --option=FILE: pytest takes a FILE for a test)")

    def add(name: str, metavar: str, text: str, **how: Any) -> None:
        group.addoption(f"--jsnats-{name}", metavar=metavar, help=text, default=None, **how)

    add("context", "FILE", "context file of the lab; by default that of JSNATS_CONTEXT or of a running `jsnats up`")
    add("url", "URL", "address of the broker, in place of the one in the context file")
    add("up", "EXPORTER.yaml", "run a lab with these exporters for this session; may be repeated", action="append")
    add("exporter", "NAME", "the exporter that the fixture `bench` is")
    add("selector", "LABELS", "or: an exporter with these labels, as in 'board=rpi4,site in (desk, rack)'")
    add("duration", "TIME", "how long the lease of a bench is wanted, as in 30m; by default what the lab gives")
    add("wait", "TIME", f"how long to wait for a bench, by default {WAIT}")
    add("console", "PATH", "which console the fixture `console` is, if the bench has several, as in dut.serial")
    for name in ("url", "exporter", "selector", "duration", "wait", "console"):
        parser.addini(f"jsnats_{name}", f"as --jsnats-{name}", default="")
    for name in ("context", "up"):
        parser.addini(f"jsnats_{name}", f"as --jsnats-{name}, relative to the ini file", type="paths", default=[])
    parser.addini("jsnats_scope", f"scope of `bench` and `console`: {', '.join(SCOPES)}", default="function")


def setting(config: pytest.Config, name: str) -> str:
    """A setting as text, "" if it is not made: the option, else the ini value."""
    return str(config.getoption(f"jsnats_{name}") or config.getini(f"jsnats_{name}") or "")


def files(config: pytest.Config, name: str) -> list[Path]:
    """A setting that names files, with absolute paths."""
    option: str | list[str] | None = config.getoption(f"jsnats_{name}")
    if option:
        named = [option] if isinstance(option, str) else option
        return [config.invocation_params.dir / each for each in named]
    return [Path(each) for each in config.getini(f"jsnats_{name}")]


def scope_of(fixture_name: str, config: pytest.Config) -> Any:
    """The scope of a fixture, as pytest asks for it."""
    scope = config.getini("jsnats_scope")
    if scope not in SCOPES:
        raise pytest.UsageError(f"jsnats_scope = {scope}: the scope of {fixture_name} is one of {', '.join(SCOPES)}")
    return scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An exporter by name or by labels, or neither; and which of its consoles."""

    exporter: str = ""
    selector: str = ""
    console: str = ""


def wish_of(request: pytest.FixtureRequest) -> Wish:
    """What the test, class or module that asks wants. Fails the test when it wants two things at once, or nothing."""
    sources = list(_sources(request))
    bench = next((each for each in sources if each.exporter or each.selector), Wish())
    if bench == Wish() and not files(request.config, "up") and DEFAULT not in os.environ:
        pytest.fail(f"this test needs a bench: {HOW}", pytrace=False)
    if bench.exporter and bench.selector:
        pytest.fail(f"exporter={bench.exporter!r} and selector={bench.selector!r}: say one of them", pytrace=False)
    console = next((each.console for each in sources if each.console), "")
    return Wish(exporter=bench.exporter, selector=bench.selector, console=console)


def _sources(request: pytest.FixtureRequest) -> Iterator[Wish]:
    for mark in request.node.iter_markers("jsnats"):
        yield _of_mark(mark)
    within = request.node.getparent(pytest.Class)
    if within:
        yield Wish(exporter=_attribute(within.cls, "exporter"), selector=_attribute(within.cls, "selector"))
    config = request.config
    names = [field.name for field in fields(Wish)]
    yield Wish(**{name: config.getoption(f"jsnats_{name}") or "" for name in names})
    yield Wish(**{name: config.getini(f"jsnats_{name}") for name in names})


def _of_mark(mark: pytest.Mark) -> Wish:
    try:
        return Wish(*mark.args, **mark.kwargs)
    except TypeError:
        pytest.fail("@pytest.mark.jsnats takes exporter=..., selector=... and console=...", pytrace=False)


def _attribute(cls: Any, name: str) -> str:
    from ._case import JsnatsTest

    return getattr(cls, name) if issubclass(cls, JsnatsTest) else ""


def check_marks(item: pytest.Item) -> None:
    """Fail a test whose mark nobody would see, because its bench is made for more than this test."""
    scope = item.config.getini("jsnats_scope")
    if scope == "function" or (scope == "class" and item.getparent(pytest.Class) is None):
        return
    kinds: dict[str, Any] = {"class": pytest.Class, "module": pytest.Module, "package": pytest.Package}
    widest = item.getparent(kinds.get(scope, pytest.Session))
    above = widest.listchain() if widest else []
    if any(node not in above for node, _ in item.iter_markers_with_node("jsnats")):
        pytest.fail(
            f"the bench is chosen for the whole {scope} (jsnats_scope): a mark here comes too late", pytrace=False
        )
