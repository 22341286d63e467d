"""What a serial port tells of itself."""

from pydantic import BaseModel


class ModemLines(BaseModel):
    """The lines beside the data: `dtr` and `rts` as they are set here, the others as the device has them."""

    dtr: bool
    rts: bool
    cts: bool
    dsr: bool
    ri: bool
    cd: bool
