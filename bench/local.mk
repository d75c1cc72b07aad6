# Benchmarks run from the source tree.
EXTRA_DIST += bench/benchlib.py bench/logs bench/logload.c bench/logread.c bench/netload.c bench/network bench/footprint bench/supervision

# Both daemons without their supervision, for bench/supervision.
check_PROGRAMS += bench/netns-helper-alone bench/conmon-alone
bench_netns_helper_alone_SOURCES = bench/alone.c
bench_netns_helper_alone_LDFLAGS = $(AM_LDFLAGS) $(COMMON_RPATH) -Wl,--wrap=supervise_keeper_run
bench_netns_helper_alone_LDADD = $(netns_helper_netns_helper_OBJECTS) $(netns_helper_netns_helper_LDADD)
bench_conmon_alone_SOURCES = bench/alone.c
bench_conmon_alone_LDFLAGS = $(bench_netns_helper_alone_LDFLAGS)
bench_conmon_alone_LDADD = $(conmon_conmon_OBJECTS) $(conmon_conmon_LDADD)
