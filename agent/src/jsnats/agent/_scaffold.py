"""A new driver package, written from `_templates/driver`: the guide's shape, with tests that pass at once.

The templates are files named like their result with `.tmpl` added; what `NewDriver.values` lists is filled in. The
folder `module` becomes the Python package.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from jsnats.schemas import ConfigurationError

from ._config_types import GROUP

PREFIX = "jsnats-driver-"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_CLASS = re.compile(r"[A-Z][A-Za-z0-9]{0,29}")
_TAKEN = frozenset({"AsyncGenerator", "Driver", "False", "Generator", "None", "True"})
_STANDALONE = ("standalone.toml.tmpl", ".gitignore.tmpl")


@dataclass(frozen=True)
class NewDriver:
    """The names of a driver to be: `name` is the device in kebab-case, `cls` its class in PascalCase.

    `standalone` is for a repository of its own: the package goes under `src`, and test tools, settings and a .gitignore
    come with it. Raises ConfigurationError for a name that cannot be a package, or a class that cannot be one in it.
    """

    name: str
    cls: str
    standalone: bool = False

    def __post_init__(self) -> None:
        if self.name.startswith(PREFIX):
            raise ConfigurationError(f"{self.name!r}: leave out {PREFIX!r}, it is added")
        if not _NAME.fullmatch(self.name) or len(self.name) > 30:
            raise ConfigurationError(
                f"{self.name!r} is not a driver name: use a-z 0-9 and single dashes, up to 30, like my-device"
            )
        if not _CLASS.fullmatch(self.cls) or self.cls in _TAKEN:
            raise ConfigurationError(
                f"{self.cls!r} is not a class name for a driver: use PascalCase up to 30, like MyDevice"
            )

    @property
    def dist(self) -> str:
        """The distribution: jsnats-driver-my-device."""
        return PREFIX + self.name

    @property
    def module(self) -> str:
        """The package: jsnats_driver_my_device."""
        return self.dist.replace("-", "_")

    @property
    def package(self) -> str:
        """Where the package is in its distribution: jsnats_driver_my_device, under src if it is standalone."""
        return f"src/{self.module}" if self.standalone else self.module

    @property
    def values(self) -> dict[str, str]:
        """What the templates may name."""
        return {
            "dist": self.dist,
            "module": self.module,
            "package": self.package,
            "up": str(self.package.count("/") + 1),
            "cls": self.cls,
            "title": self.name.replace("-", " "),
            "node": self.name.replace("-", "_"),
            "core": ".".join(metadata.version("jsnats").split(".")[:2]),
        }


def create_driver(driver: NewDriver, folder: Path) -> Path:
    """Write the package into `folder` and return its path; all of it appears, or nothing.

    Raises ConfigurationError if the folder is missing, not writable, or has such a package already, and for a class
    that an installed package offers: a file could then name neither.
    """
    for point in metadata.entry_points(group=GROUP):
        if point.name == driver.cls and point.dist and point.dist.name != driver.dist:
            raise ConfigurationError(f"{driver.cls!r} is a driver of {point.dist.name}: choose another class name")
    target = folder / driver.dist
    if target.exists():
        raise ConfigurationError(f"{target} exists: choose another name, or remove it first")
    if not folder.is_dir():
        raise ConfigurationError(f"no folder {folder}: make it, or name another with --dir")
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as scratch:
            staged = Path(scratch) / driver.dist
            for path, text in _files(driver):
                (staged / path).parent.mkdir(parents=True, exist_ok=True)
                (staged / path).write_text(text, encoding="utf-8")
            os.rename(staged, target)
    except OSError as error:
        raise ConfigurationError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _files(driver: NewDriver) -> Iterator[tuple[Path, str]]:
    """Yield each file of the package: its path in it and its text."""
    root = resources.files("jsnats.agent") / "_templates" / "driver"
    for path, source in _walk(root):
        if path.name in _STANDALONE:
            continue
        text = _fill(source, driver)
        if driver.standalone and path.name == "pyproject.toml.tmpl":
            text += _fill(root / _STANDALONE[0], driver)
        yield _result(path, driver), text
    if driver.standalone:
        yield Path(".gitignore"), _fill(root / _STANDALONE[1], driver)


def _walk(folder: Traversable, under: Path = Path()) -> Iterator[tuple[Path, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.is_dir():
            yield from _walk(entry, under / entry.name)
        elif entry.name.endswith(".tmpl"):
            yield under / entry.name, entry


def _result(path: Path, driver: NewDriver) -> Path:
    parts = [driver.package if part == "module" else part for part in path.with_suffix("").parts]
    return Path(*parts)


def _fill(source: Traversable, driver: NewDriver) -> str:
    return Template(source.read_text(encoding="utf-8")).substitute(driver.values)
