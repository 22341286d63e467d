"""The pytest plugin, as its users meet it, against a real broker with roles."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from anyio import EndOfStream
from anyio.abc import ByteStream
from pydantic.dataclasses import dataclass
from pytest_asyncio import plugin as asyncio_plugin

from jsnats.agent import Exporter, Spec
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.driver import Composite, Console, Driver, export
from jsnats.sdk import Lab, connect, shared_bridge
from jsnats.testing import _benches, plugin  # noqa: F401 - what a run of pytest imports first, it forgets

pytest_plugins = ["pytester"]

INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""


class Wire(ByteStream):
    """A device that says what it is told to, and repeats what it is sent."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[bytes] = asyncio.Queue()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        said = await self.said.get()
        if not said:
            raise EndOfStream
        return said

    async def send(self, item: bytes) -> None:
        self.said.put_nowait(item)

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.said.put_nowait(b"")


@dataclass(kw_only=True)
class Talker(Console):
    """A console, and a method that makes it speak and log."""

    @classmethod
    def client(cls) -> str:
        return "jsnats.client.ConsoleClient"

    async def open(self) -> ByteStream:
        self._wire = Wire()
        return self._wire

    @export
    async def say(self, text: str) -> None:
        self.logger.info("told to say %s", text)
        await self._wire.send(text.encode())

    @export
    async def hang(self) -> None:
        await asyncio.Event().wait()


def board(*consoles: str) -> Driver:
    """A tree with a console at `dut.<name>` for each name."""
    return Composite(children={"dut": Composite(children={name: Talker() for name in consoles})})


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A lab with three exporters on line and one that is not; `alice` is a user."""
    with running_broker(principals={"exporter": ["bench-1", "bench-2", "bare", "gone"], "user": ["alice"]}) as broker:
        yield broker


@pytest.fixture(scope="module", autouse=True)
def exporters(broker: TestBroker) -> Iterator[None]:
    """bench-1 has one console, bench-2 has two, `bare` none."""
    bridge = shared_bridge()
    specs = [
        Spec(name="bench-1", root=board("serial"), labels={"board": "rpi4", "site": "desk"}),
        Spec(name="bench-2", root=board("serial", "uart2"), labels={"board": "rpi4", "site": "rack"}),
        Spec(name="bare", root=board(), labels={"board": "none"}),
        Spec(name="gone", root=board(), labels={"board": "rpi3"}),
    ]
    running = [Exporter(spec, broker.context(spec.name)) for spec in specs]
    for exporter in running:
        bridge.run(exporter.start())
    bridge.run(running[-1].stop())
    yield
    for exporter in running:
        bridge.run(exporter.stop())


Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, broker: TestBroker, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest as alice, on the test files that the test has written."""
    for name in ("JSNATS_URL", "JSNATS_EXPORTER", "JSNATS_LEASE", "JSNATS_BOARDS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JSNATS_CONTEXT", str(broker.context_path("alice")))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(pytester.path / "config"))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # some take seconds to load, again and again
    pytester.makeini(INI)

    def run(*arguments: str, ini: str = "") -> pytest.RunResult:
        if ini:
            pytester.makeini(INI + ini)
        return pytester.runpytest_inprocess(*arguments, plugins=[plugin, asyncio_plugin])

    return run


# ------------------------------------------------------------------ which bench


NAME = "def test_name(bench):\n    print('it is', bench.exporter)\n"


@pytest.mark.parametrize(
    ("arguments", "ini", "mark", "expected"),
    [
        (["--jsnats-exporter", "bench-2"], "", "", "bench-2"),
        (["--jsnats-selector", "board=rpi4,site in (rack, shelf)"], "", "", "bench-2"),
        (["--jsnats-selector", "board,!site,board!=rpi3"], "", "", "bare"),
        ([], "jsnats_exporter = bench-2", "", "bench-2"),
        ([], "jsnats_selector = site=rack", "", "bench-2"),
        (["--jsnats-exporter", "bare"], "jsnats_selector = site=rack", "", "bare"),
        (["--jsnats-exporter", "bare"], "", "exporter='bench-1'", "bench-1"),
        (["--jsnats-exporter", "bare"], "", "selector='site=rack'", "bench-2"),
    ],
)
def test_which_bench(
    run: Run, pytester: pytest.Pytester, arguments: list[str], ini: str, mark: str, expected: str
) -> None:
    """A mark goes before an option, an option before the ini file; a selector finds a free exporter by its labels."""
    decorator = f"import pytest\n@pytest.mark.jsnats({mark})\n" if mark else ""
    pytester.makepyfile(decorator + NAME)
    result = run("-s", *arguments, ini=ini)
    result.assert_outcomes(passed=1)
    assert f"it is {expected}" in result.stdout.str()


