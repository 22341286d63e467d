"""One place where a command ends badly: one line on stderr and an exit code, never a traceback.

    0 done    1 the call failed    2 usage or configuration    3 no broker or exporter    4 no permission
    5 somebody else holds it    6 the name is taken    130 Ctrl-C    141 nobody reads our output any more

JSNATS_DEBUG=1 shows the traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

INTERRUPTED = 130
BROKEN_PIPE = 141


def exit_code(work: Callable[[], object]) -> int:
    """Run `work` and return the exit code of the process; an integer that `work` returns is one."""
    try:
        code = work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the end of the program: what is left is shown, and raised if asked for
        return _show(error)
    return code if isinstance(code, int) else 0


def _show(error: Exception) -> int:
    if os.environ.get("JSNATS_DEBUG"):
        raise error
    if type(error).__name__ == "Abort":  # of click or of Typer
        return INTERRUPTED
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help page
        print(getattr(error, "message", ""), file=sys.stderr)
    else:
        print(f"error: {_line(error)}", file=sys.stderr)
    return int(getattr(error, "exit_code", 1))


def _line(error: Exception) -> str:
    from jsnats.schemas import JsnatsError

    if isinstance(error, JsnatsError):
        return str(error)
    if hasattr(error, "format_message"):  # a usage error of click or of Typer
        context = getattr(error, "ctx", None)
        advice = f" (see {context.command_path} --help)" if context else ""
        return f"{error.format_message().rstrip('.')}{advice}"
    if isinstance(error, OSError) and error.filename and error.strerror:  # a file that the user named
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {error} (JSNATS_DEBUG=1 shows where)"
