bin_PROGRAMS += netns-helper/netns-helper
netns_helper_netns_helper_SOURCES = \
	netns-helper/main.c netns-helper/worker.h netns-helper/inbound.h \
	netns-helper/address-plan.c netns-helper/address-plan.h \
	netns-helper/api-list.c netns-helper/api-list.h \
	netns-helper/api-requests.c netns-helper/api-requests.h \
	netns-helper/api-socket.c netns-helper/api-socket.h \
	netns-helper/cgroup-watch.c netns-helper/cgroup-watch.h \
	netns-helper/checksum.h netns-helper/flow-table.c netns-helper/flow-table.h \
	netns-helper/frame-filter.c netns-helper/frame-filter.h \
	netns-helper/gate.c netns-helper/gate.h \
	netns-helper/gate-frame.c netns-helper/gate-frame.h \
	netns-helper/gateway.c netns-helper/gateway.h \
	netns-helper/gateway-janitor.c netns-helper/gateway-janitor.h \
	netns-helper/gateway-nft.c netns-helper/gateway-nft.h \
	netns-helper/gateway-rtnl.c netns-helper/gateway-rtnl.h \
	netns-helper/guest-configure.c \
	netns-helper/guest-link.c netns-helper/guest-link.h \
	netns-helper/ip-fragments.c netns-helper/ip-fragments.h \
	netns-helper/keep-alive.c netns-helper/keep-alive.h \
	netns-helper/keeper.c netns-helper/keeper.h \
	netns-helper/kept.c netns-helper/kept.h \
	netns-helper/options.c netns-helper/options.h \
	netns-helper/ports.c netns-helper/ports-text.c netns-helper/ports.h \
	netns-helper/rate-limit.c netns-helper/rate-limit.h \
	netns-helper/resolv-conf.c netns-helper/resolv-conf.h \
	netns-helper/sandbox.c netns-helper/sandbox.h \
	netns-helper/seccomp-filter.c netns-helper/seccomp-filter.h \
	netns-helper/shared-state.c netns-helper/shared-state.h \
	netns-helper/shortage.c netns-helper/shortage.h \
	netns-helper/slirp-engine.c netns-helper/slirp-engine.h netns-helper/slirp-private.h \
	netns-helper/slirp-connect.c netns-helper/slirp-forward.c netns-helper/slirp-stack.c \
	netns-helper/splice-engine.c netns-helper/splice-engine.h \
	netns-helper/splice-flow.c netns-helper/splice-flow.h \
	netns-helper/splice-keep.c netns-helper/splice-keep.h \
	netns-helper/splice-inbound.c netns-helper/splice-inbound.h \
	netns-helper/splice-nursery.c netns-helper/splice-nursery.h \
	netns-helper/splice-outbound.c netns-helper/splice-outbound.h \
	netns-helper/splice-pacing.c netns-helper/splice-pacing.h \
	netns-helper/splice-pipes.c netns-helper/splice-pipes.h \
	netns-helper/splice-private.h netns-helper/splice-pump.c netns-helper/splice-teardown.c \
	netns-helper/splice-policy.c netns-helper/splice-policy.h \
	netns-helper/splice-socket.c netns-helper/splice-socket.h \
	netns-helper/splice-table.c netns-helper/splice-table.h \
	netns-helper/usage.c netns-helper/usage.h \
	netns-helper/worker.c
netns_helper_netns_helper_CFLAGS = $(AM_CFLAGS) $(SLIRP_CFLAGS) $(JANSSON_CFLAGS) $(MNL_CFLAGS) $(NFTNL_CFLAGS) $(GLIB_CFLAGS) $(CAP_CFLAGS)
netns_helper_netns_helper_LDFLAGS = $(AM_LDFLAGS) $(COMMON_RPATH)
netns_helper_netns_helper_LDADD = $(COMMON_LIBS) $(SLIRP_LIBS) $(JANSSON_LIBS) $(NFTNL_LIBS) $(MNL_LIBS) $(GLIB_LIBS) $(CAP_LIBS)
nodist_netns_helper_netns_helper_SOURCES = netns-helper/seccomp-table.h
dist_man_MANS += netns-helper/netns-helper.1
netnshelperdocdir = $(docdir)/netns-helper
dist_netnshelperdoc_DATA = netns-helper/PROTOCOL.md

# The system call filters, compiled here and now. Where the machine that builds can't run programs of the one that they are for,
# $EMULATOR can (configure --help).
noinst_PROGRAMS += netns-helper/seccomp-compile
netns_helper_seccomp_compile_SOURCES = netns-helper/seccomp-compile.c
netns_helper_seccomp_compile_LDADD = $(SECCOMP_LIBS)
CLEANFILES += netns-helper/seccomp-table.h
netns-helper/netns_helper-seccomp-filter.$(OBJEXT) netns-helper/seccomp-filter.$(OBJEXT): netns-helper/seccomp-table.h
netns-helper/seccomp-table.h: netns-helper/seccomp-compile$(EXEEXT)
	$(AM_V_GEN)$(EMULATOR) netns-helper/seccomp-compile$(EXEEXT) >$@.tmp && mv $@.tmp $@
