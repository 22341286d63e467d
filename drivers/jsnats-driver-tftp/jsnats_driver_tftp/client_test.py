import json
import os
import shutil
import socket
import subprocess
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jsnats.client import DriverClient
from jsnats.common.exceptions import DriverOSError
from jsnats.common.utils import serve
from jsnats_driver_tftp.client import TftpServerClient
from jsnats_driver_tftp.driver import Tftp

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The exporter's cache, empty at first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def image(tmp_path):
    """A file of the user's machine, and what is in it."""
    path, data = tmp_path / "image.bin", os.urandom(300_000)
    path.write_bytes(data)
    return path, data


def server(tmp_path: Any) -> Tftp:
    """A driver on loopback."""
    return Tftp(root_dir=str(tmp_path / "root"), host="127.0.0.1", port=0)


def run(client: DriverClient, *words: str) -> Result:
    """Invoke the client's commands."""
    return CliRunner().invoke(client.cli(), words)


def fetched(url: str, *options: str) -> bytes:
    """What the server gives."""
    return subprocess.run(["curl", "-sS", *options, url], capture_output=True, check=True, timeout=50).stdout


def test_a_file_is_put_and_fetched_and_gone_with_the_lease(tmp_path, image):
    """put_file starts the server, and its URL works; at the end nothing listens and nothing is left."""
    path, data = image
    with serve(server(tmp_path)) as client:
        assert isinstance(client, TftpServerClient)
        url = client.put_file("boot/image.bin", path)
        assert url == f"tftp://{client.get_host()}:{client.get_port()}/boot/image.bin"
        assert fetched(url, "--tftp-blksize", "1468") == data
        client.stop()
        with pytest.raises(ConnectionError, match="start it first"):
            client.get_url()
        assert fetched(f"{client.start()}boot/image.bin") == data
        port = client.get_port()
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", port))
    assert not list((tmp_path / "root").iterdir())


def test_a_path_out_of_the_root(tmp_path, image):
    """Nothing is put there."""
    with serve(server(tmp_path)) as client, pytest.raises(DriverOSError, match="not a path below the root"):
        client.put_file("../other.bin", image[0])
    assert not (tmp_path / "other.bin").exists()


def test_commands(tmp_path, image):
    """`put` prints the URL, `url` as JSON too; those of the storage are there."""
    path, data = image
    with serve(server(tmp_path)) as client:
        put = run(client, "put", str(path))
        assert fetched(put.stdout.strip()) == data
        told = json.loads(run(client, "url", "image.bin", "--json").stdout)
        assert told == {"url": put.stdout.strip(), "host": "127.0.0.1", "port": client.get_port()}
        assert run(client, "list").stdout == "image.bin\n"
        assert run(client, "stop").exit_code == 0
        assert isinstance(run(client, "url").exception, ConnectionError)
