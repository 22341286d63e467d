"""What both sides say alike."""

from pydantic import BaseModel


class SSHSettings(BaseModel):
    """What a client needs to know; nothing of it is secret.

    `username` is who logs in unless told otherwise, "" for the user's own name. `host_key` is that of the device,
    `identity` the public half of the key that the exporter signs with, both as `ssh-ed25519 AAAA...`, None for none.
    """

    username: str
    host_key: str | None
    identity: str | None
