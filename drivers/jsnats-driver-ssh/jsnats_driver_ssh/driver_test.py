import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from anyio import EndOfStream
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from pydantic import ValidationError

import jsnats_driver_ssh
from jsnats.agent import load
from jsnats.common.exceptions import ConfigurationError
from jsnats_driver_network.driver import TcpNetwork
from jsnats_driver_ssh.driver import SSHWrapper
from jsnats_driver_ssh.identity import Identity
from jsnats_driver_ssh.signing import SigningStream, answer
from jsnats_driver_ssh.testing import new_key
from jsnats_driver_ssh.wire import Reader, mpint, string

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIsbbLIg2RSSfWAJS3xjmYq1uzsRcUhCFMmyvV4h5V6O"
FAILED = b"\x05"


def wrapper(**config: Any) -> SSHWrapper:
    """A driver whose device is nowhere."""
    return SSHWrapper(children={"tcp": TcpNetwork(host="192.0.2.10", port=22)}, **config)


def text(key: Any, form: PrivateFormat = PrivateFormat.OpenSSH, encryption: Any = None) -> str:
    """A private key as it stands in a file."""
    data: bytes = key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())
    return data.decode()


def login(service: bytes = b"ssh-connection", way: bytes = b"publickey", kind: int = 50) -> bytes:
    """What a client has signed when it logs in, as far as it is looked at."""
    return string(b"session") + bytes([kind]) + string(b"root") + string(service) + string(way) + b"\x01"


def request(identity: Identity, data: bytes, blob: bytes = b"") -> bytes:
    """The request to sign that."""
    return b"\x0d" + string(blob or identity.blob) + string(data) + struct.pack(">I", 0)


# ------------------------------------------------------------------ what is signed


def test_it_lists_the_one_key():
    """Its public half; nothing of the private one is in the answer."""
    identity, said = Identity(new_key()), list[str]()
    reader = Reader(answer(identity, b"\x0b", said.append))
    assert (reader.byte(), reader.uint32(), reader.string()) == (12, 1, identity.blob)
    assert said == []


def test_a_login_is_signed_and_told():
    """Of either way of today's clients; the log says as whom."""
    identity, said = Identity(new_key()), list[str]()
    for way in (b"publickey", b"publickey-hostbound-v00@openssh.com"):
        reader = Reader(answer(identity, request(identity, login(way=way)), said.append))
        assert reader.byte() == 14
        signature = Reader(reader.string())
        assert (signature.string(), len(signature.string())) == (b"ssh-ed25519", 64)
    assert said == ["signed a login as root"] * 2


@pytest.mark.parametrize(
    "data",
    [
        b"SSHSIG" + string(b"git") + string(b"") + string(b"sha512") + bytes(64),
        login(kind=51),
        login(service=b"ssh-userauth"),
        login(way=b"hostbased"),
        login()[:20],
        b"",
    ],
    ids=["a commit", "another message", "another service", "another way", "half of one", "nothing"],
)
def test_nothing_else_is_signed(data):
    """A key for logins is none for commits, files or certificates."""
    identity, said = Identity(new_key()), list[str]()
    assert answer(identity, request(identity, data), said.append) == FAILED
    assert said[0].startswith("signed nothing: ")


def test_only_with_the_key_that_is_here():
    """Asked for another one it fails, as an agent does."""
    one, other = Identity(new_key()), Identity(new_key())
    assert answer(one, request(one, login(), other.blob), print) == FAILED


@pytest.mark.parametrize("kind", [17, 18, 19, 22, 25, 27, 1, 255])
def test_nobody_changes_what_it_has(kind):
    """To add, remove, lock and all else is a failure; so is a request without a byte, and it goes on."""
    identity = Identity(new_key())
    assert answer(identity, bytes([kind]) + string(b"x"), print) == FAILED
    assert answer(identity, b"", print) == FAILED
    assert answer(identity, b"\x0b", print)[:1] == b"\x0c"


async def test_requests_come_in_pieces():
    """Byte by byte or two at once, each has its answer, in order; then comes the end."""
    identity = Identity(new_key())
    listed = string(answer(identity, b"\x0b", print))
    async with SigningStream(identity, print) as stream:
        for byte in string(b"\x0b"):
            await stream.send(bytes([byte]))
        assert await stream.receive(4) + await stream.receive() == listed
        await stream.send(string(b"\x0b") + string(b"\x13"))
        await stream.send_eof()
        assert await stream.receive() == listed + string(FAILED)
        with pytest.raises(EndOfStream):
            await stream.receive()


async def test_what_is_no_request_ends_the_stream():
    """A length that cannot be is not waited for."""
    async with SigningStream(Identity(new_key()), print) as stream:
        with pytest.raises(ValueError, match="not the protocol"):
            await stream.send(b"GET / HTTP/1.0\r\n\r\n")


