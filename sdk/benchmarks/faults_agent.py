"""What `AgentProcess` runs, in a container: with the service behind the board's forward in the same process."""

from __future__ import annotations

import os
import runpy

from faults_board import ECHO_PORT
from faults_traffic import echo_service

with echo_service() as port:
    os.environ[ECHO_PORT] = str(port)
    runpy.run_module("jsnats.agent.testing", run_name="__main__")
