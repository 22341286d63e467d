from pathlib import Path

import pytest

from .common import BinaryFormat
from .image import format_of
from .testing import elf, firmware, intel_hex


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (elf(firmware()), None),
        (intel_hex(firmware()), "hex"),
        (intel_hex(firmware()).replace(b"\n", b"\r\n"), "hex"),
        (b"UF2\n" + bytes(508), "uf2"),
        (firmware(), "bin"),
        (b":no hex\n", "bin"),
        (b"", "bin"),
    ],
)
def test_the_first_bytes_tell_the_format(data: bytes, kind: BinaryFormat | None, tmp_path: Path) -> None:
    """ELF is left to probe-rs, which knows what the chip boots."""
    path = tmp_path / "image"
    path.write_bytes(data)
    assert format_of(path) == kind
