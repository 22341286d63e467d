"""Which distribution a client installs to get a class."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def _by_module() -> dict[str, str]:
    """Top-level module to distribution. Entry points go over files: an editable install lists no files."""
    modules = {module: names[0] for module, names in metadata.packages_distributions().items()}
    for point in metadata.entry_points(group="jsnats.drivers"):
        if point.dist is not None:
            modules[point.module.partition(".")[0]] = point.dist.name
    return modules


def package_of(dotted: str) -> str:
    """Return the distribution that provides the top-level module of a dotted path, "" if none is known."""
    return _by_module().get(dotted.partition(".")[0], "")
