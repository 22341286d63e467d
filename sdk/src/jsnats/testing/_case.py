"""The class-based form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from ._wish import wish_of


class JsnatsTest:
    """Base of test classes that name their bench themselves; its client is the fixture `client`, one for the class.

        class TestBoot(JsnatsTest):
            selector = "board=rpi4"

            def test_power(self, client):
                client.dut.power.on()

    With neither `selector` nor `exporter`, the options and the ini file say which. `bench` and `console` are of the
    same exporter.
    """

    exporter: ClassVar[str] = ""
    selector: ClassVar[str] = ""

    @pytest.fixture(scope="class")
    @classmethod
    def client(cls, request: pytest.FixtureRequest) -> Iterator[Any]:
        """The root of the exporter's tree of clients."""
        yield from client_of(request)


def client_of(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Hold the bench that the test, class or module wants, and yield its root client."""
    wish = wish_of(request)  # before there is a lab: a test that names no bench is told so without one
    lab = request.getfixturevalue("lab")
    from ._benches import Benches

    with Benches.of(request.config).acquire(lab, wish) as client:
        yield client
