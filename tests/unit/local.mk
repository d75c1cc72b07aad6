# Unit tests: GLib's test framework, TAP output. One program per module.
UNIT_LIBS = $(COMMON_LIBS) $(GLIB_LIBS)
UNIT_CFLAGS = $(AM_CFLAGS) $(GLIB_CFLAGS)
UNIT_TESTS += \
	tests/unit/test-event-loop \
	tests/unit/test-fd-pass \
	tests/unit/test-fd-store \
	tests/unit/test-fd-util \
	tests/unit/test-notify \
	tests/unit/test-process \
	tests/unit/test-supervise

UNIT_RPATH = -Wl,-rpath,'$$ORIGIN/../../lib/tandem'
tests_unit_test_event_loop_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_event_loop_LDADD = $(UNIT_LIBS)
tests_unit_test_event_loop_LDFLAGS = $(AM_LDFLAGS) $(UNIT_RPATH)
tests_unit_test_fd_pass_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_fd_pass_LDADD = $(UNIT_LIBS)
tests_unit_test_fd_pass_LDFLAGS = $(AM_LDFLAGS) $(UNIT_RPATH)
tests_unit_test_fd_store_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_fd_store_LDADD = $(UNIT_LIBS)
tests_unit_test_fd_store_LDFLAGS = $(AM_LDFLAGS) $(UNIT_RPATH)
tests_unit_test_fd_util_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_fd_util_LDADD = $(UNIT_LIBS)
tests_unit_test_fd_util_LDFLAGS = $(AM_LDFLAGS) $(UNIT_RPATH)
tests_unit_test_notify_CFLAGS = $(UNIT_CFLAGS) $(SYSTEMD_CFLAGS)
tests_unit_test_notify_LDADD = $(UNIT_LIBS) $(SYSTEMD_LIBS)
tests_unit_test_notify_LDFLAGS = $(AM_LDFLAGS) $(UNIT_RPATH)
tests_unit_test_process_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_process_LDADD = $(UNIT_LIBS)
tests_unit_test_process_LDFLAGS = $(AM_LDFLAGS) $(UNIT_RPATH)
tests_unit_test_supervise_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_supervise_LDADD = $(UNIT_LIBS)
tests_unit_test_supervise_LDFLAGS = $(AM_LDFLAGS) $(UNIT_RPATH)
