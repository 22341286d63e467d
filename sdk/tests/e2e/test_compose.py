"""What compose.yaml promises of every service, read from the file; `make test-stack` sees it kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

COMPOSE: dict[str, Any] = yaml.safe_load((Path(__file__).resolve().parents[3] / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_little_and_says_how_it_is(name: str) -> None:
    """Nobody's root, a read-only file system, no capability, limits; all but the one-shot have a health check."""
    service = SERVICES[name]
    assert (service["user"], service["read_only"], service["cap_drop"]) == ("1000:1000", True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert ("healthcheck" in service) == (name != "init")


def test_ports_are_open_on_loopback_only_unless_asked() -> None:
    """Each published port names the address, which is 127.0.0.1 without a word."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 6
    assert all(port.startswith("${JSNATS_LISTEN:-127.0.0.1}:") for port in ports)


def test_who_is_let_in_is_whom_the_exporter_files_name() -> None:
    """Each exporter of a service has its credential in the volume of that service."""
    stack = Path(__file__).resolve().parents[2] / "examples" / "stack"
    told = (stack / "init.py").read_text()
    for file in stack.glob("*/exporters.yaml"):
        for exporter in yaml.safe_load_all(file.read_text()):
            assert f'("exporter", "{exporter["name"]}")' in told
            assert file.parent.name in SERVICES
