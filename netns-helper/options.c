#include "config.h"

#include "netns-helper/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "netns-helper/usage.h"

enum {
	OPT_CIDR = 1000, /* above every character */
	OPT_DISABLE_HOST_LOOPBACK,
	OPT_NETNS_TYPE,
	OPT_USERNS_PATH,
	OPT_ENABLE_SANDBOX,
	OPT_ENABLE_SECCOMP,
	OPT_OUTBOUND_ADDR,
	OPT_OUTBOUND_ADDR6,
	OPT_DISABLE_DNS,
	OPT_MACADDRESS,
	OPT_TARGET_TYPE,
	OPT_NO_HOST_LOOPBACK,
	OPT_CREATE_SANDBOX,
	OPT_SANDBOX,
	OPT_DATA_PATH,
	OPT_INBOUND_SOURCE,
	OPT_ON_WORKER_FAILURE,
};

static const struct option long_options[] = {
	{"configure", no_argument, NULL, 'c'},
	{"exit-fd", required_argument, NULL, 'e'},
	{"ready-fd", required_argument, NULL, 'r'},
	{"mtu", required_argument, NULL, 'm'},
	{"enable-ipv6", no_argument, NULL, '6'},
	{"api-socket", required_argument, NULL, 'a'},
	{"publish", required_argument, NULL, 'p'},
	{"cidr", required_argument, NULL, OPT_CIDR},
	{"disable-host-loopback", no_argument, NULL, OPT_DISABLE_HOST_LOOPBACK},
	{"netns-type", required_argument, NULL, OPT_NETNS_TYPE},
	{"userns-path", required_argument, NULL, OPT_USERNS_PATH},
	{"enable-sandbox", no_argument, NULL, OPT_ENABLE_SANDBOX},
	{"enable-seccomp", no_argument, NULL, OPT_ENABLE_SECCOMP},
	{"outbound-addr", required_argument, NULL, OPT_OUTBOUND_ADDR},
	{"outbound-addr6", required_argument, NULL, OPT_OUTBOUND_ADDR6},
	{"disable-dns", no_argument, NULL, OPT_DISABLE_DNS},
	{"macaddress", required_argument, NULL, OPT_MACADDRESS},
	{"target-type", required_argument, NULL, OPT_TARGET_TYPE},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'v'},
	{"no-host-loopback", no_argument, NULL, OPT_NO_HOST_LOOPBACK},
	{"create-sandbox", no_argument, NULL, OPT_CREATE_SANDBOX},
	{"sandbox", required_argument, NULL, OPT_SANDBOX},
	{"data-path", required_argument, NULL, OPT_DATA_PATH},
	{"inbound-source", required_argument, NULL, OPT_INBOUND_SOURCE},
	{"on-worker-failure", required_argument, NULL, OPT_ON_WORKER_FAILURE},
	{0},
};

/* What only the checks after the last option need. */
typedef struct {
	const char *exit_fd, *ready_fd, *mtu, *netns_type, *target_type;
} RawOptions;

typedef enum {
	WORD_NETNS_PID,
	WORD_NETNS_PATH,
	WORD_NETNS_TAPFD,
} NetnsWord;

static int usage_error(void)
{
	(void)usage_print_help(stdout); /* the exit status says it all */
	return EXIT_FAILURE;
}

/* N-33: decimal, leading blanks and '+' allowed, nothing behind; empty and overlong values are refused. */
static int parse_int(const char *text, long min, long max, long *ret_value)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (end == text || *end != '\0')
		return -EINVAL;
	if (errno == ERANGE || value < min || value > max)
		return -ERANGE;
	*ret_value = value;
	return 0;
}

static int parse_fd(const char *option, const char *text, int *ret_fd)
{
	long value;

	if (parse_int(text, 0, INT_MAX, &value) < 0) {
		fprintf(stderr, "%s: \"%s\" is not a descriptor number (an integer from 0)\n", option, text);
		return -EINVAL;
	}
	*ret_fd = (int)value;
	return 0;
}

static int parse_choice(const char *option, const char *text, const char *const *words, int *ret_index)
{
	for (int i = 0; words[i]; i++) {
		if (strcmp(text, words[i]) == 0) {
			*ret_index = i;
			return 0;
		}
	}
	fprintf(stderr, "%s: \"%s\" is not one of:", option, text);
	for (int i = 0; words[i]; i++)
		fprintf(stderr, " %s", words[i]);
	fputc('\n', stderr);
	return -EINVAL;
}

