import socket
from typing import Any

import pytest
from pydantic import ValidationError

from jsnats.common.exceptions import DriverError
from jsnats_driver_mydevice import MyDevice, MyHarness
from jsnats_driver_mydevice.driver import HarnessDevice


@pytest.mark.asyncio
async def test_power_cycle():
    """The guide's unit test: a driver is a plain object, made from a dict by keywords."""
    config: dict[str, Any] = {"host": "test.example.com"}
    driver = MyDevice(**config)

    await driver.power_on()
    assert await driver.is_powered()

    await driver.power_off()
    assert not await driver.is_powered()


def test_a_dict_by_position_is_refused():
    """`MyDevice(config)` says how to write it instead."""
    with pytest.raises(TypeError, match=r"\*\*config"):
        MyDevice({"host": "test.example.com"})  # type: ignore[call-arg, dict-item]


def test_a_mistyped_parameter_is_refused():
    """A parameter that no field has does not vanish."""
    with pytest.raises(ValidationError, match="some_parm"):
        MyDevice(some_parm="x")  # type: ignore[call-arg]


@pytest.mark.asyncio
async def test_streaming_is_an_async_generator():
    """Without a broker a stream is read with `async for`."""
    assert [value async for value in MyDevice().streaming()] == [2.0, 3.0]


def test_nested_configuration_becomes_a_model():
    """A map from YAML is checked as MyConfig, and `__post_init__` sees the result."""
    assert MyDevice().something_else == "test"
    parameters: dict[str, Any] = {"config": {"name": "Some config"}}
    assert MyDevice(**parameters).something_else == "Some config"
    parameters["config"]["name"] = []
    with pytest.raises(ValidationError, match="name"):
        MyDevice(**parameters)


@pytest.mark.asyncio
async def test_connection_errors_become_driver_errors():
    """A refused connection is a DriverError with its cause behind it."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        with pytest.raises(DriverError, match="Failed to connect to device: ") as caught:
            await MyDevice(port=unheard.getsockname()[1]).connect()
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest.mark.asyncio
async def test_close_switches_off():
    """`close` may be called again and leaves the device cold."""
    driver = MyDevice()
    await driver.power_on()
    driver.close()
    driver.close()
    assert not await driver.is_powered()


@pytest.mark.asyncio
async def test_a_child_knows_its_parent():
    """The harness makes its device with itself as the parent, and the device asks it before it powers on."""
    harness = MyHarness()
    device = harness.children["device"]
    assert isinstance(device, HarnessDevice)
    assert device.parent is harness
    with pytest.raises(DriverError, match="main switch"):
        await device.power_on()
    await harness.switch(True)
    await device.power_on()
    assert await device.is_powered()
