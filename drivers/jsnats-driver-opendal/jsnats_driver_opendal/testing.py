"""For tests of servers of files: real clients as processes, beside a server in the same event loop."""

from __future__ import annotations

import asyncio
from subprocess import DEVNULL, PIPE


async def output_of(*command: object, code: int = 0, limit_s: float = 50) -> bytes:
    """Run a command without a shell, and return what it printed on both channels. Raises AssertionError for an exit
    code other than `code`, TimeoutError; it is killed then, and when it is cancelled."""
    words = [str(word) for word in command]
    process = await asyncio.create_subprocess_exec(*words, stdin=DEVNULL, stdout=PIPE, stderr=asyncio.subprocess.STDOUT)
    try:
        async with asyncio.timeout(limit_s):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == code, f"{words} ended with {process.returncode}: {output!r}"
    return output