def test_the_lab_is_found_by_options(
    run: Run, pytester: pytest.Pytester, broker: TestBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A context file, as option or in the ini file, relative to that; an address goes before the one in it."""
    monkeypatch.delenv("JSNATS_CONTEXT")
    pytester.makepyfile("def test_user(lab):\n    assert lab.user == 'alice'\n    assert lab.exporters()\n")
    run().assert_outcomes(errors=1)
    run(f"--jsnats-context={broker.context_path('alice')}").assert_outcomes(passed=1)
    (pytester.path / "me.json").write_bytes(broker.context_path("alice").read_bytes())
    run(ini="jsnats_context = me.json").assert_outcomes(passed=1)
    elsewhere = json.loads((pytester.path / "me.json").read_text()) | {"url": "nats://127.0.0.1:1"}
    (pytester.path / "me.json").write_text(json.dumps(elsewhere))
    run("--jsnats-url", broker.url, ini="jsnats_context = me.json").assert_outcomes(passed=1)


def test_the_environment_of_jsnats_up_is_enough(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `jsnats up ... -- pytest` nothing has to be said: the bench is the first exporter."""
    monkeypatch.setenv("JSNATS_EXPORTER", "bench-2")
    pytester.makepyfile(NAME)
    assert "it is bench-2" in run("-s").stdout.str()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "this test needs a bench: say --jsnats-exporter NAME, --jsnats-selector board=rpi4 or --jsnats-up="),
        (["--jsnats-exporter", "bench-9"], "no exporter 'bench-9' in this lab; there is: bare, bench-1, bench-2, gone"),
        (["--jsnats-selector", "board=rpi3", "--jsnats-wait=0.1"], "in vain: gone is offline"),
        (["--jsnats-selector", "board=x"], "no exporter of the lab fits 'board=x': there are board=none|rpi3|rpi4"),
        (["--jsnats-selector", "board=rpi4,"], "'' in selector 'board=rpi4,': write key=value, key!=value, key in"),
        (["--jsnats-exporter", "a", "--jsnats-selector", "b"], "exporter='a' and selector='b': say one of them"),
        (["--jsnats-context=none.json", "--jsnats-exporter", "a"], "no context file"),
        (["--jsnats-up=x.yaml", "--jsnats-url", "nats://here"], "take out --jsnats-context, --jsnats-url"),
    ],
)
def test_no_bench(run: Run, pytester: pytest.Pytester, arguments: list[str], message: str) -> None:
    """Where there is none, each test that needs one errors with one line, and the others pass."""
    pytester.makepyfile(NAME + "def test_other():\n    pass\n")
    result = run(*arguments)
    result.assert_outcomes(errors=1, passed=1)
    body = re.search(r"ERROR at setup of test_name _+\n(.*?)\n=+ short", result.stdout.str(), re.DOTALL)
    assert body
    assert message in body[1]
    assert len(body[1].splitlines()) == 1


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("colour='red'", "takes exporter=..., selector=... and console=..."),
        ("exporter='a', selector='b'", "say one of them"),
    ],
)
def test_a_wrong_mark(run: Run, pytester: pytest.Pytester, mark: str, message: str) -> None:
    """It is an error in one line, with strict markers too."""
    pytester.makepyfile(f"import pytest\n@pytest.mark.jsnats({mark})\n{NAME}")
    result = run("--strict-markers")
    result.assert_outcomes(errors=1)
    assert message in result.stdout.str()


# ------------------------------------------------------------------ leases


HELD = """
def test_first(lab, bench):
    (held,) = lab.leases()
    assert (held.holder, held.boards, held.note) == ("alice", ["bench-2"], "pytest")
    assert 1700 < held.remaining <= 1800

def test_second(lab, bench):
    assert len(lab.leases()) == 1
"""


@pytest.fixture
def admin(broker: TestBroker) -> Iterator[Lab]:
    """A connection of an admin, who sees every lease."""
    with connect(context=broker.context()) as lab:
        yield lab


@pytest.mark.parametrize("which", ["--jsnats-selector=site=rack", "--jsnats-exporter=bench-2"])
def test_a_session_takes_a_lease(run: Run, pytester: pytest.Pytester, admin: Lab, which: str) -> None:
    """One for all tests that want the same, given back at its end."""
    pytester.makepyfile(HELD)
    run(which, "--jsnats-duration=30m").assert_outcomes(passed=2)
    assert admin.leases() == []


