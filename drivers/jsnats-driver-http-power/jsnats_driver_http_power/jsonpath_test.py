import pytest

from .jsonpath import find, parse

DOCUMENT = {"switch:0": {"output": True}, "relays": [{"ison": False}], "a.b": {"c d": 1}, "one": {"POWER": "ON"}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("switch:0.output", True),
        ("$.relays[0].ison", False),
        ("['a.b'].c d", 1),
        ('$["a.b"]["c d"]', 1),
        ("one.*", "ON"),
        ("", DOCUMENT),
        ("$", DOCUMENT),
    ],
)
def test_a_path_finds_its_value(path: str, value: object) -> None:
    """Names, indexes, quoted names, the only member, the whole."""
    assert find(DOCUMENT, path) == value


@pytest.mark.parametrize("path", ["a..b", "a[", "a[x]", ".a", "a.", "a['b", "[]"])
def test_what_is_no_path_is_refused(path: str) -> None:
    """When the configuration is loaded, not when the device has answered."""
    with pytest.raises(ValueError, match="is no JSON path"):
        parse(path)


@pytest.mark.parametrize("path", ["none", "relays[1]", "relays.ison", "one[0]", "*", "one.POWER.more"])
def test_a_value_that_is_not_there_is_a_lookup_error(path: str) -> None:
    """A wrong name, index or shape, and `*` where there are several."""
    with pytest.raises(LookupError):
        find(DOCUMENT, path)