static int add_publish(Options *options, const char *text)
{
	if (options->n_publish == OPTIONS_PUBLISH_MAX) {
		fprintf(stderr, "--publish: more than %d of them; use a range or the API socket\n",
			OPTIONS_PUBLISH_MAX);
		return -EINVAL;
	}
	options->publish[options->n_publish++] = text;
	return 0;
}

/* One option of our own or with a check that the contract wants during parsing. */
static int take_checked(Options *options, int opt, const char *value)
{
	static const char *const sandbox_words[] = {"auto", "strict", NULL};
	static const char *const path_words[] = {"auto", "slirp", "splice", NULL};
	static const char *const source_words[] = {"client", "gateway", NULL};
	static const char *const failure_words[] = {"continue", "stop", NULL};
	int index;

	switch (opt) {
	case 'p':
		return add_publish(options, value);
	case OPT_USERNS_PATH:
		options->userns_path = value;
		if (access(value, F_OK) == 0)
			return 0;
		fprintf(stderr, "--userns-path: %s: %s\n", value, strerror(errno));
		return -EINVAL;
	case OPT_SANDBOX:
		if (parse_choice("--sandbox", value, sandbox_words, &index) < 0)
			return -EINVAL;
		options->sandbox_strict = index == 1;
		return 0;
	case OPT_DATA_PATH:
		if (parse_choice("--data-path", value, path_words, &index) < 0)
			return -EINVAL;
		options->data_path = (DataPath)index;
		return 0;
	case OPT_INBOUND_SOURCE:
		if (parse_choice("--inbound-source", value, source_words, &index) < 0)
			return -EINVAL;
		options->inbound_gateway = index == 1;
		return 0;
	case OPT_ON_WORKER_FAILURE:
		if (parse_choice("--on-worker-failure", value, failure_words, &index) < 0)
			return -EINVAL;
		options->stop_on_worker_failure = index == 1;
		return 0;
	}
	return -EINVAL; /* getopt has said what is wrong */
}

static int take_option(Options *options, RawOptions *raw, int opt, const char *value)
{
	switch (opt) {
	case 'c':
		options->configure = true;
		return 0;
	case 'e':
		raw->exit_fd = value;
		return 0;
	case 'r':
		raw->ready_fd = value;
		return 0;
	case 'm':
		raw->mtu = value;
		return 0;
	case '6':
		options->enable_ipv6 = true;
		return 0;
	case 'a':
		options->api_socket = value;
		return 0;
	case OPT_CIDR:
		options->cidr = value;
		return 0;
	case OPT_NO_HOST_LOOPBACK:
		fprintf(stderr, "--no-host-loopback is deprecated, use --disable-host-loopback\n");
		/* fall through */
	case OPT_DISABLE_HOST_LOOPBACK:
		options->disable_host_loopback = true;
		return 0;
	case OPT_CREATE_SANDBOX:
		fprintf(stderr, "--create-sandbox is deprecated, use --enable-sandbox\n");
		/* fall through */
	case OPT_ENABLE_SANDBOX:
		options->enable_sandbox = true;
		return 0;
	case OPT_ENABLE_SECCOMP:
		options->enable_seccomp = true;
		return 0;
	case OPT_NETNS_TYPE:
		raw->netns_type = value;
		return 0;
	case OPT_TARGET_TYPE:
		raw->target_type = value;
		return 0;
	case OPT_OUTBOUND_ADDR:
		options->outbound_addr = value;
		return 0;
	case OPT_OUTBOUND_ADDR6:
		options->outbound_addr6 = value;
		return 0;
	case OPT_DISABLE_DNS:
		options->disable_dns = true;
		return 0;
	case OPT_MACADDRESS:
		options->macaddress = value;
		return 0;
	default:
		return take_checked(options, opt, value);
	}
}

static int check_numbers(Options *options, const RawOptions *raw)
{
	long mtu;

	if (raw->exit_fd && parse_fd("--exit-fd", raw->exit_fd, &options->exit_fd) < 0)
		return -EINVAL;
	if (raw->ready_fd && parse_fd("--ready-fd", raw->ready_fd, &options->ready_fd) < 0)
		return -EINVAL;
	if (!raw->mtu)
		return 0;
	if (parse_int(raw->mtu, OPTIONS_MTU_MIN, OPTIONS_MTU_MAX, &mtu) < 0) {
		fprintf(stderr, "--mtu: \"%s\" is not an MTU from %d to %d\n", raw->mtu, OPTIONS_MTU_MIN,
			OPTIONS_MTU_MAX);
		return -EINVAL;
	}
	options->mtu = (unsigned)mtu;
	return 0;
}

