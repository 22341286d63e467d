"""The lab and the benches of a pytest session: found, watched, let go."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from jsnats.client import ConsoleClient, DriverClient
from jsnats.schemas import ConfigurationError
from jsnats.sdk import Lab, connect

from ._leases import Leases, one_line
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
        with one_line():
            if yaml and (named or url):
                raise ConfigurationError("--jsnats-up runs a lab of its own: take out --jsnats-context, --jsnats-url")
            if yaml:
                benches.own = stack.enter_context(running_lab(yaml, config.getini("pythonpath")))
                benches.default = benches.own.exporter
                named = [benches.own.context]
            lab = benches.lab = stack.enter_context(connect(url or None, context=named[0] if named else None))
        stack.callback(benches.leases.give_back)
        yield lab


class Benches:
    """Those that tests of this session use. `default` is the exporter for a test that names none, `own` the lab that
    was started for this session."""

    def __init__(self, leases: Leases) -> None:
        self.default = os.environ.get(DEFAULT, "")
        self.lab: Lab | None = None
        self.own: OwnLab | None = None
        self.leases = leases
        self._users: Counter[str] = Counter()
        self._since: dict[str, Since] = {}

    @classmethod
    def of(cls, config: pytest.Config) -> Benches:
        """The one of a session."""
        if KEY not in config.stash:
            config.stash[KEY] = cls(Leases(config))
        return config.stash[KEY]

    @contextmanager
    def acquire(self, lab: Lab, wish: Wish) -> Iterator[DriverClient]:
        """Have the exporter of `wish`; fixtures of several scopes may have the same one."""
        with one_line():
            if self.own and (said := self.own.ended()):
                raise ConfigurationError(f"the lab of --jsnats-up has ended: {said}")
            name = self._name(lab, wish)
            client = self._take(lab, name)
        try:
            yield client
        finally:
            self._give_back(name)

    def _name(self, lab: Lab, wish: Wish) -> str:
        """The exporter, under a lease; but that of `jsnats up`, named or not, answers without one."""
        if wish.selector:
            return self.leases.have(lab, wish)
        name = wish.exporter or self.default
        policy = lab.tree(name).lease  # it also says which exporters there are, if there is none of that name
        if policy == "if-held" and (self.own or not wish.exporter):
            return name
        return self.leases.have(lab, Wish(exporter=name))

    def _take(self, lab: Lab, name: str) -> DriverClient:
        client = lab.exporter(name)
        if name not in self._since:
            self._since[name] = Since(lab, name)
        self._users[name] += 1
        return client

    def _give_back(self, name: str) -> None:
        self._users[name] -= 1  # watched on until the next test: what is said while fixtures end is this one's

    def begin_test(self) -> None:
        """From now on what benches say is the next test's."""
        if self.lab and self.own and self.own.ended():
            self.lab.close()  # or each call would wait a minute for the broker to come back
        self._since = {name: since.again() for name, since in self._since.items() if self._users[name]}

    def said(self) -> Sayings:
        """What the benches of the running test have said, as sections of a report; each thing is told once."""
        return [section for since in self._since.values() for section in since.sections()]


@contextmanager
def console_of(bench: DriverClient, path: str) -> Iterator[ConsoleClient]:
    """The console at `path`, or the only one. It listens from here on, and its writer's place is given back."""
    with one_line():
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
