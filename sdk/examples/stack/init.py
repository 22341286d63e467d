"""What a lab in containers begins with: who may connect, how the servers run, and for each service its credential.

It is the first to mount the volumes, which thereby belong to the user of the image. Run again, it changes nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from jsnats.broker import LabDir

SERVICES = {
    "agent-1": (("exporter", "bench-1"), ("exporter", "bench-2")),
    "agent-2": (("exporter", "bench-3"), ("exporter", "virtual-1")),
    "agent-serial": (("exporter", "serial-1"),),
    "recorder": (("viewer", "recorder"),),
    "phone": (("mqtt", "phone"),),
}


def main() -> None:
    """Make the lab, then hand out the credentials, which name the brokers."""
    lab = LabDir()
    for role, name in (each for names in SERVICES.values() for each in names):
        if role == "mqtt":
            lab.add_mqtt(name)
        else:
            lab.add(role, name)
    cluster = "cluster" in os.environ["COMPOSE_PROFILES"].split(",")
    listeners = ["--monitor", "8222", "--mqtt", "1883", "--websocket", "9222"]
    brokers = ["--cluster", "broker,broker-2,broker-3" if cluster else "broker"]
    size = ["--store-size", os.environ["JSNATS_STORE_SIZE"]]
    subprocess.run(["jsnats", "broker", "config", *brokers, *listeners, *size], check=True)
    for service, names in SERVICES.items():
        for _, name in names:
            shutil.copy(lab.context_path(name), f"/services/{service}/")


if __name__ == "__main__":
    main()
