"""Puts this folder on the path of imports, so that the tests run from a checkout in which it is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
