"""`jsnats blob`, run as a command."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jsnats.broker.testing import TestBroker, running_broker
from jsnats.schemas import chunk_subject
from jsnats.sdk import connect_async

SHA_OF_HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A lab with two users and a viewer."""
    with running_broker(principals={"user": ["alice", "bob"], "viewer": ["vic"]}) as running:
        yield running


@pytest.fixture
def blob(broker: TestBroker, tmp_path: Path) -> Any:
    """Runs `jsnats blob` in a folder of its own; returns exit code, output, errors."""

    def run(*words: str, user: str = "alice", **options: Any) -> tuple[int, bytes, str]:
        environment = os.environ | {"JSNATS_CONTEXT": str(broker.context_path(user)), "COLUMNS": "200"}
        command = [str(Path(sys.executable).with_name("jsnats")), "blob", *words]
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, check=False, **options)
        return done.returncode, done.stdout, done.stderr.decode()

    return run


def test_there_and_back(blob: Any, tmp_path: Path) -> None:
    """A file is uploaded, listed, downloaded, removed; then it is not there any more."""
    (tmp_path / "hello.txt").write_bytes(b"hello")
    assert blob("put", "hello.txt") == (0, f"{SHA_OF_HELLO}  hello.txt\n".encode(), "")
    code, out, _ = blob("ls")
    assert code == 0
    assert SHA_OF_HELLO in out.decode()
    assert "5 B" in out.decode()
    assert blob("ls", user="bob") == (0, b"", "you have no file in this lab: `jsnats blob put FILE` stores one\n")
    assert blob("get", SHA_OF_HELLO, "copy") == (0, b"", "")
    assert (tmp_path / "copy").read_bytes() == b"hello"
    assert blob("rm", SHA_OF_HELLO, user="bob")[0] == 1
    assert blob("rm", f"blob:{SHA_OF_HELLO}") == (0, b"", "")
    code, _, text = blob("get", SHA_OF_HELLO, "copy")
    assert (code, text) == (1, f"error: the lab has no file {SHA_OF_HELLO[:12]}, or not any more: upload it again\n")


def test_json(blob: Any, tmp_path: Path) -> None:
    """Each command prints what it did as JSON."""
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode())
    code, out, _ = blob("put", "one", "two", "--json")
    put = json.loads(out)
    assert (code, [each["name"] for each in put], [each["sent"] for each in put]) == (0, ["one", "two"], [3, 3])
    assert [each["sent"] for each in json.loads(blob("put", "one", "two", "--json")[1])] == [0, 0]
    shas = [each["sha256"] for each in put]
    assert shas == [hashlib.sha256(name).hexdigest() for name in (b"one", b"two")]
    listed = json.loads(blob("ls", "--json")[1])
    assert {each["sha256"] for each in listed} == set(shas)
    assert set(listed[0]) == {"sha256", "size", "name", "owner", "created", "handle", "used"}
    assert json.loads(blob("get", shas[0], "copy", "--json")[1])["handle"] == f"blob:{shas[0]}"
    assert json.loads(blob("rm", *shas, "--json")[1]) == {"removed": shas}
    assert json.loads(blob("ls", "--json")[1]) == []


def test_pipes(blob: Any) -> None:
    """Standard input is uploaded, standard output written to."""
    code, out, _ = blob("put", "-", "--name", "piped", input=b"\x00piped\xff")
    sha256 = hashlib.sha256(b"\x00piped\xff").hexdigest()
    assert (code, out) == (0, f"{sha256}  piped\n".encode())
    assert blob("get", sha256, "-") == (0, b"\x00piped\xff", "")


async def test_a_damaged_file_can_be_uploaded_again(blob: Any, broker: TestBroker, tmp_path: Path) -> None:
    """`get` tells the store what it found: then `put` sends the file, instead of finding it there."""
    data = b"right"
    (tmp_path / "image").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    async with connect_async(context=broker.context("bob")) as lab:
        await lab.connection.request(chunk_subject(sha256, 0), b"wrong")
    assert blob("put", "image")[0] == 0
    code, _, text = blob("get", sha256, "copy")
    assert (code, "is something else: upload it again" in text, (tmp_path / "copy").exists()) == (1, True, False)
    assert [each["sent"] for each in json.loads(blob("put", "image", "--json")[1])] == [len(data)]
    assert blob("get", sha256, "copy")[0] == 0
    assert (tmp_path / "copy").read_bytes() == data


@pytest.mark.parametrize(
    ("words", "user", "code", "text"),
    [
        (["put", "missing.img"], "alice", 2, "missing.img: No such file or directory"),
        (["put", "."], "alice", 2, "is a directory"),
        (["get", SHA_OF_HELLO[:12], "x"], "alice", 2, "64 hex digits"),
        (["rm", "*"], "alice", 2, "64 hex digits"),
        (["get", SHA_OF_HELLO, "-", "--json"], "alice", 2, "standard output cannot have the file and JSON"),
        (["get", "0" * 64, "x"], "alice", 1, "the lab has no file"),
        (["put", "/etc/hostname"], "vic", 4, "no permission"),
        (["put"], "alice", 2, "FILE..."),
    ],
)
def test_errors(blob: Any, words: list[str], user: str, code: int, text: str) -> None:
    """What goes wrong is one line with its exit code."""
    got, out, errors = blob(*words, user=user)
    assert (got, out) == (code, b"")
    assert text in errors
    assert errors.count("\n") == 1


def test_a_terminal_sees_a_bar(broker: TestBroker, tmp_path: Path) -> None:
    """On a terminal an upload shows a bar with the name of the file."""
    (tmp_path / "image[1].bin").write_bytes(os.urandom(3_000_000))
    environment = os.environ | {"JSNATS_CONTEXT": str(broker.context_path("alice")), "TERM": "xterm", "COLUMNS": "120"}
    command = [str(Path(sys.executable).with_name("jsnats")), "blob", "put", "image[1].bin"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the end of a terminal nobody writes to any more
                break
        assert process.stdout
        assert b"image[1].bin" in process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    assert b"image[1].bin" in shown
    assert b"3.0/3.0 MB" in shown
