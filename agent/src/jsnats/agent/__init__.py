"""The process that hosts exporters.

What is where:

    _exporter.py   one exporter, from start to stop; _lifecycle.py its drivers; _agent.py several in one process,
                   _reload.py as their files change
    _keeper.py     its lease, from grant to teardown: its states; _board.py what that does to calls and drivers,
                   _hooks.py the scripts before and after
    _dispatch.py   a call between its arrival and its start; _checks.py its headers, _lease.py who may call
    _execute.py    running it; _runner.py where a driver's methods run
    _produce.py    a generator, turned into batches; _publish.py batches, stored in order
    _bytes.py      two-way byte streams between a driver and a client
    _answers.py    what the caller is told; _table.py what is remembered of a call
    _recorder.py   what a console says, stored once and in order; _ring.py what waits for that
    _control.py    messages about a running call: cancel, probe, credit, attach, parts
    _outbox.py     what it tells on the side: put by at once, stored in order
    _logs.py       what its drivers log
    _events.py     what happens at it
    _audit.py      who called what
    _presence.py   the exporter's name; _service.py the answers to $SRV
    _resources*.py files that drivers read and make; _cache.py those of the host, _fetch.py those of http(s)
                   servers, _made.py what a thread makes and a cancelled call does not take
    _config*.py    exporter.yaml
    _up.py         broker, exporters and a shell in one, in a directory of _up_directory.py
    cli.py         the commands; _scaffold.py new drivers, _catalogue.py those that are installed
    testing.py     a driver with one of everything, an agent that can be killed
    _conformance*.py  what every driver has to keep to; _samples.py arguments for that
"""

from ._config import LoadedExporter, load
from ._exporter import Exporter, Spec
from ._hooks import Hook
from ._presence import NameTaken
from ._resources import FileSettings

__all__ = ["Exporter", "FileSettings", "Hook", "LoadedExporter", "NameTaken", "Spec", "load"]
