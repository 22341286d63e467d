"""The exporter's side: a debug probe and the target on it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any, Literal

from anyio.abc import ByteStream
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver, Resource, export, exportstream

from .common import BinaryFormat, Width
from .gdb import gdb_connection
from .image import format_of
from .output import found_nothing, parse_words
from .tool import Tool
from .turn import Turn

Text = Annotated[str, Field(min_length=1)]
Address = Annotated[int, Field(ge=0, lt=1 << 64)]


def _probe(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}(-\d+)?(:.*)?", text):
        raise ValueError(f"{text!r} is no probe: give VID:PID or VID:PID:SERIAL, as `probe-rs list` shows it")
    return text


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


@dataclass(kw_only=True)
class ProbeRs(Driver):
    """A debug probe, used by way of the program probe-rs.

    `probe` is `VID:PID` or `VID:PID:SERIAL`, needed where several are connected; `speed` is in kHz; `timeout` s is what
    a command may take, and what gdb's server may take until it serves.
    """

    probe: Annotated[str | None, AfterValidator(_probe)] = None
    probe_rs_path: Text = "probe-rs"
    chip: Text | None = None
    protocol: Annotated[Literal["swd", "jtag"] | None, BeforeValidator(_lower)] = None
    connect_under_reset: bool = False
    speed: Annotated[int | None, Field(gt=0, lt=1 << 32)] = None
    timeout: Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)] = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._tool = Tool(program=self.probe_rs_path, options=self._options(), timeout_s=self.timeout)
        self._turn = Turn()

    def _options(self) -> tuple[str, ...]:
        named = {"probe": self.probe, "chip": self.chip, "protocol": self.protocol, "speed": self.speed}
        given = [f"--{name}={value}" for name, value in named.items() if value is not None]
        return (*given, "--connect-under-reset") if self.connect_under_reset else tuple(given)

    @classmethod
    def client(cls) -> str:
        """Return the client of debug probes."""
        return "jsnats_driver_probe_rs.client.ProbeRsClient"

    @export
    async def info(self) -> str:
        """Return what probe-rs finds out about probe and target. Raises as `reset_target`."""
        text = await self._run("info")
        if found_nothing(text):
            raise ConnectionError(f"probe-rs info found no target: {' '.join(text.split())}")
        return text

    @export(marker="reset")
    async def reset_target(self) -> None:
        """Reset the target, which runs then.

        Raises ConnectionError where probe or target cannot be reached or are in use, OSError for what else probe-rs
        gives as its error, both with its exit code and its last lines; TimeoutError, FileNotFoundError for no probe-rs.
        """
        await self._run("reset")

    @export
    async def erase(self) -> None:
        """Erase all of the target's flash. Raises as `reset_target`."""
        await self._run("erase")

    @export
    async def download(
        self, src: Resource, binary_format: BinaryFormat | None = None, base_address: Address | None = None
    ) -> None:
        """Write an image to flash, and read it back: an error means that it is not what is there.

        The format is told by the image: `elf`, `hex`, `uf2`, and `bin` for all else, which goes to `base_address`, by
        default the begin of the flash. Reports progress in percent. Raises as `reset_target`, ValueError for a
        `base_address` of another format than `bin`.
        """
        async with self.resource_file(src) as path:
            kind = binary_format or format_of(path)
            options = ["--verify", *([f"--binary-format={kind}"] if kind else [])]
            if base_address is not None:
                if kind != "bin":
                    raise ValueError(f"an image of format {kind or 'elf'} has its addresses: leave base_address out")
                options.append(f"--base-address={base_address:#x}")
            await self._run("download", *options, str(path))

    @export
    async def read(self, width: Width, address: Address, words: Annotated[int, Field(ge=1, le=1 << 16)]) -> list[int]:
        """Return words of `width` bits from the target's memory. Raises as `reset_target`."""
        found = parse_words(await self._run("read", f"b{width}", f"{address:#x}", str(words)), width)
        if len(found) != words:
            raise OSError(f"probe-rs read gave {len(found)} words of {words}")
        return found

    @export
    async def attach(self, src: Resource) -> AsyncGenerator[str, None]:
        """Yield what the running target says over RTT, some lines at a time, until the caller leaves.

        `src` is the ELF file that runs there. Raises as `reset_target`, OSError when the target ends badly.
        """
        async with (
            self._turn.held("attach"),
            self.resource_file(src) as path,
            aclosing(self._tool.output("attach", str(path))) as pieces,
        ):
            async for piece in pieces:
                yield piece

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[ByteStream, None]:
        """Start probe-rs's gdb server for one gdb: the bytes of its remote protocol. The server ends with it.

        Raises ConnectionError where probe or target cannot be reached or are in use, TimeoutError, FileNotFoundError.
        """
        async with self._turn.held("gdb"), gdb_connection(self._tool) as stream:
            yield stream

    async def _run(self, command: str, *args: str) -> str:
        async with self._turn.command():
            return await self._tool.run(command, *args, progress=self._progress)

    def _progress(self, percent: int, what: str) -> None:
        self.report_progress(percent, 100, what)
