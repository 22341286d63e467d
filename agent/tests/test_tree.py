"""The tree: places, parents, references, and all faults at once."""

import pytest
from pydantic.dataclasses import dataclass

from jsnats.driver import Composite, Driver, build_tree, check_tree, export, node_records
from jsnats.schemas import ConfigurationError


@dataclass(kw_only=True)
class Relay(Driver):
    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DriverClient"

    @export
    def on(self) -> None: ...


def test_order_paths_and_parents() -> None:
    """Nodes come parents first, each driver knows its path and its parent."""
    relay = Relay()
    root = Composite(children={"dut": Composite(children={"power": relay}), "pdu": Relay()})
    tree = build_tree(root)
    assert list(tree) == ["", "dut", "dut.power", "pdu"]
    assert relay.path == "dut.power"
    assert relay.parent is root.children["dut"]
    assert list(tree["dut.power"].methods) == ["on"]


def test_reference_is_a_node_twice() -> None:
    """A driver reached twice is a node under each path and keeps the first as its own."""
    pdu = Relay()
    tree = build_tree(Composite(children={"a": pdu, "b": Composite(children={"c": pdu})}))
    assert tree["a"].driver is tree["b.c"].driver is pdu
    assert pdu.path == "a"


def test_all_faults_are_told() -> None:
    """Bad names, clashes, strangers and missing clients are reported together, by path."""
    relay = Relay(children={"on": Relay(), "call": Relay(), "a.b": Relay(), "lab": Relay(), "x": 3})  # type: ignore[dict-item]
    with pytest.raises(ConfigurationError) as caught:
        build_tree(Composite(children={"dut": relay, "bare": Driver()}))
    assert [fault.split(":")[0] for fault in caught.value.faults] == [
        "dut.on",
        "dut.call",
        "dut.a.b",
        "dut.lab",
        "dut.x",
        "bare",
    ]
    assert "also a method" in caught.value.faults[0]
    assert "name of every client" in caught.value.faults[1]


def test_cycle_is_a_fault() -> None:
    """A driver below itself is a fault, not an endless walk."""
    relay = Relay()
    relay.children["again"] = relay
    assert [(fault.path, "cycle" in fault.message) for fault in check_tree(relay)[1]] == [("again", True)]


@pytest.mark.parametrize(("depth", "faults"), [(8, 0), (9, 1)])
def test_depth(depth: int, faults: int) -> None:
    """Eight levels below the root are allowed, nine are not."""
    driver: Driver = Relay()
    for _ in range(depth):
        driver = Composite(children={"n": driver})
    assert len(check_tree(driver)[1]) == faults


def test_long_paths_are_refused() -> None:
    """A path that leaves no room for exporter and user in a subject is a fault."""
    driver: Driver = Relay()
    for _ in range(6):
        driver = Composite(children={"n" * 63: driver})
    faults = check_tree(driver)[1]
    assert "the limit is" in faults[0].message


def test_node_records() -> None:
    """Records name client, interface and package; equal classes share one interface."""
    tree = build_tree(Composite(children={"a": Relay(description="the left one"), "b": Relay()}))
    nodes, interfaces = node_records(tree)
    assert [node.path for node in nodes] == ["", "a", "b"]
    assert nodes[1].interface == nodes[2].interface
    assert set(interfaces) == {node.interface for node in nodes}
    assert nodes[1].description == "the left one"
    assert nodes[1].package == "jsnats"
    assert nodes[1].driver.endswith(".Relay")
