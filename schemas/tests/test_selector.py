"""Selectors over labels."""

from __future__ import annotations

import pytest

from jsnats.schemas import ConfigurationError, Selector

LABELS = {"board": "rpi4", "site": "desk", "usb": ""}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("board=rpi4", True),
        ("board==rpi4", True),
        ("board = rpi4 , site = desk", True),
        ("board=rpi3", False),
        ("board=rpi4,site=rack", False),
        ("board!=rpi3", True),
        ("board!=rpi4", False),
        ("colour!=red", True),
        ("colour=red", False),
        ("usb=", True),
        ("usb", True),
        ("colour", False),
        ("!colour", True),
        ("!usb", False),
        ("site in (rack, desk)", True),
        ("site in (rack,shelf),board=rpi4", False),
        ("site notin (rack, shelf)", True),
        ("site notin (desk)", False),
        ("colour notin (red)", True),
    ],
)
def test_matches(text: str, matches: bool) -> None:
    """Equality, sets and presence mean what they mean in Kubernetes; all terms must hold."""
    assert Selector.parse(text).matches(LABELS) == matches


@pytest.mark.parametrize("text", ["board=rpi4,", "a b", "site in ()", "site in desk", "=x", "a=b=c", "in (a)"])
def test_faults(text: str) -> None:
    """What is no selector is refused, with the ways to write one."""
    with pytest.raises(ConfigurationError, match="key in \\(a, b\\)"):
        Selector.parse(text)
