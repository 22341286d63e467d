"""net-snmp's own `snmpd` as a PDU, for tests: outlets that switch, and outlets that do not."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SNMPD = shutil.which("snmpd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

COLUMN = "1.3.6.1.4.1.99999.1"
GOOD, READ_ONLY, TEXT, STUCK, PICKY, ODD, APC = range(1, 8)
"""Outlets in that column; APC is off at 2."""

_CONFIG = f"""
rwcommunity private
rwcommunity6 private
createUser open
createUser md5 MD5 authauth DES privpriv
createUser sha SHA authauth AES privpriv
createUser sha224 SHA-224 authauth AES privpriv
createUser sha256 SHA-256 authauth AES privpriv
createUser sha384 SHA-384 authauth AES privpriv
createUser sha512 SHA-512 authauth AES privpriv
createUser guest SHA authauth
rwuser open noauth
rwuser md5 priv
rwuser sha auth
rwuser sha224 priv
rwuser sha256 priv
rwuser sha384 priv
rwuser sha512 priv
rouser guest auth
override -rw {COLUMN}.{GOOD} integer 0
override {COLUMN}.{READ_ONLY} integer 0
override -rw {COLUMN}.{TEXT} octet_str "on"
override -rw {COLUMN}.{ODD} integer 7
override -rw {COLUMN}.{APC} integer 2
"""

# Run anew with -g OID to read and with -s OID TYPE VALUE to write; snmpd keeps what was read for 30 s.
_SCRIPTS = {
    STUCK: "echo $2; echo integer; echo 0",
    PICKY: "[ $1 = -s ] && { echo wrong-value; exit; }; echo $2; echo integer; echo 0",
}


def free_port() -> int:
    """Return a UDP port that nobody has."""
    with socket.socket(type=socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def snmpd(folder: Path, port: int) -> Iterator[None]:
    """Run snmpd on loopback, IPv4 and IPv6; what it keeps is in the folder."""
    config = folder / "snmpd.conf"
    config.write_text(_CONFIG + "".join(_scripted(folder, *each) for each in _SCRIPTS.items()))
    command = [str(SNMPD), "-f", "-Lo", "-C", "-r", "-c", str(config), f"udp:127.0.0.1:{port}", f"udp6:[::1]:{port}"]
    environment = os.environ | {"SNMP_PERSISTENT_DIR": str(folder), "MIBS": ""}
    options: dict[str, Any] = {"cwd": folder, "env": environment, "text": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as process:
        try:
            said = []
            for line in process.stdout or ():
                said.append(line)
                if line.startswith("NET-SNMP version"):
                    break
            else:
                raise RuntimeError("snmpd did not start: " + "".join(said))
            yield
        finally:
            process.kill()


def _scripted(folder: Path, outlet: int, script: str) -> str:
    path = folder / f"outlet{outlet}.sh"
    path.write_text(script)
    return f"pass {COLUMN}.{outlet} /bin/sh {path}\n"
