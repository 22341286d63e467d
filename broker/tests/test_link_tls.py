"""A link that is encrypted: real nats-servers, and certificates of openssl."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from jsnats.broker import LabDir
from jsnats.broker.testing import TEST_STORE, OutsideServer, free_port, outside_lab
from jsnats.schemas import ConfigurationError
from jsnats.testing import until

JOINED = 'JetStream using domains: local "hub", remote "berlin"'
"""Is said by a hub when a site was let in."""

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """A certificate of 127.0.0.1 that vouches for itself, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    files = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*make.split(), *files], check=True, capture_output=True)
    return str(cert), str(key)


def encrypted_hub(folder: Path) -> tuple[LabDir, str]:
    """A hub with a certificate, and that."""
    cert, key = certificate(folder, "hub")
    return outside_lab(folder / "hub", leafnodes=free_port(), leafnodes_cert=cert, leafnodes_key=key), cert


def site_of(hub: LabDir, folder: Path, ca: str) -> LabDir:
    """A site that trusts `ca`."""
    site = outside_lab(folder / "site")
    outside = site.outside()
    assert outside
    site.configure_outside(replace(outside, leaf_ca=ca), TEST_STORE, hub.add_site("berlin"))
    return site


@contextmanager
def log_of(lab: LabDir, log: Path) -> Iterator[Path]:
    """The log of the running server of a lab."""
    log.touch()
    server = OutsideServer(lab, log=log)
    server.start()
    try:
        yield log
    finally:
        server.kill()
        print(log.read_text())  # for the report of a failing test


def shown(port: int) -> str:
    """The certificate that a server shows there, after its greeting in clear."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port)) as plain:
        assert b"tls_required" in plain.recv(65536)
        with context.wrap_socket(plain) as encrypted:
            found = encrypted.getpeercert(binary_form=True)
    assert found
    return ssl.DER_cert_to_PEM_cert(found)


@needs_openssl
def test_a_link_is_encrypted(tmp_path: Path) -> None:
    """The hub says that it must be, and the site connects to a hub that it trusts. Both take new principals meanwhile,
    which reloads their configuration, and the hub a new certificate."""
    hub, cert = encrypted_hub(tmp_path)
    site = site_of(hub, tmp_path, cert)
    with log_of(hub, tmp_path / "hub.log") as at_hub, log_of(site, tmp_path / "site.log"):
        until(lambda: JOINED in at_hub.read_text(), 30)
        outside = hub.outside()
        assert outside
        assert Path(cert).read_text() == shown(outside.leafnodes)
        assert site.add("user", "bob")
        assert hub.add("user", "ann", site="berlin")
        for old, new in zip((cert, outside.leafnodes_key), certificate(tmp_path, "new"), strict=True):
            shutil.move(new, old)
        hub.reload_outside()
        assert Path(cert).read_text() == shown(outside.leafnodes)


@needs_openssl
def test_a_site_trusts_no_other_hub(tmp_path: Path) -> None:
    """One with a certificate that nobody vouches for, and one without any at the address of one that had one."""
    hub, _ = encrypted_hub(tmp_path)
    site = site_of(hub, tmp_path, certificate(tmp_path, "other")[0])
    with log_of(hub, tmp_path / "hub.log") as at_hub, log_of(site, tmp_path / "site.log") as at_site:
        until(lambda: "x509: certificate signed by unknown authority" in at_site.read_text(), 30)
        assert JOINED not in at_hub.read_text()
    outside = hub.outside()
    assert outside
    hub.configure_outside(replace(outside, leafnodes_cert="", leafnodes_key=""), TEST_STORE)
    with log_of(hub, tmp_path / "plain.log") as at_hub, log_of(site, tmp_path / "refused.log") as at_site:
        until(lambda: "TLS Handshake Failure" in at_site.read_text(), 30)
        assert JOINED not in at_hub.read_text()


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """With a line that says why; and nothing is written."""
    lab = outside_lab(tmp_path)
    outside = lab.outside()
    assert outside
    before = json.loads((lab.path / "outside.json").read_text())
    for more in ({"leafnodes_cert": "/a"}, {"leafnodes_key": "/b"}, {"leafnodes_cert": "/a", "leafnodes_key": "/b"}):
        with pytest.raises(ConfigurationError, match="go together, with the port of --leafnodes"):
            lab.configure_outside(replace(outside, **more), TEST_STORE)
    with pytest.raises(ConfigurationError, match="a site whose hub has a certificate"):
        lab.configure_outside(replace(outside, leaf_ca="/c"), TEST_STORE)
    assert json.loads((lab.path / "outside.json").read_text()) == before
