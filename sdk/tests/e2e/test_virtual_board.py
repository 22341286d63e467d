"""Drivers together: U-Boot's driver on the power and the console of a virtual board."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jsnats_driver_qemu.testing import UBOOT, missing

EXPORTER = f"""\
name: virtual
export:
  board:
    type: jsnats_driver_qemu.driver.Qemu
    config: {{arch: arm64, mem: 256M, default_partitions: {{bios: {UBOOT["aarch64"]}}}}}
  uboot:
    type: jsnats_driver_uboot.driver.UbootConsole
    config: {{off_time: 0.1}}
    children:
      power: {{ref: board.power}}
      serial: {{ref: board.console}}
"""

pytestmark = pytest.mark.skipif(bool(missing("aarch64")), reason=missing("aarch64"))


@pytest.mark.timeout(150)
def test_uboot_on_a_virtual_board_from_the_command_line(tmp_path: Path) -> None:
    """One exporter file and `j`: the board starts into U-Boot's prompt, runs a command, keeps a variable."""
    (tmp_path / "exporter.yaml").write_text(EXPORTER)
    script = "j uboot reboot && j uboot run 'echo one; echo two' && j uboot env set who virtual && j uboot env get who"
    jsnats = Path(sys.executable).with_name("jsnats")
    done = subprocess.run(
        [jsnats, "up", "exporter.yaml", "--", "bash", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == ["one", "two", "virtual"]
