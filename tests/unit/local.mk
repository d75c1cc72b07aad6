# Unit tests: GLib's test framework, TAP output, one program per module; flags and libraries are the top level's.
UNIT_TESTS += \
	tests/unit/test-event-loop \
	tests/unit/test-fd-keep \
	tests/unit/test-fd-pass \
	tests/unit/test-fd-store \
	tests/unit/test-fd-util \
	tests/unit/test-notify \
	tests/unit/test-process \
	tests/unit/test-supervise \
	tests/unit/test-supervise-steps

# The monitor's modules are compiled into their tests.
UNIT_TESTS += tests/unit/test-source tests/unit/test-exact-send tests/unit/test-log-file tests/unit/test-rate tests/unit/test-backlog
tests_unit_test_backlog_SOURCES = tests/unit/test-backlog.c conmon/backlog.c conmon/ring.c
tests_unit_test_rate_SOURCES = tests/unit/test-rate.c conmon/rate.c
EXTRA_DIST += tests/unit/kill-steps.h tests/unit/supervise-rig.h
tests_unit_test_source_SOURCES = tests/unit/test-source.c conmon/ring.c conmon/source.c
tests_unit_test_exact_send_SOURCES = tests/unit/test-exact-send.c conmon/exact-send.c
tests_unit_test_log_file_SOURCES = tests/unit/test-log-file.c conmon/diag.c conmon/log-allowlist.c conmon/exact-send.c conmon/ring.c \
	conmon/log/address.c conmon/log/backups.c conmon/log/datagram.c conmon/log/driver.c conmon/log/file.c \
	conmon/log/file-compress.c conmon/log/file-rotate.c conmon/log/journald.c \
	conmon/log/json-file.c conmon/log/k8s-file.c conmon/log/stream.c conmon/log/syslog.c conmon/text.c conmon/utf8.c
UNIT_TESTS += tests/unit/test-log-stream
tests_unit_test_log_stream_SOURCES = tests/unit/test-log-stream.c conmon/diag.c conmon/log-allowlist.c conmon/exact-send.c conmon/ring.c \
	conmon/log/address.c conmon/log/backups.c conmon/log/datagram.c conmon/log/driver.c conmon/log/file.c \
	conmon/log/file-compress.c conmon/log/file-rotate.c conmon/log/journald.c \
	conmon/log/json-file.c conmon/log/k8s-file.c conmon/log/stream.c conmon/log/syslog.c conmon/text.c conmon/utf8.c

# So are those of the process side.
UNIT_TESTS += \
	tests/unit/test-child \
	tests/unit/test-exit-report \
	tests/unit/test-json-text \
	tests/unit/test-options \
	tests/unit/test-sync-pipe
tests_unit_test_child_SOURCES = tests/unit/test-child.c tests/unit/kill-somewhere.h conmon/child.c
tests_unit_test_exit_report_SOURCES = tests/unit/test-exit-report.c tests/unit/kill-somewhere.h \
	conmon/exit-report.c conmon/diag.c
tests_unit_test_json_text_SOURCES = tests/unit/test-json-text.c conmon/json-text.c conmon/utf8.c
tests_unit_test_options_SOURCES = tests/unit/test-options.c conmon/options.c conmon/validation.c conmon/log-allowlist.c \
	conmon/diag.c conmon/log/address.c conmon/option-parser.c conmon/text.c conmon/utf8.c
tests_unit_test_sync_pipe_SOURCES = tests/unit/test-sync-pipe.c tests/unit/kill-somewhere.h \
	conmon/sync-pipe.c conmon/json-text.c conmon/utf8.c conmon/diag.c

# netns-helper: the modules that need no worker
UNIT_TESTS += tests/unit/test-flow-table tests/unit/test-ports-text
tests_unit_test_flow_table_SOURCES = tests/unit/test-flow-table.c netns-helper/flow-table.c
tests_unit_test_ports_text_SOURCES = tests/unit/test-ports-text.c netns-helper/ports-text.c netns-helper/address-plan.c
UNIT_TESTS += tests/unit/test-ip-fragments
tests_unit_test_ip_fragments_SOURCES = tests/unit/test-ip-fragments.c netns-helper/ip-fragments.c
UNIT_TESTS += tests/unit/test-seccomp-filter
UNIT_TESTS += tests/unit/test-splice-keep
tests_unit_test_splice_keep_SOURCES = tests/unit/test-splice-keep.c netns-helper/splice-keep.c netns-helper/splice-socket.c \
	netns-helper/splice-table.c
tests_unit_test_seccomp_filter_SOURCES = tests/unit/test-seccomp-filter.c netns-helper/seccomp-filter.c
