import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from jsnats.client import CompositeClient
from jsnats.common.exceptions import DriverConnectionError, DriverError
from jsnats.common.utils import serve, session_broker
from jsnats_driver_mydevice import MyDeviceClient, MyHarnessClient, MyPortforwardClient
from jsnats_driver_mydevice.adapter import MyAdapter

from .driver import ExampleDriver, MyDevice, MyHarness, MyPortforward


@pytest.fixture
def sensor():
    """Port of a device on this machine that answers {"value": 21.5}."""

    class Device(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/sensor" else 404)
            self.end_headers()
            self.wfile.write(json.dumps({"value": 21.5}).encode())

        def log_message(self, *_):
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Device) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def refusing():
    """A port of this machine that refuses every connection."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        yield unheard.getsockname()[1]


def test_driver_example():
    """The guide's client test: a served driver answers its own client class."""
    instance = ExampleDriver(my_argument=True)

    with serve(instance) as client:
        assert client.example() == 1


def test_methods_return_what_the_driver_returns():
    """No value, a text, a boolean."""
    with serve(MyDevice()) as client:
        assert isinstance(client, MyDeviceClient)
        assert client.call("power_on") is None
        assert client.is_powered() is True
        assert client.power_off() == "ok"
        assert client.is_powered() is False


def test_an_exported_generator_is_a_generator():
    """Items come as they are yielded, and the loop ends with the driver's."""
    with serve(MyDevice()) as client:
        assert list(client.streaming()) == [2.0, 3.0]


def test_an_async_method_reads_the_device_over_http(sensor):
    """The exporter talks to the device; the client only sees the value."""
    with serve(MyDevice(port=sensor)) as client:
        assert client.read_sensor() == 21.5


def test_a_raised_driver_error_reaches_the_client(refusing):
    """The driver's own words, and which method of which driver said them."""
    with serve(MyDevice(port=refusing)) as client:
        with pytest.raises(DriverError, match="connect: Failed to connect to device: .*Connect call failed") as caught:
            client.connect()
        assert caught.value.method == "connect"
        assert client.power_off() == "ok"


def test_connect_reaches_a_device_that_listens(sensor):
    """With somebody there, nothing is raised."""
    with serve(MyDevice(port=sensor)) as client:
        client.connect()


def test_a_connection_error_of_the_driver_is_one_at_the_client():
    """What a driver does not catch can be caught as the builtin it was."""

    class Unplugged(MyDevice):
        async def connect(self):
            raise ConnectionResetError("unplugged")

    with serve(Unplugged()) as client, pytest.raises(ConnectionError, match="unplugged") as caught:
        client.connect()
    assert isinstance(caught.value, DriverConnectionError)
    assert caught.value.cause == "ConnectionResetError"


def test_the_end_of_a_lease_closes_the_driver():
    """`close` runs at the end of `serve`, on the object that the calls changed."""
    instance = MyDevice()
    with serve(instance) as client:
        client.power_on()
        assert instance.powered
    assert not instance.powered


def test_the_command_line_is_the_drivers_own():
    """`cli()` returns a click group; its commands call the client's methods."""
    with serve(MyDevice()) as client:
        result = CliRunner().invoke(client.cli(), ["do-something", "--option", "xyz", "bob"])
    assert (result.output, result.exit_code) == ("bob: xyz, powered True, then ok\n", 0)


def test_a_harness_is_a_tree():
    """The custom composite client has its children as attributes, each with a client class of its own."""
    with serve(MyHarness()) as client:
        assert isinstance(client, MyHarnessClient)
        assert isinstance(client, CompositeClient)
        assert isinstance(client.device, MyDeviceClient)
        with pytest.raises(DriverError, match=r"device\.power_on: the main switch"):
            client.device.power_on()
        client.switch(True)
        client.device.power_on()
        assert client.device.is_powered()


def test_the_end_of_a_lease_closes_the_whole_tree():
    """A child that its parent made is closed as the parent is."""
    harness = MyHarness()
    device = harness.children["device"]
    assert isinstance(device, MyDevice)
    with serve(harness) as client:
        client.switch(True)
        client.device.power_on()
        assert harness.live
        assert device.powered
    assert not harness.live
    assert not device.powered


def test_an_adapter_works_through_the_client():
    """The device is on inside the block and off behind it."""
    with serve(MyDevice()) as client:
        with MyAdapter(client=client) as device:
            assert device.is_powered()
        assert not client.is_powered()


def forward_tcp(client, *words):
    """Run `forward-tcp` of a client in a process of its own; return it and what it prints first."""
    code = (
        "import sys; from jsnats.sdk import connect; lab = connect();"
        "lab.exporter(sys.argv[1]).cli().main(sys.argv[2:], standalone_mode=False)"
    )
    environment = os.environ | {
        "JSNATS_CONTEXT": str(session_broker().context_path("tester")),
        "JSNATS_ALLOW": "jsnats_driver_mydevice",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    command = [sys.executable, "-c", code, client.exporter, "forward-tcp", *words]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "::1"])
def test_the_port_forward_of_the_guide(sensor, address):
    """The guide's command prints where it listens, IPv6 with brackets, and leads to the service until it is ended."""
    with serve(MyPortforward(host="127.0.0.1", port=sensor)) as client:
        assert isinstance(client, MyPortforwardClient)
        process, shown = forward_tcp(client, "--address", address, "0")
        with process:
            host, _, port = shown.rpartition(":")
            assert host == ("[::1]" if address == "::1" else "127.0.0.1")
            with urlopen(f"http://{host}:{port}/sensor", timeout=10) as answer:
                assert json.load(answer) == {"value": 21.5}
            process.terminate()
            process.stdout.read()
