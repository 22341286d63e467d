"""What leaves the repository: the wheel, the constraints, and the set-up that make does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PARTS = ("schemas", "sdk", "broker", "agent")
CONSTRAINTS = (ROOT / "constraints.txt").read_text().replace("\\\n", "").splitlines()
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==[^ ]+( ; [^\\-]+?)?( +--hash=sha256:[0-9a-f]{64})+")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command and return its output; a failure shows what it wrote."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, target: str, folder: Path) -> Path:
    """Build `target` (wheel or sdist) of `source` and return the file."""
    run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder, cwd=source)
    (built,) = folder.iterdir()
    return built


def in_tree() -> set[str]:
    """Return every file that the four source roots put under `jsnats/`."""
    roots = [ROOT / part / "src" for part in PARTS]
    files = {str(path.relative_to(root)) for root in roots for path in root.rglob("*") if path.is_file()}
    return {name for name in files if "__pycache__" not in name}


def in_wheel(wheel: Path) -> set[str]:
    """Return every file of a wheel but its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the core."""
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.mark.slow
def test_the_wheel_holds_all_four_roots(wheel: Path) -> None:
    """Nothing of a source root is left behind, and nothing else gets in."""
    assert in_wheel(wheel) == in_tree()
    assert {name.split("/")[1] for name in in_tree()} >= {"schemas", "sdk", "broker", "agent", "driver", "client"}


@pytest.mark.slow
def test_a_wheel_made_through_an_sdist_is_the_same(tmp_path: Path) -> None:
    """Installing from the source archive gives the files of the tree, not an empty package."""
    archive = build(ROOT, "sdist", tmp_path / "sdist")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    assert in_wheel(build(tmp_path / archive.name.removesuffix(".tar.gz"), "wheel", tmp_path / "wheel")) == in_tree()


@pytest.mark.slow
def test_the_wheel_works_in_a_fresh_venv(wheel: Path, tmp_path: Path) -> None:
    """Installed under the checked hashes, away from the tree, every package imports and every entry point loads."""
    uv, venv = Path(sys.executable).with_name("uv"), tmp_path / "venv"
    python = venv / "bin" / "python"
    run(uv, "venv", "--quiet", "--python", sys.executable, venv)
    constraints = ROOT / "constraints.txt"
    run(
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        "-c",
        constraints,
        f"jsnats[broker,testing] @ {wheel.as_uri()}",
    )
    packages = sorted(
        {str(Path(name).parent).replace("/", ".") for name in in_wheel(wheel) if name.endswith("/__init__.py")}
    )
    assert "jsnats.schemas" in packages
    run(python, "-c", f"import {', '.join(packages)}", cwd=tmp_path)
    load = "from importlib.metadata import distribution; print([p.load() for p in distribution('jsnats').entry_points])"
    run(python, "-c", load, cwd=tmp_path)
    where = run(python, "-c", "import jsnats.schemas; print(jsnats.schemas.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(venv)
    assert all((venv / "bin" / command).is_file() for command in ("jsnats", "j"))


def test_every_constraint_has_its_hashes() -> None:
    """constraints.txt pins exact versions with hashes and says nothing else: no index, no path of a machine."""
    assert [line for line in CONSTRAINTS if not PIN.fullmatch(line)] == []


def test_constraints_cover_every_dependency() -> None:
    """What the core, the development group and each driver ask for is pinned: run `make constraints` if not."""
    wanted: set[str] = set()
    for file in (ROOT / "pyproject.toml", *ROOT.glob("drivers/*/pyproject.toml")):
        data = tomllib.loads(file.read_text())
        lists = [data["project"].get("dependencies", []), *data["project"].get("optional-dependencies", {}).values()]
        lists += data.get("dependency-groups", {}).values()
        wanted |= {re.split(r"[^A-Za-z0-9_.-]", item)[0].lower().replace("_", "-") for each in lists for item in each}
    pinned = {pin["name"] for line in CONSTRAINTS if (pin := PIN.fullmatch(line))}
    assert {name for name in wanted - pinned if not name.startswith("jsnats")} == set()


def test_an_old_python_is_told_in_one_line(tmp_path: Path) -> None:
    """Without a fit Python, make says what to install and does nothing else."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    outside = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    command = ["make", "-s", "env", "PYTHON="]
    done = subprocess.run(command, cwd=tmp_path, env=outside, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.splitlines()[0].startswith("jsnats needs Python 3.11 or newer")
    assert not (tmp_path / ".venv").exists()
