import pytest
from click.testing import CliRunner

from jsnats.common.exceptions import ConfigurationError, DriverConnectionError, DriverOSError, DriverTimeout
from jsnats.common.utils import serve
from jsnats_driver_power.client import SwitchClient
from jsnats_driver_yepkit.driver import Ykush
from jsnats_driver_yepkit.testing import FakeYkush, HidBus


@pytest.fixture
def ykush():
    """A hub on the bus."""
    with HidBus(device := FakeYkush()).attached():
        yield device


def test_a_port_is_switched_over_a_broker(ykush):
    """on, off and cycle are seen by is_on, and the end of the exporter leaves the default."""
    with serve(Ykush(port="2")) as client:
        assert isinstance(client, SwitchClient)
        assert not client.is_on()
        client.on()
        assert (client.is_on(), ykush.on) == (True, {2})
        client.off()
        assert (client.is_on(), ykush.on) == (False, set())
        client.cycle(0.0)
        assert client.is_on()
    assert ykush.on == set()


def test_commands(ykush):
    """`j power on`, `off`, `cycle` and `state` do what the methods do."""
    with serve(Ykush(port="2")) as client:
        said = []
        for command in ("on", "state", "off", "state", "cycle -w 0", "state --json"):
            result = CliRunner().invoke(client.cli(), command.split(), catch_exceptions=False)
            assert result.exit_code == 0
            said.append(result.output.strip())
    assert said == ["", "on", "", "off", "", "true"]


def test_errors_of_the_hub_arrive_as_what_they_are(ykush):
    """One that is gone, one that does not answer, one that may not be used."""
    with serve(Ykush(port="2")) as client:
        for spoil, kind, told in (
            ({"plugged": False}, DriverConnectionError, "not plugged in"),
            ({"deaf": True}, DriverTimeout, "does not answer"),
            ({"denied": True}, DriverOSError, "udev rule"),
        ):
            before = {name: getattr(ykush, name) for name in spoil}
            vars(ykush).update(spoil)
            with pytest.raises(kind, match=told):
                client.on()
            vars(ykush).update(before)
        with pytest.raises(NotImplementedError, match="is_on"):
            next(client.read())


def test_an_exporter_without_its_hub_says_so():
    """When it starts: the default cannot be set."""
    told = "reset failed: ConnectionError: the YKUSH is not plugged in"
    with HidBus().attached(), pytest.raises(ConfigurationError, match=told), serve(Ykush()):
        pass
