"""What a driver author imports: the base class, the decorators, and what the agent reads off a driver class.

`_driver.py` is the base class and its rules about fields, `_composite.py` the node that only holds children,
`_console.py` the base of drivers with a console, `_export.py` the decorators, `_schema.py` JSON Schema from type
hints, `_method.py` one exported method and the binding of its arguments, `_interface.py` all methods of a class,
`_tree.py` the tree and its checks, `_package.py` which distribution a client class comes from, `_event.py` events as
they travel, `_resource.py` files as arguments, `_decompress.py` what is packed in them. Nothing here knows the
broker: a driver is a plain object that a unit test makes and calls.
"""

from ._composite import Composite
from ._console import Console, Tap
from ._driver import BASE_FIELDS, Driver, caller, marker_sink, progress_sink
from ._event import packed_event
from ._export import export, exportstream
from ._interface import interface_of, methods_of
from ._method import Method
from ._resource import Resource, ResourceFile, Resources, ResourceSink, ResourceStream, plain
from ._tree import Node, build_tree, check_tree, node_records

__all__ = [
    "BASE_FIELDS",
    "Composite",
    "Console",
    "Driver",
    "Method",
    "Node",
    "Resource",
    "ResourceFile",
    "ResourceSink",
    "ResourceStream",
    "Resources",
    "Tap",
    "build_tree",
    "caller",
    "check_tree",
    "export",
    "exportstream",
    "interface_of",
    "marker_sink",
    "methods_of",
    "node_records",
    "packed_event",
    "plain",
    "progress_sink",
]
