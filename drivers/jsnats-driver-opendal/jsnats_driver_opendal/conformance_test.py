from jsnats.agent.testing import conformance_tests
from jsnats_driver_opendal.driver import MockFlasher, MockStorageMux, Opendal

test_opendal = conformance_tests(lambda: Opendal(scheme="memory", kwargs={}))
test_mock_flasher = conformance_tests(MockFlasher)
test_mock_storage_mux = conformance_tests(MockStorageMux)
