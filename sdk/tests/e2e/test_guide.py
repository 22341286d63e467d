"""The driver guide as a whole package: `sdk/examples/mydevice`, from its files to a lab that runs it.

What each method and class does is tested beside the code, in the package itself.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jsnats.agent import load
from jsnats.common.utils import serve
from jsnats.sdk.cli._j import run_words

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "mydevice"
EXPORTER = EXAMPLE / "examples" / "exporter.yaml"
README = (EXAMPLE / "README.md").read_text()
USED = [EXAMPLE.parents[2] / "drivers" / f"jsnats-driver-{name}" for name in ("composite", "network")]


def block(language: str) -> str:
    """Return the only code block of the README in that language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(found)


def run(*command: object, **environment: str) -> str:
    """Run a command and return its output; a failure shows what it wrote."""
    words = [str(part) for part in command]
    done = subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    """The package can be imported from the checkout, without being installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        yield


@pytest.fixture
def bench() -> Iterator[Any]:
    """A client of the exporter that the example configuration describes."""
    (exporter,) = load([EXPORTER])
    with serve(exporter.root) as client:
        yield client


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel was installed: what a lab has that knows nothing of this checkout."""
    built, site = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("site")
    for folder in (EXAMPLE, *USED):
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    for wheel in built.iterdir():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    return site


def test_the_package_has_the_shape_of_the_guide() -> None:
    """Every file that the guide lists is there, and the distribution is named after its folder of modules."""
    module = EXAMPLE / "jsnats_driver_mydevice"
    top = ["README.md", "pyproject.toml", "examples/exporter.yaml"]
    code = ["__init__.py", "client.py", "client_test.py", "driver.py", "driver_test.py"]
    assert [name for name in top if not (EXAMPLE / name).is_file()] == []
    assert [name for name in code if not (module / name).is_file()] == []
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    assert project["name"] == module.name.replace("_", "-")


def test_the_client_loads_neither_driver_nor_agent() -> None:
    """Importing the package and its adapter on a user's machine leaves the exporter's side alone."""
    modules = "{'jsnats_driver_mydevice.driver', 'jsnats.driver', 'jsnats.agent'}"
    code = f"import sys, jsnats_driver_mydevice.adapter; print(sorted({modules} & sys.modules.keys()))"
    assert run(sys.executable, "-W", "error", "-c", code, PYTHONPATH=str(EXAMPLE)) == "[]\n"


def test_the_example_configuration_is_served(bench: Any) -> None:
    """exporter.yaml of the guide loads, with its nested object, and each node gets its own client class."""
    assert bench.my_device.describe() == {"some_param": "Hello, world", "name": "Some config"}
    assert list(bench.my_device.streaming()) == [2.0, 3.0]
    clients = (bench.my_device, bench.my_harness, bench.my_harness.device)
    assert [type(each).__name__ for each in clients] == ["MyDeviceClient", "MyHarnessClient", "MyDeviceClient"]
    assert bench.my_harness.device.path == "my_harness.device"


def test_a_fault_in_a_nested_object_is_told_by_line(tmp_path: Path) -> None:
    """A wrong value inside `config.config` names its place in the file."""
    file = tmp_path / "exporter.yaml"
    file.write_text(EXPORTER.read_text().replace('name: "Some config"', "name: [1]"))
    with pytest.raises(ValueError, match=r"exporter.yaml:\d+: export.my_device.config.config.name: ") as caught:
        load([file])
    line = int(str(caught.value.faults[0]).split(":")[1])  # type: ignore[attr-defined]
    assert "name: [1]" in file.read_text().splitlines()[line - 1]


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["my_device", "do-something", "bob"], "bob: abc, powered True, then ok\n"),
        (["my_device", "do-something", "--option", "xyz", "bob"], "bob: xyz, powered True, then ok\n"),
    ],
)
def test_j_runs_the_drivers_own_command(
    bench: Any, words: list[str], output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`j my_device do-something bob` finds the client by its path and runs its click group."""
    run_words(bench, words)
    assert capsys.readouterr().out == output


def test_the_command_runs_without_j(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`cli().main(args, standalone_mode=False)` runs it in any program and does not exit."""
    bench.my_device.cli().main(["do-something", "bob"], standalone_mode=False)
    assert capsys.readouterr().out == "bob: abc, powered True, then ok\n"


def test_j_shows_the_help_of_the_driver(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The docstrings of the click group are what a user reads, under the name that he typed."""
    run_words(bench, ["my_device", "--help"])
    shown = capsys.readouterr().out
    assert "Usage: j my_device " in shown
    assert "My Device Driver" in shown
    assert "do-something" in shown


def test_the_readme_tells_the_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its Python runs and prints what the text promises; its YAML is a node of an exporter."""
    exec(compile(block("python"), str(EXAMPLE / "README.md"), "exec"), {})
    assert capsys.readouterr().out == "Some config [2.0, 3.0]\nTrue\n"
    (tmp_path / "exporter.yaml").write_text(block("yaml"))
    (exporter,) = load([tmp_path / "exporter.yaml"])
    assert list(exporter.root.children) == ["my_device"]
    assert yaml.safe_load(block("yaml"))["export"].items() <= yaml.safe_load(EXPORTER.read_text())["export"].items()


@pytest.mark.slow
def test_the_installed_package_is_found_by_its_entry_points(installed: Path) -> None:
    """Drivers and adapter are found under `jsnats.drivers` and `jsnats.adapters`, and each one loads."""
    code = """
from importlib.metadata import distribution
for point in sorted(distribution("jsnats-driver-mydevice").entry_points):
    print(point.group, point.name, point.load().__name__)
"""
    found = run(sys.executable, "-c", code, PYTHONPATH=str(installed))
    assert found.splitlines() == [
        "jsnats.adapters MyDevice MyAdapter",
        "jsnats.drivers MyDevice MyDevice",
        "jsnats.drivers MyHarness MyHarness",
        "jsnats.drivers MyPortforward MyPortforward",
    ]


@pytest.mark.slow
def test_a_lab_runs_the_installed_package(installed: Path, tmp_path: Path) -> None:
    """`jsnats up examples/exporter.yaml -- j my_device do-something bob`: the entry point alone makes `j` trust it."""
    beside = Path(sys.executable).parent
    command = [beside / "jsnats", "up", EXPORTER, "--", beside / "j", "my_device", "do-something", "bob"]
    shown = run(*command, PYTHONPATH=str(installed), XDG_CONFIG_HOME=str(tmp_path))
    assert shown == "bob: abc, powered True, then ok\n"


@pytest.mark.slow
def test_a_short_type_in_the_configuration_is_the_entry_point(installed: Path, tmp_path: Path) -> None:
    """`type: MyDevice` is found by the name under which the package registers it."""
    file = tmp_path / "exporter.yaml"
    file.write_text("name: bench-1\nexport:\n  my_device:\n    type: MyDevice\n")
    beside = Path(sys.executable).parent
    command = [beside / "jsnats", "up", file, "--", beside / "jsnats", "call", "bench-1.my_device.power_off"]
    shown = run(*command, PYTHONPATH=str(installed), XDG_CONFIG_HOME=str(tmp_path))
    assert shown == "ok\n"
