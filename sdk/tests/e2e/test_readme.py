"""The README does what it says: its files are written, its commands are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[3] / "README.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = [body for language, _, body in BLOCK.findall(README.read_text()) if language == "sh"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with every file that the README shows."""
    for _, name, body in BLOCK.findall(README.read_text()):
        if name:
            (tmp_path / name).write_text(body)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=lambda text: text.splitlines()[0])
def test_a_command_of_the_readme_works(folder: Path, command: str) -> None:
    """It exits with 0 in a folder that holds the README's files, and says something."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "XDG_CONFIG_HOME": str(folder / "config")}
    for name in ("JSNATS_URL", "JSNATS_CONTEXT", "JSNATS_EXPORTER"):
        environment.pop(name, None)
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_readme_names_only_files_that_are_there() -> None:
    """Every relative link leads somewhere."""
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text())
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
