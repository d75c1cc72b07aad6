# Unit tests: GLib's test framework, TAP output, one program per module; flags and libraries are the top level's.
UNIT_TESTS += \
	tests/unit/test-event-loop \
	tests/unit/test-fd-pass \
	tests/unit/test-fd-store \
	tests/unit/test-fd-util \
	tests/unit/test-notify \
	tests/unit/test-process \
	tests/unit/test-supervise

# The monitor's modules are compiled into their tests.
UNIT_TESTS += tests/unit/test-source tests/unit/test-exact-send tests/unit/test-log-file
EXTRA_DIST += tests/unit/kill-steps.h
tests_unit_test_source_SOURCES = tests/unit/test-source.c conmon/ring.c conmon/source.c
tests_unit_test_exact_send_SOURCES = tests/unit/test-exact-send.c conmon/exact-send.c
tests_unit_test_log_file_SOURCES = tests/unit/test-log-file.c conmon/diag.c conmon/exact-send.c conmon/ring.c \
	conmon/log/datagram.c conmon/log/driver.c conmon/log/file.c conmon/log/file-rotate.c conmon/log/journald.c \
	conmon/log/k8s-file.c
