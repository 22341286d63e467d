"""Programs that end with who started them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
# Run by an interpreter of its own: a `preexec_fn` would save 20 ms and may deadlock a process with threads.
_LEASH: Final = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, int(sys.argv[2]))
if os.getppid() != int(sys.argv[1]):
    sys.exit("its starter is gone")
try:
    os.execvp(sys.argv[3], sys.argv[3:])
except OSError as error:
    sys.exit(f"cannot run {{sys.argv[3]}}: {{error.strerror}}")
"""


def leashed(argv: Sequence[str], ends_by: signal.Signals = signal.SIGKILL) -> list[str]:
    """`argv` such that it gets the signal when this process dies, even by SIGKILL. Elsewhere than on Linux just `argv`.

    The kernel sends it when the thread that started the program ends: start it in one that lives on. It costs 20 ms,
    holds for the program alone and not for what that starts, and a program that is not there is an exit code.
    """
    if not sys.platform.startswith("linux"):
        return list(argv)
    return [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), str(int(ends_by)), *argv]
