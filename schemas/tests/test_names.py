from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from jsnats.schemas import (
    VISITOR,
    InvalidName,
    check_name,
    escape_user,
    is_user_token,
    is_visitor,
    unescape_user,
    with_names,
)

ESCAPED = [
    ("ann", "ann"),
    ("CI_7-b", "CI_7-b"),
    ("alice@corp.example", "alice=40corp=2Eexample"),
    ("a=b", "a=3Db"),
    ("=40", "=3D40"),
    ("zoë", "zo=C3=AB"),
    ("a b", "a=20b"),
    (">", "=3E"),
    ("*", "=2A"),
    ("lab.", "lab=2E"),
    ("LAB", "LAB"),
]


@pytest.mark.parametrize("name", ["a", "bench-1", "A_b-9", "x" * 63])
def test_good_name(name: str) -> None:
    """1 to 63 of A-Z a-z 0-9 _ - is a name and comes back unchanged."""
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "a.b", "a b", "*", ">", "é", "x" * 64, "a\n", "=40", "$SRV", "lab", None, 5])
def test_bad_name(name: object) -> None:
    """Anything that is not one plain token, or is reserved, is refused with the kind of name and the value."""
    with pytest.raises(InvalidName) as caught:
        check_name(name, "node name")  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"node name {name!r} is ")


@pytest.mark.parametrize(("name", "token"), ESCAPED)
def test_escape(name: str, token: str) -> None:
    """Each byte of a user name outside the alphabet becomes =XX in upper-case hex, and comes back."""
    assert escape_user(name) == token
    assert unescape_user(token) == name


def test_users_by_name() -> None:
    """In fields for people, users are names; what else looks like a token stays."""
    fields = {"holder": "ann=40hub", "co_holders": ["bob=2E"], "by": "", "end": 1.5, "note": "a=40b", "to": None}
    assert with_names(fields) == fields | {"holder": "ann@hub", "co_holders": ["bob."]}


def test_a_visitor_is_known_by_his_token() -> None:
    """Who comes to a site by its hub, and nobody else."""
    assert is_visitor(escape_user("ann" + VISITOR))
    assert not any(is_visitor(escape_user(name)) for name in ("ann", "hub", "ann@corp", "=40hub", "ann@hub.example"))


@pytest.mark.parametrize("name", ["", "lab", "x" * 127, "é" * 64])
def test_user_name_that_cannot_be(name: str) -> None:
    """An empty, reserved or too long user name is refused."""
    with pytest.raises(InvalidName, match="user name"):
        escape_user(name)


@given(st.text(min_size=1, max_size=20).filter(lambda name: name != "lab"))
def test_escape_round_trip(name: str) -> None:
    """Every user name becomes one token of a subject and comes back unchanged."""
    token = escape_user(name)
    assert is_user_token(token)
    assert not set(token) & set(". *>\r\n")
    assert unescape_user(token) == name


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_escape_is_injective(one: str, other: str) -> None:
    """Two users never share a token, or one could act as the other."""
    if one != other and "lab" not in (one, other):
        assert escape_user(one) != escape_user(other)


@pytest.mark.parametrize("token", ["", "a.b", "=4", "=4g", "=ab", "a b", "*", ">", "a\n", "x" * 127])
def test_no_user_token(token: str) -> None:
    """What escape_user can never make does not stand for a user."""
    assert not is_user_token(token)
