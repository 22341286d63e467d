"""Faults of a cluster under everything that a user does; the whole table is `sdk/benchmarks/faults.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(150)

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.skipif("JSNATS_FAULTS" not in os.environ, reason="make test-faults runs it")
def test_everything_goes_on_through_a_killed_server_and_a_rolling_restart() -> None:
    """Calls, a stream, a forward, flashes, a console, leases and events: nothing fails, is lost or comes twice, and the
    lease that is held throughout is not lost."""
    command = [sys.executable, "faults.py", "--json", "--same", "--hold", "5", "kill-agent", "roll"]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, timeout=140, check=False)
    told: dict[str, Any] = json.loads(done.stdout)
    for row in told["faults"].values():
        for kind, cell in row.items():
            assert (kind, cell["errors"], cell["wrong"]) == (kind, [], []), done.stderr
