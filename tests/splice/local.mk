# The fast path: what it must survive, whom it must resist, and that applications can't tell it from the host's own network.
SPLICE_TESTS = \
	tests/splice/semantics.py \
	tests/splice/hostile.py \
	tests/splice/pacing.py \
	tests/splice/survival.py \
	tests/splice/kill-steps.py
TESTS += $(SPLICE_TESTS)
EXTRA_DIST += $(SPLICE_TESTS)
check_PROGRAMS += tests/splice/kill-at
tests_splice_kill_at_SOURCES = tests/splice/kill-at.c

# unit tests of its modules
UNIT_TESTS += tests/unit/test-gate-frame tests/unit/test-splice-policy
tests_unit_test_gate_frame_SOURCES = tests/unit/test-gate-frame.c \
	netns-helper/frame-filter.c netns-helper/gate-frame.c netns-helper/splice-table.c
tests_unit_test_gate_frame_CFLAGS = $(AM_CFLAGS) $(GLIB_CFLAGS)
tests_unit_test_splice_policy_SOURCES = tests/unit/test-splice-policy.c \
	netns-helper/address-plan.c netns-helper/frame-filter.c netns-helper/resolv-conf.c netns-helper/splice-policy.c \
	netns-helper/splice-table.c
tests_unit_test_splice_policy_CFLAGS = $(AM_CFLAGS) $(GLIB_CFLAGS)
