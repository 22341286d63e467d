from jsnats.agent.testing import conformance_tests
from jsnats_driver_shell.driver import Shell

test_shell = conformance_tests(
    lambda: Shell(methods={"wait": "sleep 60"}),
    arguments={"call_method": ["wait", {}]},
)
