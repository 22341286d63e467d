from jsnats.agent.testing import conformance_tests
from jsnats_driver_power.driver import MockPower, SyncMockPower

test_mock_power = conformance_tests(MockPower)
test_sync_mock_power = conformance_tests(SyncMockPower)
