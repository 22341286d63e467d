"""When drivers are begun and ended, and on which thread."""

from __future__ import annotations

import threading
import time

import pytest
from pydantic.dataclasses import dataclass

from jsnats.agent import Exporter, NameTaken, Spec, _lifecycle
from jsnats.agent.testing import Bench
from jsnats.broker.testing import TestBroker
from jsnats.driver import Driver, export


@dataclass(kw_only=True, eq=False)
class Slow(Driver):
    """Writes down what is done to it; `reset` takes longer than a stuck thread is waited for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.told: list[str] = []
        self.release = threading.Event()

    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DynamicClient"

    @export
    def hang(self) -> None:
        """Hold the thread until released."""
        self.release.wait(20)

    def reset(self) -> None:
        self.told.append("reset begins")
        time.sleep(0.3)
        self.told.append("reset ends")

    def close(self) -> None:
        self.told.append("close")


async def test_a_slow_reset_runs_once(broker: TestBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for a method that is stuck."""
    monkeypatch.setattr(_lifecycle, "CLOSE_S", 0.1)
    driver = Slow()
    async with Exporter(Spec(name="bench", root=driver), broker.context("bench")):
        assert driver.told == ["reset begins", "reset ends"]
    assert driver.told[2:] == ["close"]


async def test_teardown_does_not_wait_for_a_stuck_method(
    broker: TestBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """close() runs on a fresh thread, and the log names what holds the old one."""
    from jsnats.sdk import connect_async

    monkeypatch.setattr(_lifecycle, "CLOSE_S", 0.2)
    driver = Slow()
    async with connect_async(context=broker.context("tester")) as lab:
        async with Exporter(Spec(name="bench", root=driver), broker.context("bench")):
            await lab.job(await lab.caller.detach("bench", "", "hang", b"")).state()
        assert driver.told[-1] == "close"
    assert "hang still holds its thread" in caplog.text
    driver.release.set()


async def test_an_agent_that_is_refused_leaves_the_hardware_alone(broker: TestBroker) -> None:
    """The name is taken: nothing is reset, and nothing is closed under whoever works with it."""
    second = Slow()
    async with Exporter(Spec(name="bench", root=Bench()), broker.context("bench")):
        with pytest.raises(NameTaken):
            async with Exporter(Spec(name="bench", root=second), broker.context("bench")):
                pytest.fail("two agents of one name")
    assert second.told == []
