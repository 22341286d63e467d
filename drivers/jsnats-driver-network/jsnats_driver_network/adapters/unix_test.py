from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jsnats.common.exceptions import ConfigurationError
from jsnats.common.utils import serve
from jsnats_driver_network.adapters import UnixPortforwardAdapter
from jsnats_driver_network.driver import EchoNetwork
from jsnats_driver_network.testing import read_all


@contextmanager
def unix_connection(path: str) -> Iterator[socket.socket]:
    """A connection to the socket at `path`."""
    with socket.socket(socket.AF_UNIX) as local:
        local.connect(path)
        yield local


def test_a_socket_of_this_user_alone() -> None:
    """By default in a directory that nobody else may enter, and gone at the end."""
    with serve(EchoNetwork()) as client:
        with UnixPortforwardAdapter(client=client) as path:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            assert stat.S_IMODE(os.stat(Path(path).parent).st_mode) == 0o700
            with unix_connection(path) as local:
                local.sendall(b"x" * 1000)
                local.shutdown(socket.SHUT_WR)
                assert read_all(local) == b"x" * 1000
        assert not Path(path).parent.exists()


def test_a_socket_at_a_place(tmp_path: Path) -> None:
    """A path is taken as it is, and only the socket is removed."""
    with serve(EchoNetwork()) as client:
        with UnixPortforwardAdapter(client=client, path=tmp_path / "board") as path:
            assert path == str(tmp_path / "board")
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert list(tmp_path.iterdir()) == []


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """What a killed process left behind is in nobody's way."""
    stale = str(tmp_path / "board")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(stale)
    with serve(EchoNetwork()) as client, UnixPortforwardAdapter(client, stale) as path, unix_connection(path) as local:
        local.sendall(b"x")
        assert local.recv(1) == b"x"


def test_a_socket_that_somebody_listens_at_is_left_alone(tmp_path: Path) -> None:
    """The error says so, and the other process goes on."""
    with serve(EchoNetwork()) as client, UnixPortforwardAdapter(client, tmp_path / "board") as path:
        with pytest.raises(ConfigurationError, match=f"cannot listen on {path}: somebody else does"):
            UnixPortforwardAdapter(client=client, path=path).__enter__()
        with unix_connection(path) as local:
            local.sendall(b"x")
            assert local.recv(1) == b"x"


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    """Nor is a place taken that does not exist or is too long."""
    (tmp_path / "notes").write_text("mine")
    with serve(EchoNetwork()) as client:
        for name, why in (("notes", "it is there and is no socket"), ("a/b", "no such file"), ("x" * 120, "too long")):
            with pytest.raises(ConfigurationError, match=f"cannot listen on {tmp_path}/{name}: .*{why}"):
                UnixPortforwardAdapter(client=client, path=tmp_path / name).__enter__()
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_socket_of_somebody_else_is_not_removed(tmp_path: Path) -> None:
    """If another one took the place meanwhile, it stays."""
    path = tmp_path / "board"
    with (
        serve(EchoNetwork()) as client,
        UnixPortforwardAdapter(client=client, path=path),
        socket.socket(socket.AF_UNIX) as other,
    ):
        path.unlink()
        other.bind(str(path))
    assert path.is_socket()
