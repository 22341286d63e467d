import json
import os
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import click
import pytest
from click.testing import CliRunner, Result

from jsnats.client import DriverClient
from jsnats.common.exceptions import DriverConnectionError, DriverOSError
from jsnats.common.utils import serve
from jsnats_driver_http.client import HttpServerClient
from jsnats_driver_http.driver import HttpServer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The exporter's cache, empty at first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def image(tmp_path):
    """A file of the user's machine, and what is in it."""
    path, data = tmp_path / "image.bin", os.urandom(3_000_000)
    path.write_bytes(data)
    return path, data


def server(tmp_path: Any, **more: Any) -> HttpServer:
    """A driver on loopback."""
    return HttpServer(root_dir=str(tmp_path / "root"), host="127.0.0.1", port=0, **more)


def run(client: DriverClient, *words: str) -> Result:
    """Invoke the client's commands."""
    return CliRunner().invoke(client.cli(), words)


def fetched(url: str) -> bytes:
    """What the server gives."""
    with urlopen(url, timeout=30) as answer:
        return bytes(answer.read())


def test_a_file_is_put_and_fetched_and_gone_with_the_lease(tmp_path, image):
    """put_file starts the server, and its URL works; at the end nothing listens and nothing is left."""
    path, data = image
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "mine").write_bytes(b"kept")
    with serve(server(tmp_path)) as client:
        assert isinstance(client, HttpServerClient)
        url = client.put_file("boot/image.bin", path)
        assert url == f"http://127.0.0.1:{client.get_port()}/boot/image.bin"
        assert client.get_host() == "127.0.0.1"
        assert fetched(url) == data
        assert sorted(client.storage.scan()) == ["boot/", "boot/image.bin", "mine"]
    with pytest.raises(URLError):
        fetched(url)
    assert [each.name for each in (tmp_path / "root").iterdir()] == ["mine"]


def test_files_may_stay(tmp_path, image):
    """With remove_created_on_close off."""
    with serve(server(tmp_path, remove_created_on_close=False)) as client:
        client.put_file("image.bin", image[0])
    assert (tmp_path / "root" / "image.bin").read_bytes() == image[1]


def test_it_is_started_and_stopped(tmp_path):
    """By the client, as often as it likes; without it there is no URL."""
    with serve(server(tmp_path)) as client:
        with pytest.raises(ConnectionError, match="start it first"):
            client.get_url()
        url = client.start()
        assert client.start() == url == client.get_url()
        client.storage.write_bytes("a", b"data")
        assert fetched(f"{url}a") == b"data"
        client.stop()
        client.stop()
        with pytest.raises(DriverConnectionError):
            client.get_port()


def test_what_cannot_be_put(tmp_path, image):
    """A path out of the root, and a file that is not there; nothing is started for it."""
    with serve(server(tmp_path)) as client:
        with pytest.raises(DriverOSError, match="not a path below the root"):
            client.put_file("../image.bin", image[0])
        with pytest.raises(OSError, match="nothing"):
            client.put_file("image.bin", tmp_path / "nothing")
        with pytest.raises(ConnectionError):
            client.get_url()


def test_commands(tmp_path, image):
    """`put` prints the URL, `url` as JSON too; those of the storage are there."""
    path, data = image
    with serve(server(tmp_path)) as client:
        assert isinstance(run(client, "url").exception, ConnectionError)
        put = run(client, "put", str(path))
        assert "served 3.0 MB" in put.stderr
        assert fetched(put.stdout.strip()) == data
        assert run(client, "url", "image.bin").stdout == put.stdout
        told = json.loads(run(client, "url", "--json").stdout)
        assert told == {"url": client.get_url(), "host": "127.0.0.1", "port": client.get_port()}
        assert run(client, "list").stdout == "image.bin\n"
        assert run(client, "put", str(path), "dir/other").stdout.endswith("/dir/other\n")
        assert run(client, "start").stdout.strip() == told["url"]
        assert run(client, "stop").exit_code == 0
        assert run(client, "put", "https://images.example.com/").exit_code == click.UsageError.exit_code
