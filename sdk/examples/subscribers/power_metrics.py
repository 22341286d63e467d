"""Power readings of a board for Prometheus and Grafana: the last one, at http://127.0.0.1:9400/metrics.

    jsnats run -l board=rpi4 -- python power_metrics.py dut.power --port 9400

In Prometheus' text format 0.0.4. `jsnats_power_up` is 0 when no reading came for 10 s.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from jsnats.common.exceptions import JsnatsError
from jsnats.sdk import connect

STALE_S = 10.0


class Gauge:
    """The last reading, as text for Prometheus."""

    def __init__(self, exporter: str, path: str) -> None:
        self._labels = f'{{exporter="{exporter}",driver="{path}"}}'
        self._last = (float("-inf"), 0.0, 0.0)

    def take(self, voltage: float, current: float) -> None:
        """Remember a reading, V and A."""
        self._last = (time.monotonic(), voltage, current)

    def text(self) -> str:
        """What is scraped."""
        at, voltage, current = self._last
        up = time.monotonic() - at < STALE_S
        rows = [("up", "1 while readings come", float(up))]
        if up:
            rows += [("volts", "Voltage at the output", voltage), ("amperes", "Current", current)]
        return "".join(
            f"# HELP jsnats_power_{name} {told}\n# TYPE jsnats_power_{name} gauge\n"
            f"jsnats_power_{name}{self._labels} {value:g}\n"
            for name, told, value in rows
        )


def serve(gauge: Gauge, port: int) -> ThreadingHTTPServer:
    """Answer /metrics in a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = gauge.text().encode() if self.path == "/metrics" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    """Follow the readings until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Power readings of a board for Prometheus.")
    parser.add_argument("path", help="The driver, as dut.power.")
    parser.add_argument("--exporter", default=os.environ.get("JSNATS_EXPORTER", ""), help="Which, unless in a lease.")
    parser.add_argument("--port", type=int, default=9400)
    options = parser.parse_args()
    gauge = Gauge(options.exporter, options.path)
    server = serve(gauge, options.port)
    print(f"http://127.0.0.1:{server.server_port}/metrics", flush=True)
    with connect() as lab:
        driver = lab.exporter(options.exporter)
        for name in options.path.split("."):
            driver = getattr(driver, name)
        for reading in driver.read():
            gauge.take(reading.voltage, reading.current)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except JsnatsError as error:
        sys.exit(f"error: {error}")
