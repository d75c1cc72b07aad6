# Small programs that pin the kernel behaviour we rely on.
check_PROGRAMS += tests/kernel/test-gateway
TESTS += tests/kernel/test-gateway
tests_kernel_test_gateway_SOURCES = \
	tests/kernel/test-gateway.c \
	netns-helper/address-plan.c netns-helper/gate-frame.c netns-helper/gateway.c netns-helper/gateway-janitor.c \
	netns-helper/gateway-nft.c netns-helper/gateway-rtnl.c netns-helper/guest-configure.c netns-helper/keep-alive.c netns-helper/splice-pacing.c netns-helper/splice-table.c
tests_kernel_test_gateway_CFLAGS = $(AM_CFLAGS) $(GLIB_CFLAGS) $(MNL_CFLAGS) $(NFTNL_CFLAGS) $(CAP_CFLAGS)
tests_kernel_test_gateway_LDFLAGS = $(AM_LDFLAGS) -Wl,-rpath,'$$ORIGIN/../../lib/tandem'
tests_kernel_test_gateway_LDADD = $(COMMON_LIBS) $(NFTNL_LIBS) $(MNL_LIBS) $(GLIB_LIBS) $(CAP_LIBS)
