"""The requests of known devices, so that an exporter says `kind`, `url` and `outlet` only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from .config import ReadRequest, Request, StateRequest


@dataclass(frozen=True, kw_only=True)
class Requests:
    """All that is asked of a device. Without `state` a switched device is believed; without `read` it has no meter."""

    on: Request
    off: Request
    state: StateRequest | None = None
    read: ReadRequest | None = None


def _shelly_gen1(url: str, outlet: str) -> Requests:
    relay = f"{url}/relay/{outlet}"
    return Requests(
        on=Request(url=f"{relay}?turn=on", expect={"ison": True}),
        off=Request(url=f"{relay}?turn=off", expect={"ison": False}),
        state=StateRequest(url=relay, path="ison"),
    )


def _shelly_gen2(url: str, outlet: str) -> Requests:
    status = f"{url}/rpc/Switch.GetStatus?id={outlet}"
    return Requests(
        on=Request(url=f"{url}/rpc/Switch.Set?id={outlet}&on=true"),
        off=Request(url=f"{url}/rpc/Switch.Set?id={outlet}&on=false"),
        state=StateRequest(url=status, path="output"),
        read=ReadRequest(url=status, voltage_path="voltage", current_path="current"),
    )


def _tasmota(url: str, outlet: str) -> Requests:
    # The answer's only member is POWER on a device with one relay, else POWER<n>.
    command = f"{url}/cm?cmnd=Power{outlet}"
    energy = "StatusSNS.ENERGY"
    return Requests(
        on=Request(url=f"{command}%20On", expect={"*": "ON"}),
        off=Request(url=f"{command}%20Off", expect={"*": "OFF"}),
        state=StateRequest(url=command, path="*", is_on="ON", is_off="OFF"),
        read=ReadRequest(
            url=f"{url}/cm?cmnd=Status%208", voltage_path=f"{energy}.Voltage", current_path=f"{energy}.Current"
        ),
    )


def _redfish(url: str, outlet: str) -> Requests:
    system = f"{url}/redfish/v1/Systems/{outlet}"
    return Requests(
        on=_reset(system, "On"),
        off=_reset(system, "ForceOff"),
        state=StateRequest(url=system, path="PowerState", is_on="On", is_off="Off"),
    )


def _reset(system: str, to: str) -> Request:
    # 409: iDRACs and others refuse to switch on what is on. The state, which is read afterwards, tells the truth.
    url = f"{system}/Actions/ComputerSystem.Reset"
    return Request(url=url, method="POST", json={"ResetType": to}, accept=[409])


_KINDS: Final[dict[str, tuple[Callable[[str, str], Requests], str | None]]] = {
    "shelly-gen1": (_shelly_gen1, "0"),
    "shelly-gen2": (_shelly_gen2, "0"),
    "tasmota": (_tasmota, "1"),
    "redfish": (_redfish, None),
}
"""Each with the outlet that is meant when none is named."""


def requests_of(kind: str, url: str, outlet: str | None) -> Requests:
    """Return the requests of a known device. Raises ValueError where the kind needs an outlet and there is none."""
    make, default = _KINDS[kind]
    named = outlet or default
    if named is None:
        raise ValueError(f"kind {kind} needs outlet: the name of the system below /redfish/v1/Systems")
    return make(url.rstrip("/"), quote(named, safe=""))
