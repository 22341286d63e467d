"""The process that hosts exporters.

`_exporter.py` is one exporter from start to stop; `_dispatch.py` what happens to a call, `_control.py` the messages
about a running one, `_table.py` what is remembered of it, `_runner.py` where a driver's methods run, `_produce.py` and
`_publish.py` streams of results, `_presence.py` the exporter's name, `_admission.py` who may call, `_service.py` the
`$SRV` answers, `_config*.py` exporter.yaml.
"""

from ._exporter import Exporter, Spec
from ._presence import NameTaken

__all__ = ["Exporter", "NameTaken", "Spec"]
