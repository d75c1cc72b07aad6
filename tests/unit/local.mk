# Unit tests: GLib's test framework, TAP output, one program per module; flags and libraries are the top level's.
UNIT_TESTS += \
	tests/unit/test-event-loop \
	tests/unit/test-fd-pass \
	tests/unit/test-fd-store \
	tests/unit/test-fd-util \
	tests/unit/test-notify \
	tests/unit/test-process \
	tests/unit/test-supervise