def test_numbers_of_the_wire():
    """As in the examples of RFC 4251."""
    assert mpint(0) == bytes(4)
    assert mpint(0x9A378F9B2E332A7) == bytes.fromhex("0000000809a378f9b2e332a7")
    assert mpint(0x80) == bytes.fromhex("000000020080")


# ------------------------------------------------------------------ keys and parameters


def test_keys_of_other_formats():
    """PKCS8 and the older PEM are read too."""
    for key, form in (
        (ec.generate_private_key(ec.SECP256R1()), PrivateFormat.PKCS8),
        (rsa.generate_private_key(65537, 2048), PrivateFormat.TraditionalOpenSSL),
    ):
        assert Identity(text(key, form)).blob == Identity(text(key)).blob


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (lambda: "secret words", "whole text"),
        (lambda: new_key()[:120], "whole text"),
        (lambda: HOST_KEY, "whole text"),
        (
            lambda: text(
                ec.generate_private_key(ec.SECP256R1()), PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
            ),
            "has a passphrase",
        ),
        (lambda: text(dsa.generate_private_key(1024), PrivateFormat.PKCS8), "take ed25519"),
        (lambda: text(ec.generate_private_key(ec.SECP256K1()), PrivateFormat.PKCS8), "take ed25519"),
    ],
)
def test_what_is_no_key_is_refused_when_the_file_is_read(tmp_path, monkeypatch, bad, told):
    """One line that says what to give, and has nothing of the text in it."""
    monkeypatch.setenv("BOARD_KEY", key := bad())
    file = tmp_path / "exporter.yaml"
    file.write_text(
        "name: bench-1\nexport:\n  ssh:\n    type: SSHWrapper\n    config: {ssh_identity: '${BOARD_KEY}'}\n"
        "    children: {tcp: {type: TcpNetwork, config: {host: board, port: 22}}}\n"
    )
    with pytest.raises(ConfigurationError, match=told) as caught:
        load([file])
    assert not [line for line in key.splitlines() if line in str(caught.value)]


def test_a_key_in_a_file(tmp_path):
    """It is read when the configuration is; one that cannot be read is named."""
    (tmp_path / "key").write_text(key := new_key())
    identity = wrapper(ssh_identity_file=tmp_path / "key")._identity
    assert identity
    assert identity.public == Identity(key).public
    with pytest.raises(ValidationError, match="none: No such file"):
        wrapper(ssh_identity_file=tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ValidationError, match="binary: no text"):
        wrapper(ssh_identity_file=tmp_path / "binary")


def test_the_key_is_not_shown():
    """The repr of a driver is in logs."""
    assert "PRIVATE" not in repr(wrapper(ssh_identity=new_key()))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"default_username": "-oProxyCommand=x"}, "default_username"),
        ({"default_username": "a b"}, "default_username"),
        ({"host_key": "SHA256:abc"}, "this is no host key: give what ssh-keyscan prints behind the host"),
        ({"host_key": f"192.0.2.10 {HOST_KEY}"}, "no host key"),
        ({"host_key": HOST_KEY + "\nother ssh-rsa AAAA"}, "host_key"),
        ({"ssh_identity": "x", "ssh_identity_file": "y"}, "not both"),
        ({"ssh_command": "ssh -v"}, "ssh_command"),
    ],
)
def test_impossible_parameters_are_refused(wrong, told):
    """Nothing gets into the configuration of ssh that is not what it should be."""
    with pytest.raises(ValidationError, match=told):
        wrapper(**wrong)


def test_it_needs_a_way_to_the_device():
    """Without the child it says which one, and what it may be."""
    with pytest.raises(ValidationError, match="needs a child tcp"):
        SSHWrapper()


def test_the_example_is_a_valid_exporter(monkeypatch):
    """examples/exporter.yaml gives the driver with the parameters it says."""
    monkeypatch.setenv("BOARD_KEY", key := new_key())
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    ssh = exporter.root.children["ssh"]
    assert isinstance(ssh, SSHWrapper)
    assert (ssh.default_username, ssh.host_key) == ("root", HOST_KEY)
    assert ssh._identity
    assert ssh._identity.public == Identity(key).public
    assert isinstance(ssh.children["tcp"], TcpNetwork)


def test_the_package_offers_the_driver_lazily():
    """`from jsnats_driver_ssh import SSHWrapper` works, and a name that is not there is an AttributeError."""
    assert jsnats_driver_ssh.SSHWrapper is SSHWrapper
    with pytest.raises(AttributeError, match="has no attribute 'Telnet'"):
        _ = jsnats_driver_ssh.Telnet


def test_a_client_does_not_load_the_exporter_side():
    """Importing the package and its client loads neither the driver nor cryptography."""
    code = (
        "import sys, jsnats_driver_ssh.client as c;"
        "sys.exit(any(name in sys.modules for name in"
        " ('jsnats.driver', 'cryptography.hazmat.primitives', c.__package__ + '.driver')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
