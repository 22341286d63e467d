"""The exporter's side: a virtual device with its power and its console."""

from __future__ import annotations

from ssl import CERT_NONE, SSLContext, create_default_context
from typing import Annotated, Any

from pydantic import AfterValidator, Field, FilePath, StringConstraints
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver, export
from jsnats_driver_http_power.exchange import verification

from .api import Api
from .device import ABSENT, Device, Wanted
from .power import CorelliumPower
from .serial import CorelliumSerial


def _host(text: str) -> str:
    if "/" in text or "@" in text:
        raise ValueError("give the name alone, such as app.corellium.com, without https:// and /api")
    return text


def _token(text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("this is no API token: it is one word")
    return text


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


@dataclass(kw_only=True)
class Corellium(Driver):
    """A virtual device in Corellium: children `power` and `serial`.

    It is the one called `device_name` in the project `project_id`; the first `on` creates it, of `device_flavor` with
    `device_os` and `device_build`. `console_name` is that of its consoles that is `serial`. `timeout` s are for each
    request, `settle` s for the device to be on, off or destroyed, with a look each `interval` s. The end of a lease
    switches off, and with `destroy_at_end` destroys. `tls_verify` is false, or the file of the authority that signed an
    appliance's certificate.
    """

    host: Annotated[Name, AfterValidator(_host)]
    token: Annotated[Name, AfterValidator(_token)] = Field(repr=False)
    project_id: Name
    device_name: Name
    device_flavor: Name
    device_os: Name = "1.1.1"
    device_build: Name = "Critical Application Monitor (Baremetal)"
    console_name: Name = "Primary Compute Non-Secure"
    timeout: Seconds = 10.0
    settle: Seconds = 600.0
    interval: Seconds = 2.0
    destroy_at_end: bool = False
    tls_verify: bool | FilePath = True

    def __post_init__(self) -> None:
        super().__post_init__()
        verify = verification(self.tls_verify)
        api = Api(host=self.host, token=self.token, timeout_s=self.timeout, verify=verify)
        wanted = Wanted(
            project=self.project_id,
            name=self.device_name,
            flavor=self.device_flavor,
            os=self.device_os,
            build=self.device_build,
            settle_s=self.settle,
            interval_s=self.interval,
        )
        self._device = Device(self, api, wanted)
        serial = CorelliumSerial(parent=self, api=api, wanted=wanted, console_name=self.console_name, tls=_tls(verify))
        power = CorelliumPower(
            parent=self, api=api, wanted=wanted, changed=serial.wake, destroy_at_end=self.destroy_at_end
        )
        self.children.update(power=power, serial=serial)

    @classmethod
    def client(cls) -> str:
        """Return the client of virtual devices."""
        return "jsnats_driver_corellium.client.CorelliumClient"

    @export
    async def status(self) -> dict[str, Any]:
        """Return name, id, state, task, error and the names of the consoles; state "none" while there is no device.

        Raises ConnectionError, TimeoutError, PermissionError for a token that is refused, ValueError for no project.
        """
        found = await self._device.details()
        return {
            "name": self.device_name,
            "id": found.id if found else "",
            "state": found.state if found else ABSENT,
            "task": found.task if found else None,
            "error": found.error if found else "",
            "consoles": [each.name for each in found.consoles] if found else [],
        }


def _tls(verify: bool | str) -> SSLContext:
    """Check the certificate of a console's websocket as that of the API is checked."""
    try:
        context = create_default_context(cafile=verify if isinstance(verify, str) else None)
    except OSError as error:
        raise ValueError(f"tls_verify: {verify} holds no certificate: {error.strerror or error}") from error
    if verify is False:
        context.check_hostname = False
        context.verify_mode = CERT_NONE
    return context
