"""exporter.yaml: what is read, and that everything wrong is told at once."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from jsnats.agent._config import LoadedExporter, load
from jsnats.agent._hooks import Hook
from jsnats.schemas import ConfigurationError

MODULE = """
from typing import Annotated
from pydantic import BaseModel, Field, SecretStr
from pydantic.dataclasses import dataclass
from jsnats.driver import Driver, export

closed = []

class Limits(BaseModel):
    volts: int

@dataclass(kw_only=True)
class Relay(Driver):
    host: str
    port: int = 22
    outlet: Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=1)] = 1
    limits: Limits | None = None
    token: SecretStr = SecretStr("")
    error: str = ""

    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DriverClient"

    def __post_init__(self):
        super().__post_init__()
        if self.error:
            raise OSError(f"cannot open {self.error}")

    @export
    def on(self) -> None: ...

    async def close(self):
        closed.append(self.host)

class Bad(Relay):
    def close(self):
        raise RuntimeError("no")

class Lazy(Relay):
    def __post_init__(self):
        import no_such_hardware

class Harness(Driver):
    @classmethod
    def client(cls) -> str:
        return "jsnats.client.CompositeClient"

    def __post_init__(self):
        super().__post_init__()
        self.children["device"] = Relay(host="inside", parent=self)

class Needy(Relay):
    def __post_init__(self):
        super().__post_init__()
        self.children["b"].on()

