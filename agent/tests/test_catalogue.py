"""`jsnats driver ls` and `jsnats driver doc`."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from pydantic import Field
from pydantic.dataclasses import dataclass
from typer.testing import CliRunner

from jsnats.agent import _catalogue, _config_types
from jsnats.agent._catalogue import driver_doc
from jsnats.agent.cli_driver import complete_driver, driver_app
from jsnats.driver import Driver, export
from jsnats.schemas import ConfigurationError


@dataclass(kw_only=True)
class Lamp(Driver):
    """A lamp.

    It shines.
    """

    level: float = Field(default=0.5, ge=0, description="brightness, 0 to 1")
    names: list[str] = Field(default_factory=list)
    port: int

    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DriverClient"

    @export
    async def shine(self, seconds: float = 1.0) -> bool:
        """Shine so many seconds."""
        return bool(seconds)


def shown(*words: str) -> str:
    """What `jsnats driver ...` prints."""
    done = CliRunner().invoke(driver_app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_doc_reads_the_class() -> None:
    """Parameters have type, unit and default, methods are those that are published."""
    found = driver_doc(f"{__name__}.Lamp") if "." in __name__ else _doc_of_lamp()
    assert [(each.name, each.type, each.required, each.default, each.doc) for each in found.parameters] == [
        ("level", "float", False, 0.5, "brightness, 0 to 1"),
        ("names", "list[str]", False, [], ""),
        ("port", "int", True, None, ""),
    ]
    assert found.doc == "A lamp.\n\nIt shines."
    assert list(found.interface.methods) == ["shine"]


def _doc_of_lamp() -> _catalogue.DriverDoc:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_catalogue, "driver_class", lambda name: Lamp)
        return driver_doc("Lamp")


def test_doc_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page has what an author of an exporter file needs, and the methods with their signatures."""
    monkeypatch.setattr(_catalogue, "driver_class", lambda name: Lamp)
    assert shown("doc", "Lamp").splitlines()[1:] == [
        "",
        "A lamp.",
        "",
        "It shines.",
        "",
        "Parameters:",
        "  level  float      default 0.5  brightness, 0 to 1",
        "  names  list[str]  default []",
        "  port   int        required",
        "",
        "Methods:",
        "  shine(seconds: float = 1.0) -> bool",
        "      Shine so many seconds.",
    ]


def test_doc_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods are as published, with their schemas."""
    monkeypatch.setattr(_catalogue, "driver_class", lambda name: Lamp)
    found = json.loads(shown("doc", "Lamp", "--json"))
    assert [each["name"] for each in found["parameters"]] == ["level", "names", "port"]
    assert found["methods"]["shine"]["doc"] == "Shine so many seconds."
    assert found["methods"]["shine"]["params"]["properties"]["seconds"]["default"] == 1.0


def test_doc_of_a_driver_that_is_not_installed() -> None:
    """The error says which are."""
    with pytest.raises(ConfigurationError, match="'Compsite' is not installed .did you mean 'Composite'"):
        driver_doc("Compsite")


def test_ls_lists_every_registered_driver() -> None:
    """Name, package, version and the first line of the docstring."""
    found = {each["name"]: each for each in json.loads(shown("ls", "--json"))}
    assert found.keys() == {point.name for point in metadata.entry_points(group="jsnats.drivers")}
    assert found["Composite"]["package"] == "jsnats"
    assert found["Composite"]["version"] == metadata.version("jsnats")
    assert found["Composite"]["summary"]
    line = next(line for line in shown("ls").splitlines() if line.startswith("Composite "))
    assert line.split()[1:3] == ["jsnats", metadata.version("jsnats")]


def test_ls_shows_a_driver_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the list with what is missing, and the others are too."""
    (tmp_path / "broken_driver.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = metadata.EntryPoint("Broken", "broken_driver:Broken", "jsnats.drivers")
    monkeypatch.setattr(_config_types, "_points", lambda: {"Broken": [point]})
    monkeypatch.setattr(_catalogue.metadata, "entry_points", lambda **group: [point])
    assert "no_such_library" in shown("ls")


def test_a_name_that_two_packages_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused with the paths to write, the list has both with their own words, and the shell offers it once."""
    values = ("jsnats.driver:Composite", "jsnats_driver_power.driver:MockPower", "jsnats.driver:Composite")
    points = [metadata.EntryPoint("Thing", value, "jsnats.drivers") for value in values]
    monkeypatch.setattr(_config_types, "_points", lambda: {"Thing": points})
    monkeypatch.setattr(metadata, "entry_points", lambda **group: points[:2])
    with pytest.raises(
        ConfigurationError, match="write jsnats.driver.Composite or jsnats_driver_power.driver.MockPower"
    ):
        driver_doc("Thing")
    summaries = [each["summary"] for each in json.loads(shown("ls", "--json"))]
    assert summaries == [driver_doc(value.replace(":", ".")).doc.partition(".")[0] for value in values[:2]]
    assert complete_driver("Th") == ["Thing"]


def test_the_shell_offers_the_names() -> None:
    """Of the installed drivers those that begin so."""
    assert complete_driver("Compos") == ["Composite"]
    assert complete_driver("no") == []
