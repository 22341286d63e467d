"""The base class: how drivers are made, compared and used without an agent."""

import dataclasses
import logging
from typing import ClassVar

import pytest
from pydantic import ValidationError
from pydantic.dataclasses import dataclass

from jsnats.driver import Composite, Driver, build_tree, export, progress_sink
from jsnats.schemas import ConfigurationError


@dataclass(kw_only=True)
class Relay(Driver):
    host: str
    port: int = 22

    @classmethod
    def client(cls) -> str:
        return "relay.client.RelayClient"

    @export
    async def on(self) -> str:
        self.report_progress(1, 2, "closing the contact")
        return f"{self.host} on"


def test_parameters_are_checked() -> None:
    """A mistyped parameter and an unknown one are refused together when the driver is made."""
    with pytest.raises(ValidationError) as caught:
        Relay(host="a", port="x", hots=1)  # type: ignore[arg-type, call-arg]
    assert {error["loc"] for error in caught.value.errors()} == {("port",), ("hots",)}


def test_positional_config_is_refused() -> None:
    """MyDevice(config) says that parameters go by name."""
    with pytest.raises(TypeError, match=r"Relay takes its parameters by name: Relay\(name=value, ...\)"):
        Relay({"host": "a"})  # type: ignore[call-arg, dict-item]


def test_undecorated_fields_are_refused() -> None:
    """A subclass with fields of its own and no decorator says what to add."""

    class Bare(Driver):
        rack: int = 1
        shared: ClassVar[int] = 2

    class Below(Bare):
        pass

    for cls in (Bare, Below):
        with pytest.raises(ConfigurationError, match=r"Bare has fields \(rack\).*add @dataclass"):
            cls()


def test_standard_dataclass_is_refused() -> None:
    """The standard library's @dataclass would not check parameters, so it is refused by name."""

    @dataclasses.dataclass(kw_only=True)
    class Plain(Driver):
        rack: int = 1

    with pytest.raises(ConfigurationError, match="from pydantic.dataclasses"):
        Plain(rack="x")  # type: ignore[arg-type]


def test_undecorated_without_fields_works() -> None:
    """A subclass that only adds methods, class variables and a parent annotation needs no decorator."""

    class Child(Driver):
        parent: "Nowhere"  # type: ignore[name-defined]  # noqa: F821
        limit: ClassVar[int] = 3

    assert Child().children == {}


def test_name_of_every_driver_is_no_field() -> None:
    """A field called like a method of Driver is refused when the class is made."""
    with pytest.raises(ConfigurationError, match="field logger, reset is a name of every driver"):

        class Wrong(Driver):
            logger: str  # type: ignore[assignment]
            reset: int  # type: ignore[assignment]


def test_drivers_are_keys() -> None:
    """Two drivers with equal parameters differ, and a decorated driver is hashable."""
    one, two = Relay(host="a"), Relay(host="a")
    assert one != two
    assert len({one, two}) == 2


def test_family_is_not_in_repr() -> None:
    """Children and parent stay out of the repr: a cycle would never end."""
    root = Composite(children={"relay": Relay(host="a")})
    build_tree(root)
    assert repr(root.children["relay"]).endswith("Relay(host='a', port=22)")


def test_path_field_is_the_drivers_own() -> None:
    """A driver may have a required field named path; the tree leaves it alone."""

    @dataclass(kw_only=True)
    class File(Driver):
        path: str

        @classmethod
        def client(cls) -> str:
            return "file.client.FileClient"

    with pytest.raises(ValidationError):
        File()  # type: ignore[call-arg]
    root = Composite(children={"file": File(path="/dev/sda")})
    assert build_tree(root)["file"].driver.path == "/dev/sda"
    assert root.children["file"].logger.name == "jsnats.driver.file"


async def test_driver_without_agent(caplog: pytest.LogCaptureFixture) -> None:
    """A driver is a plain object: a unit test makes it and calls it."""
    relay = Relay(host="a")
    await relay.start()
    assert await relay.on() == "a on"
    assert relay.reset() is None
    assert relay.close() is None
    await relay.stop()
    with caplog.at_level(logging.INFO):
        relay.logger.info("done")
    assert caplog.records[0].name == "jsnats.driver.Relay"


async def test_progress_goes_to_the_sink() -> None:
    """report_progress calls what the context names, with what the driver said."""
    seen: list[tuple[float, float | None, str]] = []
    token = progress_sink.set(lambda *report: seen.append(report))
    try:
        await Relay(host="a").on()
    finally:
        progress_sink.reset(token)
    assert seen == [(1, 2, "closing the contact")]
