#pragma once
/*
 * The command line (N-9 to N-49). One struct, filled once, passed on const.
 */
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#define OPTIONS_MTU_MIN 68 /* smallest MTU of an IPv4 link and of a tap (N-49) */
#define OPTIONS_MTU_MAX 65521 /* largest of a tap and of libslirp (N-13, N-266) */
#define OPTIONS_PUBLISH_MAX 256 /* -p options in one call */

typedef enum {
	TARGET_PID, /* decimal PID of a process in the target namespaces */
	TARGET_PATH, /* network namespace file */
	TARGET_TAP_FD, /* an inherited tap (N-202) */
	TARGET_BESS, /* unix SOCK_SEQPACKET listener, one message is one frame (N-200) */
} TargetKind;

typedef enum {
	DATA_PATH_AUTO,
	DATA_PATH_SLIRP,
	DATA_PATH_SPLICE,
} DataPath;

typedef struct {
	TargetKind target_kind;
	const char *target; /* text of TARGET */
	int target_pid; /* TARGET_PID */
	int target_fd; /* TARGET_TAP_FD */
	const char *tap_name; /* NULL for TARGET_TAP_FD and TARGET_BESS */
	const char *userns_path;

	bool configure;
	int exit_fd; /* -1: none */
	int ready_fd; /* -1: none */
	unsigned mtu; /* bytes */
	bool enable_ipv6;
	const char *api_socket;
	const char *cidr; /* text; see AddressPlan */
	bool disable_host_loopback;
	bool disable_dns;
	bool enable_sandbox;
	bool sandbox_strict; /* refuse where a sandbox step is not allowed, instead of the next best step */
	bool enable_seccomp;
	const char *outbound_addr;
	const char *outbound_addr6;
	const char *macaddress; /* text; NULL: random */
	DataPath data_path;
	bool stop_on_worker_failure; /* end when no worker can be started any more; else try on */
	bool inbound_gateway; /* spliced clients of published ports appear as the gateway, not as themselves */

	const char *publish[OPTIONS_PUBLISH_MAX]; /* texts of -p */
	size_t n_publish;
} Options;

/**
 * Parse the command line. Everything that can be judged from the text alone is judged here.
 *
 * @param argc         as in main()
 * @param argv         as in main(); the strings must outlive @p ret_options
 * @param ret_options  filled on success
 * @return -1: go on; otherwise the exit status to end with at once (help, version, errors), all output done
 */
int options_parse(int argc, char **argv, Options *ret_options);
