include conmon/monitor.mk

bin_PROGRAMS += conmon/conmon
dist_man_MANS += conmon/conmon.8
EXTRA_DIST += conmon/PROTOCOL.md

# The process side: options, runtime, reaper, keeper.
conmon_process_sources = \
	conmon/child.c conmon/child.h \
	conmon/death-wire.c conmon/death-wire.h \
	conmon/diag.c conmon/diag.h \
	conmon/environment.c conmon/environment.h \
	conmon/exit-command.c conmon/exit-command.h \
	conmon/exit-report.c conmon/exit-report.h \
	conmon/front.c conmon/front.h \
	conmon/json-text.c conmon/json-text.h \
	conmon/keeper.c conmon/keeper.h \
	conmon/log-allowlist.c conmon/log-allowlist.h \
	conmon/network.c conmon/network.h \
	conmon/objects.c conmon/objects.h \
	conmon/oom.c conmon/oom.h \
	conmon/option-parser.c conmon/option-parser.h \
	conmon/options.c conmon/options.h \
	conmon/reaper.c conmon/reaper.h conmon/reaper-private.h conmon/reaper-state.h \
	conmon/reaper-create.c conmon/reaper-exit.c \
	conmon/runtime.c conmon/runtime.h \
	conmon/shared.c conmon/shared.h \
	conmon/sync-pipe.c conmon/sync-pipe.h \
	conmon/text.c conmon/text.h \
	conmon/utf8.c conmon/utf8.h \
	conmon/validation.c conmon/validation.h

conmon_conmon_SOURCES = conmon/main.c $(conmon_process_sources) $(conmon_monitor_sources)
conmon_conmon_CFLAGS = $(AM_CFLAGS)
conmon_conmon_LDFLAGS = $(AM_LDFLAGS) $(COMMON_RPATH)
conmon_conmon_LDADD = $(COMMON_LIBS)
