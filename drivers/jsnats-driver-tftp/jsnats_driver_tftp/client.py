"""The user's side."""

from __future__ import annotations

from jsnats_driver_opendal.server_client import FileServerClient


class TftpServerClient(FileServerClient):
    """Client of a TFTP server. What it serves is `client.storage`, an OpendalClient."""
