import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jsnats.agent.testing import conformance_tests

from .driver import Qemu
from .testing import UBOOT, missing

pytestmark = pytest.mark.skipif(bool(missing("aarch64")), reason=missing("aarch64"))


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUEST_PASSWORD", "that of the example")


@contextmanager
def _board() -> Iterator[Qemu]:
    with tempfile.TemporaryDirectory() as folder:
        yield Qemu(arch="aarch64", mem="128M", default_partitions={"bios": UBOOT["aarch64"]}, directory=Path(folder))


test_qemu = conformance_tests(_board, arguments={"qmp": ["query-status"]})
