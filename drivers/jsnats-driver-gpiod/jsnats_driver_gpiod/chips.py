"""Find a GPIO chip and a line on it; what is not there is told with what is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import gpiod

SHOWN: Final = 12
"""How many names of lines a message lists."""


def chip_paths() -> list[str]:
    """The chips of this host, in the kernel's order."""
    return sorted((str(path) for path in Path("/dev").glob("gpiochip*")), key=_number)


def _number(path: str) -> int:
    digits = re.search(r"\d+$", path)
    return int(digits.group()) if digits else -1


def open_chip(device: str) -> gpiod.Chip:
    """Open the chip with this path, name or label. The caller closes it.

    Raises FileNotFoundError, PermissionError, ValueError for a label that several have, OSError for what is no chip.
    """
    path = device if "/" in device else _find(device)
    try:
        return gpiod.Chip(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {path}: {_what_is_there()}") from None
    except PermissionError:
        raise PermissionError(_not_allowed(path)) from None
    except OSError as error:
        raise OSError(f"{path} is no GPIO chip: {error.strerror}") from error


def line_offset(chip: gpiod.Chip, line: int | str) -> int:
    """Number of a line, given by its number or name. Raises ValueError for none."""
    with suppress(ValueError, FileNotFoundError):
        return chip.line_offset_from_id(line)
    info = chip.get_info()
    names = [name for number in range(info.num_lines) if (name := chip.get_line_info(number).name)]
    more = ", ..." if len(names) > SHOWN else ""
    named = f"names {', '.join(names[:SHOWN])}{more}" if names else "none has a name"
    raise ValueError(f"{info.name} ({info.label}) has no line {line!r}: numbers 0 to {info.num_lines - 1}, {named}")


def _find(device: str) -> str:
    found = [path for path, *called in _chips() if device in called]
    if len(found) > 1:
        raise ValueError(f"{' and '.join(found)} are both called {device!r}: give the path, or one that udev makes")
    if found:
        return found[0]
    if closed := [path for path, *called in _chips() if not called]:
        raise PermissionError(_not_allowed(" ".join(closed)))
    raise FileNotFoundError(f"no GPIO chip is called {device!r}: {_what_is_there()}")


def _chips() -> Iterator[tuple[str, ...]]:
    """Path, name and label of each chip; the path alone of one that may not be opened."""
    for path in chip_paths():
        try:
            with gpiod.Chip(path) as chip:
                yield path, chip.get_info().name, chip.get_info().label
        except PermissionError:
            yield (path,)
        except OSError:
            continue  # it was unplugged meanwhile


def _what_is_there() -> str:
    chips = [f"{path} ({called[1]})" if called else path for path, *called in _chips()]
    return f"this host has {', '.join(chips)}" if chips else "this host has no GPIO chip"


def _not_allowed(path: str) -> str:
    return f"{path} may not be opened: put the agent's user into the group that owns it, often gpio"
