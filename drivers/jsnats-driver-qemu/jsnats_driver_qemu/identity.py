"""Who the guest is: a seed for cloud-init (NoCloud), which its disk with the label CIDATA carries."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Name of the guest and the user in it."""

    hostname: str
    username: str
    password: str = field(repr=False)
    keys: tuple[str, ...] = ()

    def write(self, folder: Path, instance: str) -> None:
        """Write the seed. cloud-init does its work once for each `instance`."""
        folder.mkdir(exist_ok=True)
        meta = {"instance-id": instance, "local-hostname": self.hostname}
        (folder / "meta-data").write_text(json.dumps(meta) + "\n")  # JSON is YAML
        (folder / "user-data").write_text(f"#cloud-config\n{json.dumps(self._config(), indent=1)}\n")

    def _config(self) -> dict[str, object]:
        user = {
            "name": self.username,
            "plain_text_passwd": self.password,
            "lock_passwd": False,
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
            "ssh_authorized_keys": list(self.keys),
        }
        return {"ssh_pwauth": True, "users": [user]}
