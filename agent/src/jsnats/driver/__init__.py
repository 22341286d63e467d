"""What a driver author imports: the base class, the decorators, and what the agent reads off a driver class.

`_driver.py` is the base class and its rules about fields, `_composite.py` the node that only holds children,
`_export.py` the decorators, `_schema.py` JSON Schema from type hints, `_method.py` one exported method and the binding
of its arguments, `_interface.py` all methods of a class, `_tree.py` the tree and its checks, `_package.py` which
distribution a client class comes from. Nothing here knows the broker: a driver is a plain object that a unit test makes
and calls.
"""

from ._composite import Composite
from ._driver import Driver, progress_sink
from ._export import export, exportstream
from ._interface import interface_of, methods_of
from ._method import Method
from ._tree import Node, build_tree, check_tree, node_records

__all__ = [
    "Composite",
    "Driver",
    "Method",
    "Node",
    "build_tree",
    "check_tree",
    "export",
    "exportstream",
    "interface_of",
    "methods_of",
    "node_records",
    "progress_sink",
]