def test_the_lease_of_jsnats_run_is_used(
    run: Run, pytester: pytest.Pytester, broker: TestBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `jsnats run -l site=rack -- pytest` the same selector means the exporter that is held already."""
    with connect(context=broker.context("alice")) as lab, contextlib.ExitStack() as stack:
        lease = lab.lease("site=rack", duration="30m", note="pytest")
        stack.enter_context(lease)
        monkeypatch.setenv("JSNATS_LEASE", lease.id)
        monkeypatch.setenv("JSNATS_BOARDS", "bench-2")
        monkeypatch.setenv("JSNATS_EXPORTER", "bench-2")
        pytester.makepyfile(HELD)
        run().assert_outcomes(passed=2)
        run("--jsnats-selector=board=rpi4").assert_outcomes(passed=2)
        run("--jsnats-exporter=bench-2").assert_outcomes(passed=2)


def test_a_lost_lease_fails_the_test_in_one_line(
    run: Run, pytester: pytest.Pytester, broker: TestBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, in whatever call it is; so do the tests after it that want the same bench."""
    monkeypatch.setenv("ADMIN", str(broker.context_path("broker")))
    pytester.makepyfile(
        """
        import os, threading
        from jsnats.sdk import LeaseDesk, connect

        def end(id):
            with connect(context=os.environ["ADMIN"]) as lab:
                lab.inner.bridge.run(LeaseDesk(lab.inner.connection).any("release", id=id, reason="a demo"))

        def test_first(lab, bench):
            threading.Timer(0.3, end, [lab.leases()[0].id]).start()
            bench.dut.serial.call("hang")

        def test_second(bench):
            pass
        """
    )
    result = run("--jsnats-selector=site=rack")
    result.assert_outcomes(failed=1, errors=1)
    shown = re.search(r"_ test_first _+\n(.*?)\n[-=]+ ", result.stdout.str(), re.DOTALL)
    assert shown
    assert shown[1] == "dut.serial.hang: the lease of bench-2 has ended: a demo (by broker)"
    assert "a demo (by broker)" in re.split("ERROR at setup of test_second", result.stdout.str())[1]


def start_pytest(broker: TestBroker, *arguments: str) -> subprocess.Popen[str]:
    """Run pytest as alice in a process of its own, with our plugin and xdist."""
    environment = os.environ | {
        "JSNATS_CONTEXT": str(broker.context_path("alice")),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    command = [sys.executable, "-m", "pytest", "-p", "jsnats", "-p", "xdist", "-p", "no:cacheprovider", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def test_each_worker_has_a_board_of_its_own(pytester: pytest.Pytester, broker: TestBroker, admin: Lab) -> None:
    """With pytest-xdist, each takes a lease of its own, and gives it back."""
    pytester.makepyfile(
        """
        import time
        from pathlib import Path

        import pytest

        @pytest.mark.parametrize("which", [0, 1])
        def test_board(bench, which):
            Path(f"has-{which}").write_text(bench.exporter)
            while not all(Path(f"has-{each}").exists() for each in (0, 1)):
                time.sleep(0.02)
        """
    )
    with start_pytest(broker, "-n2", "--jsnats-selector=board=rpi4") as process:
        said, _ = process.communicate(timeout=55)
    assert "2 passed" in said, said
    assert {(pytester.path / f"has-{which}").read_text() for which in (0, 1)} == {"bench-1", "bench-2"}
    assert admin.leases() == []


def test_ctrl_c_gives_the_bench_back(pytester: pytest.Pytester, broker: TestBroker, admin: Lab) -> None:
    """At once."""
    pytester.makepyfile("def test_hangs(bench):\n    print('hangs', flush=True)\n    bench.dut.serial.call('hang')\n")
    with start_pytest(broker, "-s", "--jsnats-selector=site=rack") as process:
        assert process.stdout
        while "hangs" not in process.stdout.readline():
            assert process.poll() is None
        assert [each.boards for each in admin.leases()] == [["bench-2"]]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 2
    assert admin.leases() == []


# ------------------------------------------------------------------ what the fixtures are


def test_bench_and_console(run: Run, pytester: pytest.Pytester) -> None:
    """The bench is the tree of clients. The console listens from the start of the test, talks, and is given back."""
    pytester.makepyfile(
        """
        def test_power(bench, console):
            bench.dut.serial.call("say", "booting\\n")
            assert console.path == "dut.serial"
            console.expect("booting", timeout=10)
            console.sendline("root")
            console.expect("root", timeout=10)

        def test_again(console):
            console.sendline("again")
            console.expect("again", timeout=10)

        async def test_beside_asyncio(bench):
            assert bench.exporter == "bench-1"
        """
    )
    run("--jsnats-exporter", "bench-1").assert_outcomes(passed=3)


def test_which_console(run: Run, pytester: pytest.Pytester) -> None:
    """One of several is named by mark or setting, with or without the exporter's name; else the error lists them."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.jsnats(console="dut.uart2")
        def test_mark(console):
            assert console.path == "dut.uart2"

        def test_setting(console):
            assert console.path == "dut.serial"
        """
    )
    run("--jsnats-exporter", "bench-2", "--jsnats-console", "bench-2.dut.serial").assert_outcomes(passed=2)
    result = run("--jsnats-exporter", "bench-2")
    result.assert_outcomes(passed=1, errors=1)
    assert "bench-2 has several consoles: say one of dut.serial, dut.uart2 with" in result.stdout.str()
    assert "bare has no console: see `jsnats tree bare`" in run("--jsnats-exporter", "bare").stdout.str()


def test_class_form(run: Run, pytester: pytest.Pytester) -> None:
    """The class says which bench; `client` is made once for it, and `bench` and `console` are of the same exporter."""
    pytester.makepyfile(
        """
        from jsnats.testing import JsnatsTest

        class TestRack(JsnatsTest):
            selector = "site=rack"
            seen = []

            def test_one(self, client):
                self.seen.append(client)
                assert client.exporter == "bench-2"

            def test_two(self, client, bench):
                assert self.seen == [client]
                assert bench.exporter == "bench-2"

        class TestNamed(JsnatsTest):
            exporter = "bench-1"

            def test_three(self, client, console):
                assert client.exporter == console.exporter == "bench-1"

        class TestSetting(JsnatsTest):
            def test_four(self, client):
                assert client.exporter == "bare"
        """
    )
    run("--jsnats-exporter", "bare").assert_outcomes(passed=4)


def test_scope(run: Run, pytester: pytest.Pytester) -> None:
    """One bench for the session, so that fixtures of a session may use it; a mark that it cannot see is an error."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="session")
        def booted(bench, console):
            return bench

        def test_one(booted, bench):
            assert booted is bench

        @pytest.mark.jsnats(exporter="bench-2")
        def test_two(bench):
            pass
        """
    )
    result = run("--jsnats-exporter", "bench-1", ini="jsnats_scope = session")
    result.assert_outcomes(passed=1, errors=1)
    assert "the bench is chosen for the whole session (jsnats_scope)" in result.stdout.str()
    result = run(ini="jsnats_scope = test")
    assert "jsnats_scope = test: the scope of bench is one of function" in "".join(result.outlines + result.errlines)


# ------------------------------------------------------------------ a failing test's story


STORY = """
import pytest

def say(bench, text):
    bench.dut.serial.call("say", text)

def test_first(bench):
    say(bench, "of the first\\n")

def test_second(bench):
    say(bench, "\\x1b[31mof the \\x00 sec")
    say(bench, "ond\\x1b[0m\\r\\n")
    bench.dut.serial.mark("look here")
    assert bench is None

def test_third(bench):
    say(bench, "of the third\\n")
    raise RuntimeError

@pytest.fixture
def broken(bench):
    say(bench, "of the fourth\\n")
    raise RuntimeError

def test_fourth(broken):
    pass

@pytest.fixture
def leaving(bench):
    yield
    say(bench, "of the fifth\\n")
    raise RuntimeError

def test_fifth(leaving):
    pass

def test_without():
    raise RuntimeError
"""


def sections(text: str, test: str) -> dict[str, str]:
    """The sections of a test's report in pytest's output."""
    body = re.search(rf"_ (?:ERROR at \w+ of )?{test} _+\n(.*?)(?=\n_{{3,}} |\n={{3,}} )", text, re.DOTALL)
    assert body
    parts = re.split(r"^-{8,} (.*?) -{8,}$", body[1], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_a_failing_test_tells_what_its_bench_said(run: Run, pytester: pytest.Pytester) -> None:
    """Console and driver log since the test began, in whatever phase it failed, and nothing of the test before."""
    pytester.makepyfile(STORY)
    result = run("--jsnats-exporter", "bench-1")
    result.assert_outcomes(passed=2, failed=3, errors=2)
    told = sections(result.stdout.str(), "test_second")
    assert told["console bench-1.dut.serial"].strip() == "of the \\x00 second\n\n--- look here ---"
    assert re.fullmatch(r"\n(.* INFO    dut.serial: told to say .*\n?){2}\n*", told["exporter log bench-1"])
    for test, word in (("test_third", "third"), ("test_fourth", "fourth"), ("test_fifth", "fifth")):
        told = sections(result.stdout.str(), test)
        assert told["console bench-1.dut.serial"].strip() == f"of the {word}"
        assert told["exporter log bench-1"].strip().endswith(f"told to say of the {word}")
    assert sections(result.stdout.str(), "test_without") == {}


def test_a_bench_of_the_whole_session_tells_each_test_its_own(run: Run, pytester: pytest.Pytester) -> None:
    """Held on from test to test, it still begins anew with each."""
    pytester.makepyfile(STORY)
    result = run("--jsnats-exporter", "bench-1", ini="jsnats_scope = session")
    told = sections(result.stdout.str(), "test_second")["console bench-1.dut.serial"]
    assert "of the \\x00 second" in told
    assert "first" not in told


@pytest.mark.parametrize("logging", ["no", "all"])
def test_junit_has_it(run: Run, pytester: pytest.Pytester, logging: str) -> None:
    """It stands in the <system-out> of the failing test, in one element with what pytest may put there."""
    pytester.makepyfile(STORY)
    run("--jsnats-exporter", "bench-1", "--junitxml=out.xml", "-o", f"junit_logging={logging}")
    cases = ElementTree.parse(pytester.path / "out.xml").iter("testcase")
    out = {case.get("name"): [each.text or "" for each in case.findall("system-out")] for case in cases}
    for test, word in (("second", "second"), ("third", "third"), ("fourth", "fourth"), ("fifth", "fifth")):
        (text,) = out[f"test_{test}"]
        assert "console bench-1.dut.serial" in text
        assert "exporter log bench-1" in text
        assert word in text
        assert "of the first" not in text


def test_much_is_cut(run: Run, pytester: pytest.Pytester) -> None:
    """Of a long story the end is shown, and how to read the rest."""
    pytester.makepyfile(
        """
        def test_long(bench):
            for number in range(600):
                bench.dut.serial.call("say", f"{number} ".ljust(100, "x") + "\\n")
            raise RuntimeError
        """
    )
    told = sections(run("--jsnats-exporter", "bench-1").stdout.str(), "test_long")["console bench-1.dut.serial"]
    first, *_, last = told.strip().splitlines()
    assert last.startswith("599 x")
    assert re.fullmatch(r"\.\.\. \d+ characters before this: jsnats console bench-1.dut.serial --since @\d+", first)


def test_a_bench_that_cannot_be_asked(run: Run, pytester: pytest.Pytester) -> None:
    """Without a broker the report still comes, with a line that says what is missing; other tests go on."""
    pytester.makepyfile(
        """
        def test_cut_off(bench, lab):
            lab.close()
            raise RuntimeError("the test's own")

        def test_other():
            pass
        """
    )
    result = run("--jsnats-exporter", "bench-1", ini="jsnats_scope = session")
    result.assert_outcomes(failed=1, passed=1)
    assert "the test's own" in result.stdout.str()
    assert (
        "not read: the connection was closed" in sections(result.stdout.str(), "test_cut_off")["exporter log bench-1"]
    )


# ------------------------------------------------------------------ a lab for the session


LAB = """
name: own
labels: {board: mock}
export:
  power: {type: MockPower}
  mine: {type: beside.Marker}
"""
BESIDE = """
import os
from pathlib import Path
from jsnats.driver import Driver, export

print("a driver under development prints")

class Marker(Driver):
    @classmethod
    def client(cls):
        return "jsnats.client.DynamicClient"

    @export
    def pid(self) -> int:
        return os.getpid()

    @export
    def crash(self) -> None:
        os.killpg(os.getpgrp(), 9)

    @export
    def say(self, text: str) -> None:
        print(text, flush=True)

    def close(self):
        Path("closed").touch()
"""
HANGING = """
from pathlib import Path
import pytest

@pytest.fixture
def leaving(bench):
    yield
    bench.power.off()
    Path("left").touch()

def test_hangs(bench, leaving):
    bench.power.on()
    Path("pid.tmp").write_text(str(bench.mine.pid()))
    Path("pid.tmp").rename("pid")
    for reading in bench.power.read():
        pass
"""


@pytest.fixture
def own_lab(pytester: pytest.Pytester) -> list[str]:
    """The options for a lab of its own, with a driver beside the tests."""
    (pytester.path / "own.yaml").write_text(LAB)
    (pytester.path / "drivers").mkdir()
    (pytester.path / "drivers" / "beside.py").write_text(BESIDE)
    return ["--jsnats-up=own.yaml", "-o", "pythonpath=drivers"]


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_lab_of_its_own(run: Run, pytester: pytest.Pytester, own_lab: list[str]) -> None:
    """It is started for the session, its first exporter is the bench, and it is gone afterwards, drivers closed."""
    pytester.makepyfile(
        """
        from pathlib import Path

        def test_one(bench):
            assert bench.exporter == "own"
            Path("pid").write_text(str(bench.mine.pid()))

        def test_two(bench, lab):
            assert [info.name for info in lab.exporters()] == ["own"]
            assert Path("pid").read_text() == str(bench.mine.pid())
        """
    )
    run(*own_lab).assert_outcomes(passed=2)
    assert not is_alive(int((pytester.path / "pid").read_text()))
    assert (pytester.path / "closed").exists()


def test_drivers_may_print(run: Run, pytester: pytest.Pytester, own_lab: list[str]) -> None:
    """What they print, before the lab runs and more than a pipe holds afterwards, is in nobody's way."""
    pytester.makepyfile("def test_print(bench):\n    bench.options(timeout_s=10).mine.say('x' * 200_000)\n")
    run(*own_lab).assert_outcomes(passed=1)


@pytest.mark.parametrize("scope", ["function", "session"])
def test_a_lab_that_crashes(run: Run, pytester: pytest.Pytester, own_lab: list[str], scope: str) -> None:
    """The tests that come after do not wait for its broker to come back."""
    pytester.makepyfile(
        """
        import pytest

        def test_crash(bench):
            with pytest.raises(Exception):
                bench.options(timeout_s=1).mine.crash()

        def test_next(bench):
            bench.power.on()

        def test_without():
            pass
        """
    )
    begin = time.monotonic()
    result = run(*own_lab, ini=f"jsnats_scope = {scope}")
    assert time.monotonic() - begin < 45
    missed, text = ("errors", "lab of --jsnats-up has ended") if scope == "function" else ("failed", "was closed")
    result.assert_outcomes(passed=2, **{missed: 1})
    assert text in result.stdout.str()
    assert (
        "the lab of --jsnats-up has ended" if scope == "function" else "connection was closed"
    ) in result.stdout.str()


def test_a_lab_that_does_not_start(run: Run, pytester: pytest.Pytester) -> None:
    """What `jsnats up` says is the error of each test that needs it."""
    (pytester.path / "own.yaml").write_text(LAB)
    pytester.makepyfile(NAME)
    result = run("--jsnats-up=own.yaml")
    result.assert_outcomes(errors=1)
    assert "jsnats up: 1 fault in" in result.stdout.str()
    assert "there is no module beside" in result.stdout.str()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_pytest(
    run: Run, pytester: pytest.Pytester, own_lab: list[str], number: signal.Signals
) -> None:
    """Ctrl-C, a time limit of CI and a crash in the middle of a call: the drivers are closed, nothing is left.

    Ctrl-C, which goes to all processes of the terminal, leaves the lab there until the fixtures have ended.
    """
    pytester.makepyfile(HANGING)
    pytester.makeini("[pytest]")
    command = [sys.executable, "-m", "pytest", "-p", "jsnats.testing.plugin", *own_lab]
    process = subprocess.Popen(
        command, cwd=pytester.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    while not (pytester.path / "pid").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    agent = int((pytester.path / "pid").read_text())
    assert is_alive(agent)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=30)
    if number == signal.SIGINT:
        assert process.returncode == pytest.ExitCode.INTERRUPTED
        assert b"KeyboardInterrupt" in output
        assert (pytester.path / "left").exists()
        assert not is_alive(agent)
    while is_alive(agent):
        time.sleep(0.05)
    assert (pytester.path / "closed").exists()


# ------------------------------------------------------------------ what it costs those who do not use it


def test_loading_it_is_cheap() -> None:
    """pytest with the plugin imports nothing of the SDK, the schemas or nats until a fixture is used."""
    code = (
        "import sys, pytest; before = set(sys.modules); import jsnats.testing.plugin; print(*set(sys.modules) - before)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name for name in out.stdout.split() if not name.startswith("jsnats.testing")} == {"jsnats"}
