"""The pytest example works as it stands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_pytest_example(tmp_path: Path) -> None:
    """The tests of the example pass, in a lab that they start themselves, and nothing is left of it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JSNATS_")}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "XDG_CONFIG_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-p", "jsnats.testing.plugin", "-p", "no:cacheprovider", "-q", "pytest"]
    process = subprocess.Popen(command, cwd=EXAMPLES, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        output, _ = process.communicate(timeout=50)
    finally:
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0, output
    assert "4 passed" in output
    assert not list(tmp_path.glob("jsnats-*"))