class NoClient(Driver): ...
NOT_A_DRIVER = 3
"""

Loader = Callable[..., list[LoadedExporter]]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of drivers, importable as lab_drivers."""
    (tmp_path / "lab_drivers.py").write_text(MODULE)
    (tmp_path / "lab_broken.py").write_text("import no_such_hardware\n")
    (tmp_path / "lab_crash.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("lab_drivers")
    sys.modules.pop("lab_drivers")


@pytest.fixture
def read(lab: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loader:
    """Loads texts as files a.yaml, b.yaml ... from the current directory."""
    monkeypatch.chdir(tmp_path)

    def _read(*texts: str) -> list[LoadedExporter]:
        paths = [Path(f"{chr(ord('a') + index)}.yaml") for index in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        return load(paths)

    return _read


def faults_of(read: Loader, *texts: str) -> list[str]:
    """The faults that loading these texts gives."""
    with pytest.raises(ConfigurationError) as caught:
        read(*texts)
    return caught.value.faults


def test_a_whole_file(read: Loader) -> None:
    """Everything that a file may say is read, and the drivers are made."""
    (one,) = read(
        """
        name: bench-1
        labels: {board: imx8, rev: 1.10}
        broker: {url: nats://lab:4222, credentials: creds.json, auth: false}
        lease: required
        hooks: {beforeLease: {script: "echo ${HOME}"}}
        export:
          dut:
            description: the board
            children:
              power: {type: lab_drivers.Relay, description: left, config: {host: a, limits: {volts: 5}}}
        """
    )
    assert (one.name, one.lease, one.source) == ("bench-1", "required", Path("a.yaml"))
    assert one.labels == {"board": "imx8", "rev": "1.10"}
    assert (one.broker.url, one.broker.credentials, one.broker.auth) == ("nats://lab:4222", Path("creds.json"), False)
    assert one.hooks == {"beforeLease": Hook(script="echo ${HOME}")}
    power = one.root.children["dut"].children["power"]
    assert (power.path, power.description, power.host) == ("dut.power", "left", "a")  # type: ignore[attr-defined]
    assert power.limits.volts == 5  # type: ignore[attr-defined]


def test_hooks(read: Loader) -> None:
    """As Jumpstarter writes them; a plain text is a script."""
    (one,) = read(
        """
        hooks:
          beforeLease: j dut power on
          afterLease: {script: j dut power off, timeout: 5, onFailure: exit}
        export: {}
        """
    )
    assert one.hooks == {
        "beforeLease": Hook(script="j dut power on", timeout_s=120, on_failure="warn"),
        "afterLease": Hook(script="j dut power off", timeout_s=5, on_failure="exit"),
    }


def test_faults_of_hooks(read: Loader) -> None:
    """Each is told by its line."""
    with pytest.raises(ConfigurationError) as caught:
        read(
            """
            hooks:
              beforeLease:
                script: ""
                timeout: soon
                onfailure: warn
              afterLease: {script: x, onFailure: stop}
              onLease: x
            export: {}
            """
        )
    assert caught.value.faults == [
        "a.yaml:4: hooks.beforeLease.script: must be the text of a shell script",
        "a.yaml:5: hooks.beforeLease.timeout: must be a number of seconds above 0",
        "a.yaml:6: hooks.beforeLease.onfailure: unknown key (did you mean 'onFailure'?)",
        "a.yaml:7: hooks.afterLease.onFailure: must be one of warn, endLease, exit",
        "a.yaml:8: hooks.onLease: unknown key (did you mean 'beforeLease'?)",
    ]


def test_the_guides_file(read: Loader) -> None:
    """The guide's exporter.yaml loads; without a name the host's first label is the name."""
    (one,) = read(
        """
        # Example configuration for MyDevice driver
        export:
          my_device:
            type: lab_drivers.Relay
            config:
              host: "Hello, world" # Simple config param
              limits: # Nested configuration object
                volts: 3
        """
    )
    assert one.root.children["my_device"].host == "Hello, world"  # type: ignore[attr-defined]
    assert one.name
    assert one.lease is None
    assert one.broker.auth


def test_jumpstarter_head(read: Loader) -> None:
    """apiVersion, kind and metadata of a Jumpstarter file are accepted."""
    text = "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {name: b, labels: {x: y}}\nexport: {}"
    (one,) = read(text)
    assert (one.name, one.labels) == ("b", {"x": "y"})


def test_a_node_may_be_called_on(read: Loader) -> None:
    """Keys are taken as written: YAML 1.1 would turn `off` into false."""
    (one,) = read("export: {off: {type: lab_drivers.Relay, config: {host: a}}}")
    assert list(one.root.children) == ["off"]


def test_references(read: Loader) -> None:
    """A ref gives the same driver, across files, in any order, and into what a driver made itself."""
    one, two = read(
        'name: one\nexport: {a: {ref: b.c}, b: {children: {c: {ref: "two:pdu"}}}, d: {ref: "two:h.device"}}',
        "name: two\nexport: {pdu: {type: lab_drivers.Relay, config: {host: p}}, h: {type: lab_drivers.Harness}}",
    )
    assert one.root.children["a"] is two.root.children["pdu"]
    assert one.root.children["b"].children["c"] is two.root.children["pdu"]
    assert one.root.children["d"].host == "inside"  # type: ignore[attr-defined]


def test_children_of_a_typed_node(read: Loader) -> None:
    """A node with a type may have written children; anchors and merge keys work."""
    (one,) = read(
        """
        export:
          a: &a {type: lab_drivers.Relay, config: {host: x}}
          b: {<<: *a, children: {c: *a}}
        """
    )
    assert one.root.children["b"].children["c"].path == "b.c"


def test_filling_in(read: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """${NAME} and ${file:...} are filled in, and $${ is a plain ${."""
    monkeypatch.setenv("LAB_PORT", "2022")
    (tmp_path / "token").write_text("s3cret\n")
    (one,) = read(
        "export: {a: {type: lab_drivers.Relay, config: "
        '{host: "$${x}-${LAB_PORT}", port: "${LAB_PORT}", token: "${file:token}"}}}'
    )
    relay = one.root.children["a"]
    assert (relay.host, relay.port) == ("${x}-2022", 2022)  # type: ignore[attr-defined]
    assert relay.token.get_secret_value() == "s3cret"  # type: ignore[attr-defined]


def test_every_fault_of_all_files(read: Loader) -> None:
    """Faults of all kinds in two files come in one error, by line and path."""
    faults = faults_of(
        read,
        """name: one
lables: {}
lease: maybe
export:
  dut:
    children:
      power: {type: lab_drivers.Relay, config: {hots: x, port: q, limits: {volts: v}}}
      a.b: {type: lab_drivers.Relay, config: {host: x}}
  twice: {type: lab_drivers.Relay, config: {host: x}}
  twice: {type: lab_drivers.Relay, config: {host: "${NO_SUCH_VARIABLE}"}}
  lost: {ref: nowhere}
  far: {ref: "there:x"}
  typo: {type: lab_drivers.Realy}
  entry: {type: Compsite}
  none: {description: x}
  both: {ref: dut, type: Composite}
  base: {type: lab_drivers.Relay, config: {host: x, parent: 1}}
  mute: {type: lab_drivers.NoClient}
  number: {type: lab_drivers.NOT_A_DRIVER}
  loop: {children: {x: {ref: loop}}}
  clash: {type: lab_drivers.Relay, config: {host: x}, children: {"on": {ref: twice}}}
""",
        "name: one\nexport: {}\n---\na: b: c\n",
    )
    for expected in (
        "a.yaml:2: lables: unknown key (did you mean 'labels'?)",
        "a.yaml:3: lease: must be required or if-held",
        "a.yaml:7: export.dut.power.config.host: Relay needs this parameter",
        "a.yaml:7: export.dut.power.config.port: should be a valid integer",
        "a.yaml:7: export.dut.power.config.limits.volts: should be a valid integer",
        "a.yaml:7: export.dut.power.config.hots: Relay has no such parameter (did you mean 'host'?)",
        "a.yaml:8: export.dut.a.b: node name 'a.b' is not valid",
        "a.yaml:10: export.twice: the key stands twice in this map",
        "a.yaml:10: export.twice.config.host: environment variable NO_SUCH_VARIABLE is not set",
        "a.yaml:11: export.lost.ref: there is no node 'nowhere' in exporter 'one'",
        "a.yaml:12: export.far.ref: no exporter 'there' is loaded here",
        "a.yaml:13: export.typo.type: lab_drivers has no Realy (did you mean 'Relay'?)",
        "a.yaml:14: export.entry.type: driver 'Compsite' is not installed (did you mean 'Composite'?); installed are ",
        "a.yaml:15: export.none: needs one of type, ref or children",
        "a.yaml:16: export.both: a ref stands alone; take out type",
        "a.yaml:17: export.base.config.parent: parent is not a parameter",
        "a.yaml:18: export.mute: NoClient has no client()",
        "a.yaml:19: export.number.type: lab_drivers.NOT_A_DRIVER is not a driver class",
        "a.yaml:20: export.loop: refers to itself",
        "a.yaml:21: export.clash.on: 'on' is also a method",
        "b.yaml:1: name: exporter 'one' is also defined in a.yaml:1",
        "b.yaml:4: is not valid YAML",
    ):
        assert sum(fault.startswith(expected) for fault in faults) == 1, expected
    assert len(faults) == 22


def test_a_fault_of_a_parameter_of_two_types(read: Loader) -> None:
    """It is told by the name of the parameter, once for each type, without pydantic's names of these."""
    faults = faults_of(read, "export: {a: {type: lab_drivers.Relay, config: {host: x, outlet: 0}}}")
    assert faults == [
        "a.yaml:1: export.a.config.outlet: should be greater than or equal to 1",
        "a.yaml:1: export.a.config.outlet: should be a valid string",
    ]


def test_error_text(read: Loader) -> None:
    """str() of the error counts the faults and lists them."""
    with pytest.raises(ConfigurationError) as caught:
        read("export: 3\nlease: x")
    assert str(caught.value).splitlines() == ["2 faults in a.yaml:", *caught.value.faults]


def test_unreadable_files(read: Loader) -> None:
    """A missing file and an empty one are faults, not tracebacks."""
    assert faults_of(read, "# nothing\n") == ["a.yaml: has no exporter in it: write an export map"]
    with pytest.raises(ConfigurationError, match=r"none.yaml: cannot be read: No such file"):
        load([Path("none.yaml")])


def test_imports_that_fail(read: Loader) -> None:
    """A driver whose hardware library is missing, or whose module crashes, is a line of the report."""
    text = """export:
  a: {type: lab_broken.X}
  b: {type: lab_crash.X}
  c: {type: lab_nowhere.X}
  d: {type: lab_drivers.Lazy, config: {host: x}}
"""
    assert faults_of(read, text) == [
        "a.yaml:2: export.a.type: lab_broken.X: needs the Python module no_such_hardware: install it on this host",
        "a.yaml:3: export.b.type: lab_crash.X cannot be imported: ZeroDivisionError: division by zero",
        "a.yaml:4: export.c.type: lab_nowhere.X: there is no module lab_nowhere: "
        "install the package it comes from, or mend the name",
        "a.yaml:5: export.d: Lazy needs the Python module no_such_hardware: install it on this host",
    ]


def test_secrets_do_not_show(read: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came from the environment is blotted out of every fault, even out of a driver's own words."""
    monkeypatch.setenv("LAB_SECRET", "hunter22")
    faults = faults_of(
        read,
        'export: {a: {type: lab_drivers.Relay, config: {host: x, error: "${LAB_SECRET}"}},'
        ' b: {type: lab_drivers.Relay, config: {host: x, port: "${LAB_SECRET}"}}}',
    )
    assert len(faults) == 2
    assert "Relay cannot be made: OSError: cannot open ***" in faults[0]
    assert "hunter22" not in "".join(faults)


def test_nothing_is_left_open(read: Loader, lab: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """After a fault every driver made is closed, each once, the last first; one that fails to close is logged."""
    text = """export:
  a: {type: lab_drivers.Relay, config: {host: a}}
  x: {type: lab_drivers.Bad, config: {host: x}}
  r: {ref: a}
  h: {type: lab_drivers.Harness}
  z: {ref: nowhere}
"""
    faults_of(read, text)
    assert lab.closed == ["inside", "a"]
    assert "closing Bad failed" in caplog.text


def test_a_faulty_file_closes_nothing_of_what_runs(read: Loader, lab: ModuleType) -> None:
    """The drivers that were made anew of an exporter that is hosted may share their device with those that serve it."""
    text = "name: {}\nexport: {{a: {{type: lab_drivers.Relay, config: {{host: {}}}}}}}\n"
    (running,) = read(text.format("bench-1", "old"))
    changed = text.format("bench-1", "new") + "---\n" + text.format("bench-2", "other") + "lease: maybe\n"
    Path("a.yaml").write_text(changed)
    with pytest.raises(ConfigurationError, match="lease: must be"):
        load([Path("a.yaml")], {"bench-1": running})
    assert lab.closed == ["other"]


async def test_closing_inside_an_event_loop(read: Loader, lab: ModuleType) -> None:
    """load may be called while an event loop runs; async close methods still run to their end."""
    faults_of(read, "export: {a: {type: lab_drivers.Relay, config: {host: a}}, z: {ref: no}}")
    assert lab.closed == ["a"]


def test_fault_below_does_not_breed(read: Loader) -> None:
    """A node whose child cannot be made still has its own parameters checked, and its ref adds no second fault."""
    text = """export:
  a: {type: lab_drivers.Relay, config: {port: x, host: x}, children: {b: {type: lab_drivers.Relay}}}
  r: {ref: a}
  n: {type: lab_drivers.Needy, config: {host: x}, children: {b: {type: lab_drivers.Relay}}}
"""
    where = {fault.split(": ")[1] for fault in faults_of(read, text)}
    assert where == {"export.a.config.port", "export.a.b.config.host", "export.n.b.config.host"}


def test_jumpstarter_keys_are_explained(read: Loader) -> None:
    """Keys of a Jumpstarter file that mean nothing here say what to write."""
    (fault,) = faults_of(read, "endpoint: grpc.example.com\nexport: {}")
    assert fault == "a.yaml:1: endpoint: is not used here: write broker: {url: ..., credentials: ...}"


def test_alias_inside_its_anchor(read: Loader) -> None:
    """A recursive alias is a fault, not a crash."""
    assert "an alias cannot stand inside its own anchor" in faults_of(read, "export: &a {x: *a}")[0]
