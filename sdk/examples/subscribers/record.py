"""Append every event of the lab to a file, one JSON object a line, and go on where it stopped.

    python record.py events.jsonl [TYPE]

Killed and started again, it begins with what it has not written yet: events are kept at the broker for 90 days.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from jsnats.common.exceptions import JsnatsError
from jsnats.sdk import connect


def last_line(path: Path) -> dict[str, Any] | None:
    """The last event of the file; a line that was cut off by a crash is none, and is taken away."""
    if not path.exists():
        return None
    whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    path.write_text("".join(whole))
    return json.loads(whole[-1]) if whole else None


def main(path: Path, kind: str = "") -> None:
    """Record until Ctrl-C."""
    last = last_line(path)
    with connect() as lab, path.open("a", buffering=1) as file:
        for event in lab.events(type=kind, since=last["stored"] if last else None, follow=True):
            if last and (event.stored, event.sequence) <= (last["stored"], last["sequence"]):
                continue
            told = json.loads(event.encode()) | {"stored": event.stored, "sequence": event.sequence}
            file.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), *sys.argv[2:3])
    except KeyboardInterrupt:
        pass
    except JsnatsError as error:
        sys.exit(f"error: {error}")
