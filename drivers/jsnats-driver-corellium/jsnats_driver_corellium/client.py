"""The user's side of a virtual device: never imports the driver."""

from __future__ import annotations

from typing import Any

from jsnats_driver_composite.client import CompositeClient


class CorelliumClient(CompositeClient):
    """Client of a virtual device: `power` switches it, `serial` is its console."""

    def status(self) -> dict[str, Any]:
        """Ask Corellium for the device: `name`, `id`, `state`, `task`, `error` and the names of its `consoles`.

        While there is no device, `state` is "none" and `id` empty. Raises ConnectionError, TimeoutError, OSError when
        the token is refused, ValueError for no such project.
        """
        found: dict[str, Any] = self.call("status")
        return found
