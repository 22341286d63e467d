"""The shape of the repository: what a stray file would break without a word."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PARTS = ("schemas", "sdk", "broker", "agent")
DRIVERS = sorted(path.parent for path in ROOT.glob("drivers/*/pyproject.toml"))
WITH_CLIENT = [folder for folder in DRIVERS if any(folder.glob("*/client.py"))]
ENTRY_POINT = re.compile(r"(\w+)\.(driver|adapters?):\w+")

# In two halves, so that this file passes its own test.
REGISTRIES = [
    first + second
    for first, second in (
        ("pypi.", "org"),
        ("files.python", "hosted"),
        ("registry.npm", "js"),
        ("registry.yarn", "pkg"),
        ("deb.deb", "ian.org"),
        ("archive.ubun", "tu.com"),
        ("proxy.go", "lang.org"),
    )
]


def committed() -> list[Path]:
    """Return the files that git tracks or would add."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def project(folder: Path) -> dict[str, Any]:
    """Return the pyproject.toml of a distribution."""
    return tomllib.loads((folder / "pyproject.toml").read_text())


@pytest.mark.parametrize("part", PARTS)
def test_the_namespace_has_no_init(part: str) -> None:
    """`jsnats` and `jsnats.common` are namespaces: an __init__.py in one root would hide the other roots."""
    namespace = ROOT / part / "src" / "jsnats"
    assert namespace.is_dir()
    assert [path.name for path in namespace.glob("*.py")] == []
    assert [path.name for path in namespace.glob("common/__init__.py")] == []


def test_no_file_names_a_package_registry() -> None:
    """A lab behind a mirror installs from where it is told: no committed file holds a registry's address."""
    found = [
        f"{path.relative_to(ROOT)}: {address}"
        for path in committed()
        for address in REGISTRIES
        if address in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert found == []


def test_lock_files_with_addresses_are_ignored() -> None:
    """uv.lock and npm's lock file are steps on the way and stay out of git."""
    locks = {"uv.lock", "package-lock.json"}
    assert [path for path in committed() if path.name in locks] == []


@pytest.mark.parametrize("folder", DRIVERS, ids=lambda path: path.name)
def test_a_driver_has_the_shape_of_the_guide(folder: Path) -> None:
    """Every driver folder is named after its distribution and holds the files that the guide lists.

    A driver that another's client serves, as a switch does, has no `client.py`.
    """
    module = folder.name.replace("-", "_")
    wanted = ["README.md", "pyproject.toml", "examples/exporter.yaml"]
    wanted += [f"{module}/{name}.py" for name in ("__init__", "client_test", "driver", "driver_test")]
    wanted += [f"{module}/py.typed"]
    assert folder.name.startswith("jsnats-driver-")
    assert [name for name in wanted if not (folder / name).is_file()] == []
    assert project(folder)["project"]["name"] == folder.name


def test_every_driver_is_in_the_list() -> None:
    """drivers/README.md has a row for each."""
    listed = re.findall(r"^\| \[[\w-]+\]\((.*)/README.md\)", (ROOT / "drivers/README.md").read_text(), re.MULTILINE)
    assert listed == [folder.name for folder in DRIVERS]


@pytest.mark.parametrize("folder", DRIVERS, ids=lambda path: path.name)
def test_a_driver_registers_only_what_is_its_own(folder: Path) -> None:
    """Entry points of a driver name the package they come with."""
    groups: dict[str, dict[str, str]] = project(folder)["project"].get("entry-points", {})
    targets = [target for group in ("jsnats.drivers", "jsnats.adapters") for target in groups.get(group, {}).values()]
    assert [target for target in targets if not ENTRY_POINT.fullmatch(target)] == []
    assert {target.split(".")[0] for target in targets} <= {folder.name.replace("-", "_")}


@pytest.mark.parametrize("folder", WITH_CLIENT, ids=lambda path: path.name)
def test_a_client_does_not_load_its_driver(folder: Path) -> None:
    """Importing the client of a package loads neither its driver nor the exporter's side of the core."""
    module = folder.name.replace("-", "_")
    code = f"import sys, {module}.client; print(sorted({{'{module}.driver', 'jsnats.driver'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
