"""For tests: keys, and an agent whose board is named by the environment."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from jsnats_driver_network.driver import TcpNetwork

from .driver import SSHWrapper


def new_key() -> str:
    """Return a private key that nothing knows."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def from_environment() -> SSHWrapper:
    """The driver of a board at JSNATS_TEST_SSH_PORT, with the key in the file JSNATS_TEST_SSH_KEY."""
    tcp = TcpNetwork(host="127.0.0.1", port=int(os.environ["JSNATS_TEST_SSH_PORT"]))
    key = os.environ["JSNATS_TEST_SSH_KEY"]
    return SSHWrapper(ssh_identity_file=key, children={"tcp": tcp})  # type: ignore[arg-type]  # pydantic's to convert
