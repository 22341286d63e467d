"""`python -m jsnats.sdk.cli` is `jsnats`."""

from . import main

main()
