import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jsnats.agent.testing import conformance_tests

from .driver import Corellium
from .testing import PROJECT, TOKEN, corellium

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORELLIUM_API_HOST", "app.corellium.com")
    monkeypatch.setenv("CORELLIUM_API_TOKEN", TOKEN)


@contextmanager
def _bench() -> Iterator[Corellium]:
    with corellium() as cloud:
        yield Corellium(
            host=cloud.host,
            token=TOKEN,
            project_id=PROJECT,
            device_name="bench-1",
            device_flavor="kronos",
            interval=0.01,
            tls_verify=cloud.authority,
        )


test_corellium = conformance_tests(_bench)
