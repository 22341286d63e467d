"""Post events to a web service, as CloudEvents in structured JSON: each at least once, in order, through outages.

    python webhook.py https://chat.example/hook --type 'lease.*' --state webhook.json

A service that does not answer with 2xx is asked again, after 1 s, 2 s, 4 s and at most a minute; only a 4xx other than
408 and 429 is its last word, and the event is left out. The state file says which event was delivered last. Killed
between delivery and its note, an event comes twice, with the same `id`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from jsnats.common.exceptions import JsnatsError
from jsnats.sdk import StoredEvent, connect

LONGEST_S = 60.0
TIMEOUT_S = 10.0


def post(url: str, event: StoredEvent) -> None:
    """Deliver one event, for as long as it takes."""
    wait_s = 1.0
    while not _taken(url, event):
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_S)


def _taken(url: str, event: StoredEvent) -> bool:
    """Whether the service has said its last word about it."""
    headers = {"Content-Type": "application/cloudevents+json"}
    request = urllib.request.Request(url, event.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            return True
    except urllib.error.HTTPError as error:
        final = 400 <= error.code < 500 and error.code not in (408, 429)
        print(f"{event.id} {event.type}: {error.code}{', left out' if final else ''}", file=sys.stderr)
        return final
    except OSError as error:
        print(f"{event.id} {event.type}: {error}", file=sys.stderr)
        return False


def main() -> None:
    """Deliver until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Post events of the lab to a web service.")
    parser.add_argument("url")
    parser.add_argument("--type", default="", help="As lease.granted or lease.*; all of them without it.")
    parser.add_argument("--state", type=Path, default=Path("webhook.json"), help="Where it notes how far it is.")
    options = parser.parse_args()
    last = json.loads(options.state.read_text()) if options.state.exists() else None
    with connect() as lab:
        for event in lab.events(type=options.type, since=last["stored"] if last else None, follow=True):
            if last and (event.stored, event.sequence) <= (last["stored"], last["sequence"]):
                continue
            post(options.url, event)
            fresh = options.state.with_suffix(".new")
            fresh.write_text(json.dumps({"stored": event.stored, "sequence": event.sequence}))
            fresh.replace(options.state)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except JsnatsError as error:
        sys.exit(f"error: {error}")
