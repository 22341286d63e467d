"""A private key: what an ssh agent says and signs with it."""

from __future__ import annotations

import base64
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurvePrivateKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from .wire import mpint, string

_RSA: Final = {2: (b"rsa-sha2-256", SHA256()), 4: (b"rsa-sha2-512", SHA512())}
"""By the flags of the request; without a flag it is SHA-1, which no server of today takes."""
_CURVES: Final = {SECP256R1.name: SHA256(), SECP384R1.name: SHA384(), SECP521R1.name: SHA512()}


class Identity:
    """`public` is its public half as `ssh-ed25519 AAAA...`, `blob` the same as it travels."""

    def __init__(self, text: str) -> None:
        """Read a private key, OpenSSH's or PEM. Raises ValueError, which never has the text in it."""
        self._key = _read(text.encode())
        self.public = self._key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        self.blob = base64.b64decode(self.public.split()[1])

    def sign(self, data: bytes, flags: int) -> bytes:
        """Return the signature as it travels. Raises ValueError for a way to sign that there is not."""
        key = self._key
        if isinstance(key, Ed25519PrivateKey):
            return string(b"ssh-ed25519") + string(key.sign(data))
        if isinstance(key, RSAPrivateKey):
            if flags not in _RSA:
                raise ValueError("a signature with SHA-1")
            name, digest = _RSA[flags]
            return string(name) + string(key.sign(data, PKCS1v15(), digest))
        numbers = decode_dss_signature(key.sign(data, ECDSA(_CURVES[key.curve.name])))
        return string(self.public.split()[0].encode()) + string(b"".join(map(mpint, numbers)))


def _read(data: bytes) -> Ed25519PrivateKey | RSAPrivateKey | EllipticCurvePrivateKey:
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else load_pem_private_key
    try:
        key = load(data, None)
    except TypeError:
        raise ValueError("the key has a passphrase: give one without, made for this device") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("no private key that can be read: give the whole text of one, from -----BEGIN on") from None
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return key
    if isinstance(key, (Ed25519PrivateKey, RSAPrivateKey)):
        return key
    raise ValueError("a key of a kind that is not known here: take ed25519, rsa or ecdsa")
