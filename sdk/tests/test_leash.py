"""Programs that end with who started them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jsnats.sdk import leashed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")


def test_a_leashed_program_dies_with_its_starter() -> None:
    """Even when that is killed."""
    code = (
        "import subprocess; from jsnats.sdk import leashed\n"
        "subprocess.run(leashed(['bash', '-c', 'echo $$; exec sleep 1000']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        assert int(starter.stdout.readline())
        starter.kill()
        assert starter.stdout.read() == ""  # at its end when nobody has it any more: the test's timeout is for that


def test_a_leashed_program_that_is_not_there() -> None:
    """The exit code says so, and a line why."""
    done = subprocess.run(leashed(["/no/such/program"]), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "cannot run /no/such/program: No such file or directory\n")
