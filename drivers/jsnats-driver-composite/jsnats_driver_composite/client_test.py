import jsnats.client
from jsnats.common.utils import serve
from jsnats_driver_composite.client import CompositeClient
from jsnats_driver_composite.driver import Composite


class HarnessClient(CompositeClient):
    """A client that extends the one of this package."""


class Harness(Composite):
    """A driver that extends the one of this package."""

    @classmethod
    def client(cls) -> str:
        """Return the class above."""
        return f"{__name__}.HarnessClient"


def test_the_client_is_the_one_of_the_core() -> None:
    """The package's name and the core's are one class."""
    assert CompositeClient is jsnats.client.CompositeClient


def test_children_are_reached_through_their_parents() -> None:
    """A composite in a composite is an attribute of an attribute."""
    with serve(Composite(children={"outer": Composite(children={"inner": Composite()})})) as client:
        assert isinstance(client.outer.inner, CompositeClient)


def test_options_are_those_of_all_below() -> None:
    """`bench.options(timeout_s=5).dut.power.on()` has the deadline; the client it was made of has none."""
    with serve(Composite(children={"outer": Composite(children={"inner": Composite()})})) as client:
        hasty = client.options(timeout_s=5)
        assert [each._options.timeout_s for each in (hasty, hasty.outer, hasty.outer.inner)] == [5, 5, 5]
        assert client.outer.inner._options.timeout_s is None


def test_a_composite_can_be_extended() -> None:
    """A subclass on both sides keeps its children."""
    with serve(Harness(children={"spare": Composite()})) as client:
        assert type(client).__name__ == "HarnessClient"
        assert isinstance(client.spare, CompositeClient)
