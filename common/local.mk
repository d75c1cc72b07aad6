# The private shared library of both daemons. Not libtool's: a plain -shared link, so that the programs in the build tree are
# the real ones (engines look at /proc/PID/exe) and no wrapper script stands before them.
privlib_PROGRAMS = lib/tandem/libtandem-common.so
lib_tandem_libtandem_common_so_SOURCES = \
	common/confine.c common/confine.h \
	common/event-log.c common/event-log.h \
	common/event-loop.c common/event-loop.h \
	common/fd-keep.c common/fd-keep.h \
	common/fd-pass.c common/fd-pass.h \
	common/fd-store.c common/fd-store.h \
	common/fd-util.c common/fd-util.h \
	common/notify.c common/notify.h \
	common/process.c common/process.h \
	common/shared-memory.c common/shared-memory.h \
	common/state-file.c common/state-file.h \
	common/supervise.c common/supervise.h \
	common/supervise-report.c common/supervise-report.h \
	common/supervise-keeper.c common/supervise-private.h \
	common/supervise-worker.c
lib_tandem_libtandem_common_so_CFLAGS = $(AM_CFLAGS) -fPIC
lib_tandem_libtandem_common_so_LDFLAGS = $(AM_LDFLAGS) -shared -Wl,-soname,libtandem-common.so -Wl,--exclude-libs,ALL
lib_tandem_libtandem_common_so_LDADD = $(CAP_LIBS)
