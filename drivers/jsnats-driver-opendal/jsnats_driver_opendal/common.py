"""What travels between the driver and its client."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

Mode = Literal["file", "dir", "unknown"]


class Metadata(BaseModel):
    """What the storage knows of a file or directory. `content_length` in bytes; what it does not know is None."""

    mode: Mode
    content_length: int
    content_type: str | None = None
    content_md5: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    etag: str | None = None
    last_modified: datetime | None = None


class PresignedRequest(BaseModel):
    """A request that anybody may make to the storage itself until it expires."""

    url: str
    method: str
    headers: dict[str, str]
