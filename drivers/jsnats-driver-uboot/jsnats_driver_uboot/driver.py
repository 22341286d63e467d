"""The exporter's side: U-Boot on the console of a board that its power switch starts."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver, export, methods_of

from .common import CommandResult, DhcpInfo, UbootCommandError, short
from .env import assignment, checked_command, checked_line, variables
from .sessions import Sessions

_NEEDED: Final = {"power": ("on", "off"), "serial": ("connect",)}


def _visible(prompt: str) -> str:
    if not prompt.strip():
        raise ValueError('the prompt is empty: say what U-Boot shows when it waits for a command, as "=> "')
    checked_line(prompt.strip(), "the prompt")
    return prompt


Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]


@dataclass(kw_only=True)
class UbootConsole(Driver):
    """The U-Boot of a board: its children are `power` and the console, `serial`.

    `prompt` is what U-Boot shows when it waits for a command, `autoboot_key` what is pressed to stop its autoboot:
    Ctrl-C if not said. `off_time` s the board is left without power when it is restarted.
    """

    prompt: Annotated[str, AfterValidator(_visible)] = "=> "
    autoboot_key: Annotated[str, Field(min_length=1, max_length=64)] = "\x03"
    off_time: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, methods in _NEEDED.items():
            if name not in self.children:
                raise ValueError(f"UbootConsole needs a child {name}: a driver, or a ref to one")
            if missing := [each for each in methods if each not in methods_of(type(self.children[name]))]:
                kind = type(self.children[name]).__name__
                raise ValueError(f"the child {name} of UbootConsole is a {kind}, which lacks {missing[0]}()")
        self._sessions = Sessions(self.children["serial"], self.prompt, self.report_progress)

    @classmethod
    def client(cls) -> str:
        """Return the client of U-Boot."""
        return "jsnats_driver_uboot.client.UbootConsoleClient"

    @export
    async def get_prompt(self) -> str:
        """Say what U-Boot shows when it waits for a command."""
        return self.prompt

    @export
    async def reboot(self, timeout: Seconds = 60) -> str:
        """Switch the board off and on, stop its autoboot, and return what it said until the prompt.

        Raises TimeoutError with the last it said when there is no prompt `timeout` s after it was switched on,
        DriverError when somebody types at the console, and what the power switch raises.
        """
        async with self._sessions.turn:
            await self._sessions.check_free()
            self.report_progress(0, None, "switching off")
            await self._power("off")
            await asyncio.sleep(self.off_time)
            return await self._started(timeout)

    @export
    async def run(self, command: str, timeout: Seconds = 60, check: bool = False) -> CommandResult:
        """Run a command at the prompt, and return what it said and its `$?`.

        With `check` another status than 0 is raised, as OSError with the result as `detail`. Raises TimeoutError when
        it has not ended after `timeout` s, and ends it with Ctrl-C; ConnectionError when the board was reset, or the
        console is gone; ValueError for what is no whole line; NotImplementedError to check where there is no `$?`.
        """
        line = checked_command(command)
        async with self._sessions.shell(timeout, f"{short(line)} has not ended") as shell:
            return await (shell.check(line) if check else shell.run(line))

    @export
    async def boot(self, command: str = "boot", timeout: Seconds = 10) -> None:
        """Give a command that does not come back: boot, bootm, go, reset. Raises as `run`."""
        line = checked_command(command)
        async with self._sessions.shell(timeout, f"{short(line)} has not begun") as shell:
            await shell.start(line)

    @export
    async def get_env(self, name: str, timeout: Seconds = 10) -> str | None:
        """Return the value of a variable, None if it has none. Raises as `run`."""
        async with self._sessions.shell(timeout, f"no value of {name}") as shell:
            return await shell.value(name)

    @export
    async def print_env(self, timeout: Seconds = 30) -> dict[str, str]:
        """Return all variables. Raises as `run`."""
        async with self._sessions.shell(timeout, "the environment was not printed") as shell:
            return variables((await shell.run("printenv")).output)

    @export
    async def set_env(self, values: dict[str, str | None], timeout: Seconds = 30) -> None:
        """Set variables one after the other, and remove those with None; they are lost with a reset unless `saveenv`
        is run. Raises ValueError for what cannot be typed before any is set, OSError for what U-Boot refuses."""
        commands = [assignment(*each) for each in values.items()]
        async with self._sessions.shell(timeout, "not all variables were set") as shell:
            for command in commands:
                await shell.check(command)

    @export
    async def setup_dhcp(self, timeout: Seconds = 60) -> DhcpInfo:
        """Get an address for U-Boot, and no file: `autoload` is `no` from now on. Raises OSError for no answer."""
        async with self._sessions.shell(timeout, "dhcp has not ended") as shell:
            await shell.check("setenv autoload no")
            result = await shell.check("dhcp")
            address = await shell.value("ipaddr")
            if not address:
                raise UbootCommandError.of(result)
            gateway, netmask = await shell.value("gatewayip"), await shell.value("netmask")
            return DhcpInfo(ip_address=address, gateway=gateway or None, netmask=netmask or None)

    async def _power(self, method: str) -> None:
        power = self.children["power"]
        await power.invoke(getattr(power, method))

    async def _started(self, timeout: float) -> str:
        """Switch on while the key is pressed already: some boards look for it once, and early."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._power("on"))
                stopping = group.create_task(self._sessions.stop_autoboot(self.autoboot_key.encode(), timeout))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return stopping.result()