/* Sets target_kind from --target-type and --netns-type, and refuses what does not go together (N-37 to N-39). */
static int check_kinds(Options *options, const RawOptions *raw)
{
	static const char *const target_words[] = {"netns", "bess", NULL};
	static const char *const netns_words[] = {"pid", "path", "tapfd", NULL};
	static const TargetKind kinds[] = {TARGET_PID, TARGET_PATH, TARGET_TAP_FD};
	int target = 0, netns = WORD_NETNS_PID;

	if (options->macaddress && !options->configure) {
		fprintf(stderr,
			"--macaddress needs --configure: the interface is set up by the caller otherwise\n");
		return -EINVAL;
	}
	if (raw->target_type && parse_choice("--target-type", raw->target_type, target_words, &target) < 0)
		return -EINVAL;
	if (target == 1) {
		const char *conflict = options->configure     ? "--configure"
				       : raw->netns_type      ? "--netns-type"
				       : options->userns_path ? "--userns-path"
							      : NULL;

		if (conflict) {
			fprintf(stderr, "--target-type=bess has no namespace: it cannot go with %s\n",
				conflict);
			return -EINVAL;
		}
		options->target_kind = TARGET_BESS;
		return 0;
	}
	if (raw->netns_type && parse_choice("--netns-type", raw->netns_type, netns_words, &netns) < 0)
		return -EINVAL;
	options->target_kind = kinds[netns];
	if (options->target_kind == TARGET_TAP_FD && options->configure) {
		fprintf(stderr, "--netns-type=tapfd: the tap is configured by who made it: --configure "
				"cannot be done\n");
		return -EINVAL;
	}
	return 0;
}

static int check_target(Options *options)
{
	long pid;

	switch (options->target_kind) {
	case TARGET_PID:
		if (parse_int(options->target, 1, INT_MAX, &pid) < 0) {
			fprintf(stderr, "\"%s\" is not a PID (use --netns-type=path for a file)\n",
				options->target);
			return -EINVAL;
		}
		options->target_pid = (int)pid;
		return 0;
	case TARGET_PATH:
		if (access(options->target, F_OK) < 0) {
			fprintf(stderr, "network namespace %s: %s\n", options->target, strerror(errno));
			return -EINVAL;
		}
		return 0;
	case TARGET_TAP_FD:
		return parse_fd("--netns-type=tapfd: target", options->target, &options->target_fd);
	case TARGET_BESS:
		return 0;
	}
	return -EINVAL;
}

static int check_tap_name(const char *name)
{
	/* The kernel would cut a long name and invent one for an empty one: N-68. */
	if (name[0] != '\0' && strlen(name) <= 15 && !strchr(name, '/') && !strchr(name, '%'))
		return 0;
	fprintf(stderr, "interface name \"%s\": must have 1 to 15 characters, none of them '/' or '%%'\n",
		name);
	return -EINVAL;
}

static int check_positionals(Options *options, int n, char **words)
{
	bool with_name = options->target_kind == TARGET_PID || options->target_kind == TARGET_PATH;
	int wanted = with_name ? 2 : 1;

	if (n < wanted)
		return -EINVAL; /* N-32: usage only */
	if (n > wanted && options->target_kind == TARGET_BESS) {
		fprintf(stderr,
			"--target-type=bess takes one argument, the socket path; \"%s\" is too much\n",
			words[1]);
		return -EINVAL;
	}
	options->target = words[0];
	if (with_name) {
		options->tap_name = words[1];
		if (check_tap_name(options->tap_name) < 0)
			return -EINVAL;
	}
	for (int i = wanted; i < n; i++)
		printf("WARNING: extra argument \"%s\" ignored\n", words[i]);
	return 0;
}

int options_parse(int argc, char **argv, Options *ret_options)
{
	Options options = {
		.exit_fd = -1,
		.ready_fd = -1,
		.target_fd = -1,
		.mtu = 1500,
		.cidr = "10.0.2.0/24",
	};
	RawOptions raw = {0};
	int opt;

	while ((opt = getopt_long(argc, argv, "ce:r:m:a:6hvp:", long_options, NULL)) != -1) {
		if (opt == 'h')
			return usage_print_help(stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
		if (opt == 'v')
			return usage_print_version(stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
		if (take_option(&options, &raw, opt, optarg) < 0)
			return usage_error();
	}
	if (check_numbers(&options, &raw) < 0 || check_kinds(&options, &raw) < 0 ||
		check_positionals(&options, argc - optind, argv + optind) < 0 || check_target(&options) < 0)
		return usage_error();
	if (options.api_socket && options.api_socket[0] == '\0') {
		fprintf(stderr, "--api-socket: the path is empty\n");
		return usage_error();
	}
	*ret_options = options;
	return -1;
}
