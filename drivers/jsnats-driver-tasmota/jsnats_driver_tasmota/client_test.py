from click.testing import CliRunner

from jsnats.common.utils import serve
from jsnats_driver_power.client import SwitchClient
from jsnats_driver_tasmota.driver import TasmotaPower
from jsnats_driver_tasmota.testing import PASSWORD, USER, fake_plug, nats_server


def test_commands_switch_show_and_measure(tmp_path):
    """`j power on`, `off`, `cycle`, `state` and `read` do what the methods do, at the plug."""
    with nats_server(tmp_path) as broker, fake_plug(broker.ports["tcp"]) as plug:
        driver = TasmotaPower(
            host="127.0.0.1", port=broker.ports["tcp"], topic="plug-3", username=USER, password=PASSWORD
        )
        with serve(driver) as client:
            assert isinstance(client, SwitchClient)
            said = []
            for command in ("on", "state", "off", "state", "cycle -w 0", "read -n 1"):
                result = CliRunner().invoke(client.cli(), command.split(), catch_exceptions=False)
                assert result.exit_code == 0
                said.append(result.output.split())
    assert said == [[], ["on"], [], ["off"], [], ["230.000", "V", "0.113", "A", "25.990", "VA"]]
    assert [payload for name, payload in plug.told if name == "POWER"] == ["ON", "", "OFF", "", "OFF", "ON", "OFF"]
