"""The lab and the benches of a pytest session: found, held, watched, given back."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from jsnats.client import ConsoleClient, DriverClient
from jsnats.schemas import ConfigurationError, JsnatsError, Selector
from jsnats.sdk import ExporterInfo, Lab, connect

from ._report import KEY
from ._since import Sayings, Since
from ._up import OwnLab, running_lab
from ._wish import DEFAULT, Wish, files, setting


@contextmanager
def open_lab(config: pytest.Config) -> Iterator[Lab]:
    """Connect to the lab that the settings name, or run one for as long as this lasts."""
    yaml, named, url = files(config, "up"), files(config, "context"), setting(config, "url")
    benches = Benches.of(config)
    with ExitStack() as stack:
        with _one_line():
            if yaml and (named or url):
                raise ConfigurationError("--jsnats-up runs a lab of its own: take out --jsnats-context, --jsnats-url")
            if yaml:
                benches.own = stack.enter_context(running_lab(yaml, config.getini("pythonpath")))
                benches.default = benches.own.exporter
                named = [benches.own.context]
            lab = benches.lab = stack.enter_context(connect(url or None, context=named[0] if named else None))
        yield lab


@contextmanager
def _one_line() -> Iterator[None]:
    """What the lab refuses is the test's error in one line, without a traceback through this plugin."""
    try:
        yield
    except (JsnatsError, TimeoutError) as error:
        raise pytest.fail.Exception(str(error) or "the broker does not answer", pytrace=False) from None


class Benches:
    """Those that tests of this session use. `default` is the exporter for a test that names none, `own` the lab that
    was started for this session."""

    def __init__(self) -> None:
        self.default = os.environ.get(DEFAULT, "")
        self.lab: Lab | None = None
        self.own: OwnLab | None = None
        self._chosen: dict[str, str] = {}
        self._holders: Counter[str] = Counter()
        self._since: dict[str, Since] = {}

    @classmethod
    def of(cls, config: pytest.Config) -> Benches:
        """The one of a session."""
        return config.stash.setdefault(KEY, cls())

    @contextmanager
    def acquire(self, lab: Lab, wish: Wish) -> Iterator[DriverClient]:
        """Find the exporter of `wish` and hold it; fixtures of several scopes may hold the same one."""
        with _one_line():
            if self.own and (said := self.own.ended()):
                raise ConfigurationError(f"the lab of --jsnats-up has ended: {said}")
            name = self._name(lab, wish)
            client = self._take(lab, name)
        try:
            yield client
        finally:
            self._give_back(name)

    def _name(self, lab: Lab, wish: Wish) -> str:
        return wish.exporter or (self._choose(lab, wish.selector) if wish.selector else self.default)

    def _take(self, lab: Lab, name: str) -> DriverClient:
        client = lab.exporter(name)
        if name not in self._since:
            self._since[name] = Since(lab, name)
        self._holders[name] += 1
        return client

    def _give_back(self, name: str) -> None:
        self._holders[name] -= 1  # watched on until the next test: what is said while fixtures end is this one's

    def _choose(self, lab: Lab, selector: str) -> str:
        """A free exporter; the same one for the same selector until the session ends."""
        if selector not in self._chosen:
            self._chosen[selector] = choose(lab.exporters(), Selector.parse(selector), lab.user)
        return self._chosen[selector]

    def begin_test(self) -> None:
        """From now on what benches say is the next test's."""
        if self.lab and self.own and self.own.ended():
            self.lab.close()  # or each call would wait a minute for the broker to come back
        self._since = {name: since.again() for name, since in self._since.items() if self._holders[name]}

    def said(self) -> Sayings:
        """What the benches of the running test have said, as sections of a report; each thing is told once."""
        return [section for since in self._since.values() for section in since.sections()]


def choose(exporters: list[ExporterInfo], selector: Selector, user: str) -> str:
    """The first free exporter with the right labels. Raises ConfigurationError that says why there is none."""
    meant = [each for each in exporters if selector.matches(each.labels)]
    for each in meant:
        if not _why_not(each, user):
            return each.name
    if not meant:
        known = sorted({f"{key}={value}" for each in exporters for key, value in each.labels.items()})
        raise ConfigurationError(f"no exporter has {selector}; labels in this lab: {', '.join(known) or 'none'}")
    reasons = ", ".join(f"{each.name} is {_why_not(each, user)}" for each in meant)
    raise ConfigurationError(f"no exporter with {selector} is free: {reasons}")


def _why_not(info: ExporterInfo, user: str) -> str:
    if info.state != "available":
        return info.state
    return f"held by {info.holder}" if info.holder not in ("", user) else ""


@contextmanager
def console_of(bench: DriverClient, path: str) -> Iterator[ConsoleClient]:
    """The console at `path`, or the only one. It listens from here on, and its writer's place is given back."""
    with _one_line():
        console = _find_console(bench, path.removeprefix(f"{bench.exporter}."))
        console._channel.run(console._dialogue().begin())
    with console:
        yield console


def _find_console(bench: DriverClient, path: str) -> ConsoleClient:
    consoles = {each.path: each for each in _tree(bench) if isinstance(each, ConsoleClient)}
    found = next(iter(consoles.values())) if len(consoles) == 1 and not path else consoles.get(path)
    if found:
        return found
    if not consoles:
        raise ConfigurationError(f"{bench.exporter} has no console: see `jsnats tree {bench.exporter}`")
    wrong = f"{bench.exporter} has no console {path!r}" if path else f"{bench.exporter} has several consoles"
    raise ConfigurationError(
        f"{wrong}: say one of {', '.join(consoles)} with @pytest.mark.jsnats(console=...) or --jsnats-console"
    )


def _tree(client: Any) -> Iterator[Any]:
    yield client
    for child in client.children.values():
        yield from _tree(child)
