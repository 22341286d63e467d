"""Append every event of the lab to a file, by MQTT alone: a plain client, nothing of jsnats.

    python mqtt.py LOGIN.mqtt HOST PORT events.jsonl

`LOGIN.mqtt` is what `jsnats auth add viewer NAME --mqtt` wrote. It sees what happens while it is
connected.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt


def main(login: Path, host: str, port: int, out: Path) -> None:
    """Record until Ctrl-C, through outages of the broker."""
    name = json.loads(login.read_text())
    with out.open("a", buffering=1) as file:
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        client.username_pw_set(name["username"], name["password"])
        client.on_connect = lambda *_: client.subscribe("jsnats/event/#", qos=1)
        client.on_message = lambda _client, _data, message: _write(file, message)
        client.connect_async(host, port, keepalive=15)
        client.loop_forever(retry_first_connection=True)


def _write(file: Any, message: mqtt.MQTTMessage) -> None:
    file.write(json.dumps(json.loads(message.payload) | {"topic": message.topic}) + "\n")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
