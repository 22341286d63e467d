import subprocess
import sys

import jsnats.driver
import jsnats_driver_composite
from jsnats_driver_composite.driver import Composite


def test_the_driver_is_the_one_of_the_core() -> None:
    """Package, module and core name one class, so `isinstance` holds across them."""
    assert Composite is jsnats.driver.Composite
    assert jsnats_driver_composite.Composite is Composite


def test_children_are_kept_by_name() -> None:
    """A composite holds its children and has no method of its own."""
    child = Composite()
    assert Composite(children={"a": child}).children == {"a": child}


def test_a_client_does_not_load_the_exporter_side() -> None:
    """Importing the client leaves `jsnats.driver` unloaded."""
    code = "import sys, jsnats_driver_composite.client; sys.exit('jsnats.driver' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
