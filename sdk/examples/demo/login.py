"""Log in on the board's console and ask which image it runs."""

from jsnats.sdk import connect

with connect() as lab:
    dut = lab.exporter("bench-1").dut
    console = dut.serial
    console.expect("login: ", since="boot", timeout=20)  # in the record, if it was said already
    console.sendline("root")
    console.expect("# ")
    console.sendline("version")
    print("the board says it runs", console.expect(r"\n([0-9a-f]+)\r").group(1))
