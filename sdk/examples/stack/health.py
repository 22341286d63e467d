"""The health of a service that only dials out: do the brokers see its connections?

    python3 -IS health.py "exporter bench-1" ...

It asks the monitoring port of the brokers for connections of these names, or of these MQTT users. Run every few
seconds, it imports no more than it needs.
"""

from __future__ import annotations

import http.client
import json
import os
import sys

CLUSTER = "cluster" in os.environ["COMPOSE_PROFILES"].split(",")


def connected(host: str) -> set[str]:
    """The names of those who are connected to a broker and listen; none when it is not there."""
    try:
        connection = http.client.HTTPConnection(host, 8222, timeout=2)
        connection.request("GET", "/connz?auth=1&limit=10000")
        found = json.load(connection.getresponse())["connections"]
    except OSError:
        return set()
    return {each.get(key, "") for each in found if each["subscriptions"] for key in ("name", "authorized_user")}


missing = set(sys.argv[1:])
for broker in ("broker", "broker-2", "broker-3") if CLUSTER else ("broker",):
    missing -= connected(broker)
if missing:
    sys.exit(f"not connected: {', '.join(sorted(missing))}")
