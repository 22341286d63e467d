"""Every driver-side sample of the driver development guide, with jumpstarter read as jsnats."""

from collections.abc import AsyncGenerator
from dataclasses import field
from typing import Any

import pytest
from pydantic import BaseModel, Field
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver, build_tree, methods_of
from jsnats.driver.decorators import export
from jsnats.schemas import ConfigurationError, DriverError

CLIENT = "jsnats_driver_mydevice.client.MyDeviceClient"


async def test_driver_class() -> None:
    """Core Driver Components: fields, client, calls and a stream."""

    @dataclass(kw_only=True)
    class MyDevice(Driver):
        some_param: str = field(default="example")

        @classmethod
        def client(cls) -> str:
            return CLIENT

        @export
        async def power_on(self) -> None:
            """Power on the device."""

        @export
        async def power_off(self) -> str:
            """Power off the device."""
            return "ok"

        @export
        async def streaming(self) -> AsyncGenerator[float, None]:
            yield 2.0
            yield 3.0

    device = MyDevice()
    assert device.some_param == "example"
    assert await device.power_off() == "ok"
    assert [value async for value in device.streaming()] == [2.0, 3.0]
    assert {name: method.kind for name, method in methods_of(MyDevice).items()} == {
        "power_on": "call",
        "power_off": "call",
        "streaming": "stream",
    }
    assert methods_of(MyDevice)["power_on"].record.doc == "Power on the device."


def test_configuration_handling() -> None:
    """Configuration Handling: a nested model and __post_init__."""

    class MyConfig(BaseModel):
        name: str = Field(default="test")

    @dataclass(kw_only=True)
    class MyDevice(Driver):
        config: MyConfig = field(default_factory=MyConfig)

        @classmethod
        def client(cls) -> str:
            return CLIENT

        def __post_init__(self) -> None:
            if hasattr(super(), "__post_init__"):
                super().__post_init__()
            self.something_else = self.config.name

    assert MyDevice().something_else == "test"
    assert MyDevice(config={"name": "Some config"}).something_else == "Some config"  # type: ignore[arg-type]


async def test_error_handling() -> None:
    """Error Handling: an undecorated driver without fields, DriverError, and the missing client is told."""

    class MyDevice(Driver):
        @export
        async def connect(self) -> None:
            try:
                raise ConnectionError("refused")
            except ConnectionError as e:
                raise DriverError(f"Failed to connect to device: {e}") from e

    with pytest.raises(DriverError, match="Failed to connect to device: refused"):
        await MyDevice().connect()
    with pytest.raises(ConfigurationError, match=r"\(root\): MyDevice has no client\(\)"):
        build_tree(MyDevice())


def test_resource_management() -> None:
    """Resource Management: close is overridden with a plain method."""
    calls: list[str] = []

    class MyDevice(Driver):
        def off(self) -> None:
            calls.append("off")

        def close(self) -> None:
            self.off()

    MyDevice().close()
    assert calls == ["off"]


def test_driver_tree() -> None:
    """Driver Tree: a parent that makes its child and passes itself."""

    class MyDevice(Driver):
        parent: "MyHarness"

        @classmethod
        def client(cls) -> str:
            return CLIENT

    class MyHarness(Driver):
        @classmethod
        def client(cls) -> str:
            return "jsnats_driver_mydevice.client.MyHarnessClient"

        def __post_init__(self) -> None:
            if hasattr(super(), "__post_init__"):
                super().__post_init__()
            self.children["device"] = MyDevice(parent=self)

    tree = build_tree(harness := MyHarness())
    assert list(tree) == ["", "device"]
    assert tree["device"].driver.parent is harness


async def test_unit_test_with_keywords() -> None:
    """Driver Unit Tests: the sample works with **config in place of the positional dict."""

    @dataclass(kw_only=True)
    class MyDevice(Driver):
        host: str
        powered: bool = False

        @export
        async def power_on(self) -> None:
            self.powered = True

        @export
        async def is_powered(self) -> bool:
            return self.powered

    config: dict[str, Any] = {"host": "test.example.com"}
    driver = MyDevice(**config)
    await driver.power_on()
    assert await driver.is_powered()
