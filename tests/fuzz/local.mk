# Fuzz targets (tests/fuzz/run fuzzes them with libFuzzer); make check replays the corpus.
FUZZ_TARGETS = tests/fuzz/fuzz-frame tests/fuzz/fuzz-gate tests/fuzz/fuzz-api
check_PROGRAMS += $(FUZZ_TARGETS)
TESTS += $(FUZZ_TARGETS)
fuzz_common = tests/fuzz/replay.c tests/fuzz/isolate.c tests/fuzz/isolate.h
fuzz_libs = $(COMMON_LIBS) $(TEST_RPATH) $(SLIRP_LIBS) $(JANSSON_LIBS) $(GLIB_LIBS)
tests_fuzz_fuzz_frame_SOURCES = $(fuzz_common) tests/fuzz/fuzz-frame.c \
	netns-helper/address-plan.c netns-helper/flow-table.c netns-helper/rate-limit.c netns-helper/shared-state.c \
	netns-helper/frame-filter.c netns-helper/ip-fragments.c netns-helper/keep-alive.c netns-helper/shortage.c \
	netns-helper/slirp-connect.c netns-helper/slirp-engine.c netns-helper/slirp-forward.c netns-helper/slirp-stack.c
tests_fuzz_fuzz_frame_LDADD = $(fuzz_libs)
tests_fuzz_fuzz_gate_SOURCES = $(fuzz_common) tests/fuzz/fuzz-gate.c \
	netns-helper/frame-filter.c netns-helper/gate.c netns-helper/gate-frame.c netns-helper/splice-table.c
tests_fuzz_fuzz_gate_LDADD = $(fuzz_libs)
tests_fuzz_fuzz_api_SOURCES = $(fuzz_common) tests/fuzz/fuzz-api.c \
	netns-helper/address-plan.c netns-helper/api-list.c netns-helper/api-requests.c netns-helper/flow-table.c \
	netns-helper/ports.c netns-helper/ports-text.c netns-helper/shared-state.c
tests_fuzz_fuzz_api_LDADD = $(fuzz_libs)
EXTRA_DIST += tests/fuzz/make-corpus tests/fuzz/run tests/fuzz/corpus-frame tests/fuzz/corpus-gate tests/fuzz/corpus-api
