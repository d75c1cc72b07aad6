# The chaos run: "make chaos" is 1,000 kills and the report; a short seeded run is part of check.
check_PROGRAMS += tests/chaos/load
tests_chaos_load_SOURCES = tests/chaos/load.c
# Static, and without sanitizers: it also runs inside containers.
tests_chaos_load_CFLAGS = -std=gnu11 -O2 -Wall -Wextra -Wno-unused-parameter
tests_chaos_load_LDFLAGS = -static
tests_chaos_load_LDADD =
TESTS += tests/chaos/short-run.py tests/chaos/conmon-network.py
EXTRA_DIST += tests/chaos/chaos.py tests/chaos/conmon-network.py tests/chaos/conmon_rig.py tests/chaos/ledger.py tests/chaos/network_rig.py \
	tests/chaos/podman_rig.py tests/chaos/short-run.py tests/chaos/world.py

CHAOS_KILLS = 1000
CHAOS_SECONDS = 600
CHAOS_FLAGS = --levels conmon,network,podman-root,podman-rootless
chaos: all tests/chaos/load
	TANDEM_BUILDDIR='$(abs_top_builddir)' /usr/bin/python3 $(srcdir)/tests/chaos/chaos.py --kills $(CHAOS_KILLS) \
		--seconds $(CHAOS_SECONDS) $(CHAOS_FLAGS)
.PHONY: chaos
