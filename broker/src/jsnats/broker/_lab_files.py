"""Files of a lab's directory: JSON that somebody may have damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsnats.schemas import ConfigurationError


def read_json(path: Path) -> dict[str, Any]:
    """What a file of the directory holds. Raises ConfigurationError for a directory that is no lab."""
    try:
        data: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigurationError(f"there is no lab in {path.parent}: `jsnats auth init` makes one") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    return data
