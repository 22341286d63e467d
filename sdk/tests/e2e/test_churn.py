"""Many clients, few exporters, and everything that can die does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHURN = Path(__file__).parents[2] / "benchmarks" / "churn.py"


def test_churn() -> None:
    """Never two holders, nobody forgotten, by priority and arrival, all free in the end: clients, one of two schedulers
    and the broker are killed."""
    size = ("--clients", "30", "--exporters", "4", "--seconds", "8")
    done = subprocess.run([sys.executable, str(CHURN), *size], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("; 0 faults\n"), done.stdout
