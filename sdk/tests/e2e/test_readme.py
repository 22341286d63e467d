"""The READMEs of the whole and of its parts do what they say: their files are written, their commands are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).parents[3]
READMES = [TOP / "README.md", *(TOP / part / "README.md" for part in ("sdk", "agent", "broker"))]
DRIVERS = sorted((TOP / "drivers").glob("jsnats-driver-*/README.md"))
ALL = [*READMES, *DRIVERS, TOP / "drivers" / "README.md"]
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[Any]:
    """Each shell block of each README, with its README."""
    return [
        pytest.param(readme, body, id=f"{readme.parent.name}: {body.splitlines()[0]}")
        for readme in READMES
        for language, _, body in BLOCK.findall(readme.read_text())
        if language == "sh"
    ]


@pytest.mark.parametrize(("readme", "command"), commands())
def test_a_command_of_the_readme_works(tmp_path: Path, readme: Path, command: str) -> None:
    """It exits with 0 in a folder that holds the README's files, and says something."""
    for _, name, body in BLOCK.findall(readme.read_text()):
        if name:
            (tmp_path / name).write_text(body)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    for name in ("JSNATS_URL", "JSNATS_CONTEXT", "JSNATS_EXPORTER"):
        environment.pop(name, None)
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("readme", DRIVERS, ids=lambda path: path.parent.name)
def test_the_python_of_a_driver_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readme: Path) -> None:
    """Each block runs as it stands, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    blocks = [body for language, _, body in BLOCK.findall(readme.read_text()) if language == "python"]
    assert blocks
    for body in blocks:
        exec(compile(body, str(readme), "exec", dont_inherit=True), {"__name__": "readme"})


@pytest.mark.parametrize("readme", ALL, ids=lambda path: path.parent.name)
def test_the_readme_names_only_files_that_are_there(readme: Path) -> None:
    """Every relative link leads somewhere."""
    links = re.findall(r"\]\(([^)#:]+)\)", readme.read_text())
    assert [link for link in links if not (readme.parent / link).exists()] == []
