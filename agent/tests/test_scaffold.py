"""`jsnats driver create`."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jsnats.agent._scaffold import NewDriver, create_driver
from jsnats.agent.cli_driver import driver_app
from jsnats.schemas import ConfigurationError

SHAPE = {
    "README.md",
    "pyproject.toml",
    "examples/exporter.yaml",
    "jsnats_driver_my_device/__init__.py",
    "jsnats_driver_my_device/client.py",
    "jsnats_driver_my_device/client_test.py",
    "jsnats_driver_my_device/conformance_test.py",
    "jsnats_driver_my_device/driver.py",
    "jsnats_driver_my_device/driver_test.py",
    "jsnats_driver_my_device/py.typed",
}


def files(folder: Path) -> set[str]:
    """Return the files of a folder, by relative path."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def run_in(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with `folder` as a place of packages."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_new_driver_has_the_shape_of_the_guide(tmp_path: Path) -> None:
    """The files are those of the guide, nothing else is written, and each Python file compiles."""
    path = create_driver(NewDriver("my-device", "MyDevice"), tmp_path)
    assert path == tmp_path / "jsnats-driver-my-device"
    assert files(path) == SHAPE
    assert files(tmp_path) == {f"{path.name}/{name}" for name in SHAPE}
    for source in path.rglob("*.py"):
        ast.parse(source.read_text(), str(source))


def test_a_new_driver_registers_itself(tmp_path: Path) -> None:
    """Its own pyproject.toml carries the entry point, so no other file has to change."""
    path = create_driver(NewDriver("my-device", "MyDevice"), tmp_path)
    project = tomllib.loads((path / "pyproject.toml").read_text())["project"]
    assert project["name"] == "jsnats-driver-my-device"
    assert project["entry-points"]["jsnats.drivers"] == {"MyDevice": "jsnats_driver_my_device.driver:MyDevice"}


def test_a_standalone_driver_brings_its_test_settings(tmp_path: Path) -> None:
    """Outside this tree a driver has its package in src, test tools, pytest settings and a .gitignore of its own."""
    path = create_driver(NewDriver("my-device", "MyDevice", standalone=True), tmp_path)
    moved = {name.replace("jsnats_driver", "src/jsnats_driver") for name in SHAPE}
    assert files(path) == moved | {".gitignore"}
    data = tomllib.loads((path / "pyproject.toml").read_text())
    assert data["tool"]["pytest"]["ini_options"]["testpaths"] == ["src"]
    assert "dev" in data["dependency-groups"]


def test_the_tests_of_a_new_driver_pass(tmp_path: Path) -> None:
    """The example works before a line is written: its six tests pass, and those of the conformance kit."""
    path = create_driver(NewDriver("my-device", "MyDevice", standalone=True), tmp_path)
    done = run_in(path, "import sys, pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider']))")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "13 passed" in done.stdout


def test_the_client_of_a_new_driver_does_not_load_the_driver(tmp_path: Path) -> None:
    """The package imports its driver only when asked for it."""
    path = create_driver(NewDriver("my-device", "MyDevice"), tmp_path)
    code = """
import sys, jsnats_driver_my_device as package
assert "jsnats_driver_my_device.driver" not in sys.modules
assert package.MyDevice.client() == "jsnats_driver_my_device.client.MyDeviceClient"
"""
    done = run_in(path, code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "cls"), [("x", "X"), ("usb-cam2", "UsbCam2"), ("x" * 30, "X" * 30)])
def test_a_new_driver_is_clean(tmp_path: Path, name: str, cls: str) -> None:
    """Formatter and linter, with the settings of this tree, find nothing in it, however short or long its name."""
    path = create_driver(NewDriver(name, cls), tmp_path)
    settings = str(Path(__file__).resolve().parents[2] / "pyproject.toml")
    for command in (["format", "--check"], ["check", "--no-cache"]):
        ruff = [str(Path(sys.executable).with_name("ruff")), *command, "--config", settings, str(path)]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "cls", "says"),
    [
        ("My-Device", "MyDevice", "a-z 0-9"),
        ("my_device", "MyDevice", "a-z 0-9"),
        ("my--device", "MyDevice", "single dashes"),
        ("", "MyDevice", "a-z 0-9"),
        ("../up", "MyDevice", "a-z 0-9"),
        ("x" * 31, "MyDevice", "a-z 0-9"),
        ("jsnats-driver-my-device", "MyDevice", "leave out"),
        ("my-device", "myDevice", "PascalCase"),
        ("my-device", "My_Device", "PascalCase"),
        ("my-device", "Driver", "PascalCase"),
        ("my-device", "X" * 31, "PascalCase"),
        ("my-device", "None", "PascalCase"),
    ],
)
def test_a_bad_name_is_refused(name: str, cls: str, says: str) -> None:
    """A name that cannot be a package, or a class that cannot be one in it, is refused in one line."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        NewDriver(name, cls)
    assert "\n" not in str(caught.value)


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    """A driver that is there already is not overwritten."""
    (tmp_path / "jsnats-driver-my-device").mkdir()
    with pytest.raises(ConfigurationError, match="exists"):
        create_driver(NewDriver("my-device", "MyDevice"), tmp_path)
    assert files(tmp_path) == set()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The folder that drivers go to must be there: a typing error does not make one."""
    with pytest.raises(ConfigurationError, match="no folder .*nowhere"):
        create_driver(NewDriver("my-device", "MyDevice"), tmp_path / "nowhere")


def test_the_class_of_an_installed_driver_is_taken(tmp_path: Path) -> None:
    """With two of one name no exporter file could name either."""
    with pytest.raises(ConfigurationError, match="'MockPower' is a driver of jsnats-driver-power: choose another"):
        create_driver(NewDriver("my-power", "MockPower"), tmp_path)
    assert files(tmp_path) == set()


def test_the_command_says_where_the_driver_is(tmp_path: Path) -> None:
    """`jsnats driver create` prints the path and the command that installs it."""
    done = CliRunner().invoke(driver_app, ["create", "my-device", "--class", "MyDevice", "--dir", str(tmp_path)])
    assert done.exit_code == 0
    assert f"pip install -e {tmp_path}/jsnats-driver-my-device" in done.output


def test_a_standalone_driver_is_made_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes to the current folder, and the command that installs it brings what its tests need."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(driver_app, ["create", "my-device", "--class", "MyDevice", "--standalone"])
    assert done.exit_code == 0
    assert (tmp_path / "jsnats-driver-my-device" / "src").is_dir()
    assert "pip install -e jsnats-driver-my-device 'jsnats[broker,testing]'" in done.output


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    """A fault of the user ends with code 2 and one line on stderr."""
    command = [sys.executable, "-m", "jsnats.sdk.cli", "driver", "create", "Bad Name", "--class", "MyDevice"]
    done = subprocess.run([*command, "--dir", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
