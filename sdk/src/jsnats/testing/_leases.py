"""The leases of a pytest session: one for each selector and each name, taken when a test first wants it, and kept until
the session ends. Each worker of pytest-xdist is a session."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from jsnats.schemas import JsnatsError, Selector
from jsnats.sdk import BOARDS, LEASE, Lab, Lease, WaitInfo
from jsnats.sdk.cli import place_text

from ._wish import WAIT, Wish, setting


class Leases:
    """Takes leases as the settings of the session say."""

    def __init__(self, config: pytest.Config) -> None:
        self._duration = setting(config, "duration") or None
        self._wait = setting(config, "wait") or WAIT
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._taken: dict[str, Lease] = {}

    def have(self, lab: Lab, wish: Wish) -> str:
        """The name of an exporter that this session may use. Raises LeaseLost, also if it was and is not any more."""
        selector = f"name={wish.exporter}" if wish.exporter else str(Selector.parse(wish.selector))
        own = _of_shell(lab, selector)
        if own:
            return own
        if selector not in self._taken:
            lease = lab.lease(selector, duration=self._duration, wait=self._wait, note="pytest", on_wait=self._tell)
            lease.take()
            self._taken[selector] = lease
        lease = self._taken[selector]
        if lease.lost:
            raise lease.lost
        return lease.boards[0]

    def give_back(self) -> None:
        """End them all."""
        while self._taken:
            self._taken.popitem()[1].give_back()

    def _tell(self, place: WaitInfo) -> None:
        """Say the place in the queue to who looks at the terminal."""
        if place.position == 1 and place.waits is not None and place.waits < 1:
            return
        with self._capture.global_and_fixture_disabled() if self._capture else nullcontext():
            print(f"\n{place_text(place)}", file=sys.stderr, flush=True)


def _of_shell(lab: Lab, selector: str) -> str:
    """The exporter of `jsnats shell` or `run` that fits; of several, each worker of pytest-xdist has another."""
    if not os.environ.get(LEASE):
        return ""
    meant = Selector.parse(selector)
    labels = {each.name: {"name": each.name, **each.labels} for each in lab.exporters()}
    fitting = [name for name in os.environ.get(BOARDS, "").split(",") if meant.matches(labels.get(name, {}))]
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    return fitting[int(worker or 0) % len(fitting)] if fitting else ""


@contextmanager
def one_line() -> Iterator[None]:
    """What the lab refuses is the test's error in one line, without a traceback through this plugin."""
    try:
        yield
    except (JsnatsError, TimeoutError) as error:
        raise pytest.fail.Exception(str(error) or "the broker does not answer", pytrace=False) from None
