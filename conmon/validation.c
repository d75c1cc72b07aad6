#include "config.h"

#include "conmon/validation.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "conmon/diag.h"
#include "conmon/log-allowlist.h"
#include "conmon/log/driver.h"
#include "conmon/text.h"

#define LOG_RATE_MAX (100LL * 1000 * 1000 * 1000) /* per second; no overflow in rate.c */
#define LOG_RATE_BURST_MAX 3600 /* seconds */
#define ATTACH_STALL_MAX 86400 /* seconds */
#define ATTACH_BACKLOG_MAX (1LL << 40) /* bytes */
#define LOG_FIELDS_MAX (192 * 1024) /* bytes; with a record below LOG_OUT_SIZE */
#define LOG_FIELDS_JSON_MAX (32 * 1024) /* the same if each byte becomes six */
#define JOURNALD_CID_MIN 13 /* characters: CONTAINER_ID is its first 12 */

/* Checks 1 to 3 come before there is a level or an identity: they are printed as they are. */
static int check_early(const ConmonOptions *o)
{
	if (o->log_max_files < 0) {
		fprintf(stderr, "conmon: log-max-files must be non-negative, got %d\n", o->log_max_files);
		return -EINVAL;
	}
	if (o->log_rotate && o->log_max_files == 0) {
		fprintf(stderr,
			"conmon: log-max-files must be at least 1 when log-rotate is enabled, got 0\n");
		return -EINVAL;
	}
	if (!o->cid) {
		fprintf(stderr, "conmon: Container ID not provided. Use --cid\n");
		return -EINVAL;
	}
	return 0;
}

int options_start_diagnostics(const ConmonOptions *o)
{
	DiagLevel level;

	if (o->syslog)
		diag_use_syslog(o->cid, o->log_tag);
	if (diag_level_parse(o->log_level, &level) < 0) {
		diag_error("No such log level %s", o->log_level);
		return -EINVAL;
	}
	diag_set_level(level);
	return 0;
}

static int check_mode(const ConmonOptions *o)
{
	if (o->is_restore && o->is_exec) {
		diag_error("Cannot use 'exec' and 'restore' at the same time");
		return -EINVAL;
	}
	if (o->exec_attach && !o->is_exec) {
		diag_error("Attach can only be specified with exec");
		return -EINVAL;
	}
	if (o->exec_attach && !o->api_version) {
		diag_error("Attach can only be specified for a non-legacy exec session");
		return -EINVAL;
	}
	if (!o->cuuid && !(o->is_exec && !o->api_version)) {
		diag_error("Container UUID not provided. Use --cuuid");
		return -EINVAL;
	}
	return 0;
}

static int check_runtime(const ConmonOptions *o)
{
	if (!o->runtime) {
		diag_error("Runtime path not provided. Use --runtime");
		return -EINVAL;
	}
	if (access(o->runtime, X_OK) < 0) { /* only that: C-20 */
		diag_error_errno(errno, "Runtime path %s is not valid", o->runtime);
		return -EINVAL;
	}
	if (o->is_exec && !o->exec_process_spec) {
		diag_error("Exec process spec path not provided. Use --exec-process-spec");
		return -EINVAL;
	}
	return 0;
}

static int complete_paths(ConmonOptions *o)
{
	char *cwd = getcwd(NULL, 0); /* for the life of the process */

	if (!cwd) {
		diag_error("Failed to get working directory");
		return -EINVAL;
	}
	if (!o->bundle && !o->is_exec)
		o->bundle = cwd;
	if (!o->container_pidfile)
		o->container_pidfile = text_format("%s/pidfile-%s", cwd, o->cid);
	if (o->exit_delay < 0) {
		diag_error("Delay before invoking exit command must be greater than or equal to 0");
		return -EINVAL;
	}
	return 0;
}

static bool is_discard(const char *driver)
{
	return strcmp(driver, "off") == 0 || strcmp(driver, "null") == 0 || strcmp(driver, "none") == 0;
}

static bool is_driver(const char *name)
{
	return is_discard(name) || strcmp(name, "journald") == 0 || strcmp(name, "passthrough") == 0 ||
	       strcmp(name, "k8s-file") == 0 || strcmp(name, "json-file") == 0 || strcmp(name, "syslog") == 0;
}

static int use_k8s_file(ConmonOptions *o, const char *path)
{
	if (!path || path[0] == '\0') {
		diag_error("k8s-file requires a filename");
		return -EINVAL;
	}
	o->log_k8s_path = path;
	o->log_k8s = true;
	return 0;
}

static int use_json_file(ConmonOptions *o, const char *path)
{
	if (!path || path[0] == '\0') {
		diag_error("json-file requires a filename");
		return -EINVAL;
	}
	o->log_json_path = path;
	return 0;
}

static int use_syslog(ConmonOptions *o, const char *address)
{
	struct sockaddr_storage addr;

	if (!address || address[0] == '\0')
		address = "/dev/log";
	if (log_address_parse(address, &addr) == 0) {
		diag_error("syslog needs the path of a socket, udp:IP:PORT or tcp:IP:PORT, not '%s'", address);
		return -EINVAL;
	}
	o->log_syslog_address = address;
	return 0;
}

/*
 * "driver", "driver:", "driver:path", "path", ":path" (C-136). Only a known driver name is split off, at the first colon, so paths
 * may contain colons (C-139).
 */
static int parse_log_path(ConmonOptions *o, const char *value)
{
	const char *colon = strchr(value, ':'), *path = colon ? colon + 1 : NULL;
	text_auto char *driver = text_copy(value, colon ? (size_t)(colon - value) : strlen(value));

	if (value[strspn(value, ":")] == '\0') {
		diag_error("log-path must not be empty");
		return -EINVAL;
	}
	if (driver[0] == '\0')
		return use_k8s_file(o, path);
	if (!is_driver(driver)) {
		if (!colon || value[0] == '/' || value[0] == '.')
			return use_k8s_file(o, value);
		diag_error("No such log driver %s", driver);
		return -EINVAL;
	}
	if (strcmp(driver, "k8s-file") == 0)
		return use_k8s_file(o, path);
	if (strcmp(driver, "json-file") == 0)
		return use_json_file(o, path);
	if (strcmp(driver, "syslog") == 0)
		return use_syslog(o, path);
	if (strcmp(driver, "journald") == 0)
		o->log_journald = true;
	else if (strcmp(driver, "passthrough") == 0)
		o->log_passthrough = true;
	return 0; /* none: this value adds nothing */
}

static int check_log_paths(ConmonOptions *o)
{
	if (!o->log_paths[0]) {
		diag_error("Log driver not provided. Use --log-path");
		return -EINVAL;
	}
	for (char **value = o->log_paths; *value; value++) {
		int r = parse_log_path(o, *value);

		if (r < 0)
			return r;
	}
	return 0;
}

static int open_log_file(ConmonOptions *o)
{
	int fd;

	if (!o->log_k8s)
		return 0;
	if (!log_allowlist_permits(o->log_k8s_path, o->log_allowlist_dirs)) {
		diag_error(
			"Failed to open log file %s: it is in none of the directories of --log-allowlist-dir",
			o->log_k8s_path);
		return -EINVAL;
	}
	fd = log_k8s_open(o->log_k8s_path);
	if (fd < 0) {
		diag_error_errno(fd, "Failed to open log file");
		return -EINVAL;
	}
	o->log_k8s_fd = fd;
	return 0;
}

/* The monitor opens it; whether it can is found out here. */
static int try_json_file(const ConmonOptions *o)
{
	int fd;

	if (!o->log_json_path)
		return 0;
	if (!log_allowlist_permits(o->log_json_path, o->log_allowlist_dirs)) {
		diag_error("Failed to open log file %s: it is in none of the directories of --log-allowlist-dir",
			o->log_json_path);
		return -EINVAL;
	}
	fd = log_k8s_open(o->log_json_path);
	if (fd < 0) {
		diag_error_errno(fd, "Failed to open log file %s", o->log_json_path);
		return -EINVAL;
	}
	close(fd);
	return 0;
}

static int check_label(const char *label)
{
	const char *equals = strchr(label, '=');

	if (equals == label) {
		diag_error(
			"Container labels must be in format LABEL=VALUE (no LABEL present in '%s')", label);
		return -EINVAL;
	}
	if (!equals || strchr(equals + 1, '=')) {
		diag_error("Container labels must be in format LABEL=VALUE (none or more than one '=' "
			   "present in '%s')",
			label);
		return -EINVAL;
	}
	if (strspn(label, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != (size_t)(equals - label)) {
		diag_error("Container label names must contain only uppercase letters, numbers and "
			   "underscore (in '%s')",
			label);
		return -EINVAL;
	}
	return 0;
}

/* Each record carries them; one that does not fit into the buffer could never be written. */
static int check_fields_size(const ConmonOptions *o)
{
	size_t max = o->log_json_path ? LOG_FIELDS_JSON_MAX : LOG_FIELDS_MAX, size = 0;

	for (char **label = o->log_labels; *label; label++)
		size += strlen(*label);
	size += o->log_tag ? strlen(o->log_tag) : 0;
	if (size <= max)
		return 0;
	diag_error("--log-tag and --log-label have %zu bytes together; %s takes %zu", size,
		o->log_json_path ? "json-file" : "a log", max);
	return -EINVAL;
}

static int check_log_fields(const ConmonOptions *o)
{
	bool only_file = o->log_k8s && !o->log_journald && !o->log_json_path && !o->log_syslog_address;

	if (only_file && o->log_tag) {
		diag_error("k8s-file doesn't support --log-tag");
		return -EINVAL;
	}
	if (only_file && o->log_labels[0]) {
		diag_error("k8s-file doesn't support --log-label");
		return -EINVAL;
	}
	if (o->log_journald && strlen(o->cid) < JOURNALD_CID_MIN) {
		diag_error("Container ID must be longer than 12 characters");
		return -EINVAL;
	}
	for (char **label = o->log_labels; *label; label++) {
		int r = check_label(*label);

		if (r < 0)
			return r;
	}
	if (check_fields_size(o) < 0)
		return -EINVAL;
	if (o->no_container_partial_message && !o->log_journald)
		diag_warn("--no-container-partial-message has no effect without journald log driver");
	return 0;
}

/* @return its absolute path, as execvp(3) would find it, to be freed; NULL: there is none */
static char *find_program(const char *name)
{
	const char *dirs = getenv("PATH");

	for (size_t size; dirs && *dirs; dirs += size + (dirs[size] == ':')) {
		text_auto char *path = NULL;
		char *found;

		size = strcspn(dirs, ":");
		if (dirs[0] != '/') /* the working directory is the container's */
			continue;
		path = text_format("%.*s/%s", (int)size, dirs, name);
		if (access(path, X_OK) < 0)
			continue;
		found = path;
		path = NULL;
		return found;
	}
	return NULL;
}

/* Where it is now is where it is run from: the monitor does not search. */
static int check_log_compress(ConmonOptions *o)
{
	if (!o->log_compress)
		return 0;
	o->log_compress_gzip = strcmp(o->log_compress, "gzip") == 0;
	if (!o->log_compress_gzip && strcmp(o->log_compress, "zstd") != 0) {
		diag_error("--log-compress must be zstd or gzip, not '%s'", o->log_compress);
		return -EINVAL;
	}
	if (!o->log_rotate) {
		diag_error("--log-compress without --log-rotate: there are no backups to be compressed");
		return -EINVAL;
	}
	free(o->log_compress_program);
	o->log_compress_program = find_program(o->log_compress);
	if (!o->log_compress_program) {
		diag_error("--log-compress: there is no program %s in PATH; install it or do without", o->log_compress);
		return -ENOENT;
	}
	return 0;
}

static int check_log_policies(ConmonOptions *o)
{
	const char *error = o->log_on_error ? o->log_on_error : "drop";
	const char *rate = o->log_rate_policy ? o->log_rate_policy : "block";
	const char *attach = o->attach_policy ? o->attach_policy : "drop-behind";

	o->log_error_blocks = strcmp(error, "block") == 0;
	o->log_error_stops = strcmp(error, "stop") == 0;
	o->attach_detaches = strcmp(attach, "detach") == 0;
	if (!o->log_error_blocks && !o->log_error_stops && strcmp(error, "drop") != 0) {
		diag_error("--log-on-error must be drop, block or stop, not '%s'", error);
		return -EINVAL;
	}
	if (!o->attach_detaches && strcmp(attach, "drop-behind") != 0) {
		diag_error("--attach-policy must be drop-behind or detach, not '%s'", attach);
		return -EINVAL;
	}
	if (strcmp(rate, "block") != 0 && strcmp(rate, "drop") != 0) {
		diag_error("--log-rate-policy must be block or drop, not '%s'", rate);
		return -EINVAL;
	}
	o->log_rate_drops = strcmp(rate, "drop") == 0;
	if (o->log_rate_bytes > LOG_RATE_MAX || o->log_rate_lines > LOG_RATE_MAX) {
		diag_error("--log-rate and --log-rate-lines must be at most %lld", (long long)LOG_RATE_MAX);
		return -EINVAL;
	}
	if (o->log_rate_burst < 1 || o->log_rate_burst > LOG_RATE_BURST_MAX) {
		diag_error("--log-rate-burst must be 1 to %d seconds, got %d", LOG_RATE_BURST_MAX, o->log_rate_burst);
		return -EINVAL;
	}
	if (o->attach_stall < 0 || o->attach_stall > ATTACH_STALL_MAX) {
		diag_error("--attach-stall must be 0 to %d seconds, got %d", ATTACH_STALL_MAX, o->attach_stall);
		return -EINVAL;
	}
	if (o->attach_backlog < 0 || o->attach_backlog > ATTACH_BACKLOG_MAX) {
		diag_error("--attach-backlog must be 0 to %lld bytes, got %lld", (long long)ATTACH_BACKLOG_MAX,
			(long long)o->attach_backlog);
		return -EINVAL;
	}
	return 0;
}

/* What is ours alone. */
static int check_network(ConmonOptions *o)
{
	const char *action = o->on_worker_failure;

	if (action && strcmp(action, "continue") != 0 && strcmp(action, "stop") != 0) {
		diag_error("--on-worker-failure must be continue or stop, not '%s'", action);
		return -EINVAL;
	}
	o->stop_on_worker_failure = action && strcmp(action, "stop") == 0;
	if (o->network_helper_args[0] && !o->network_helper) {
		diag_error("--network-helper-arg without --network-helper");
		return -EINVAL;
	}
	if (!o->network_helper)
		return 0;
	if (o->is_exec) {
		diag_error("--network-helper is for containers, not for exec: the container has its network already");
		return -EINVAL;
	}
	if (access(o->network_helper, X_OK) < 0) {
		diag_error_errno(-errno, "Network helper %s cannot be run:", o->network_helper);
		return -ENOENT;
	}
	return 0;
}

int options_validate(ConmonOptions *options)
{
	int r;

	if ((r = check_early(options)) < 0 || (r = options_start_diagnostics(options)) < 0 ||
		(r = check_mode(options)) < 0 || (r = check_runtime(options)) < 0 ||
		(r = check_network(options)) < 0 || (r = check_log_policies(options)) < 0 ||
		(r = check_log_compress(options)) < 0 ||
		(r = complete_paths(options)) < 0 || (r = check_log_paths(options)) < 0 ||
		(r = open_log_file(options)) < 0 || (r = try_json_file(options)) < 0)
		return r;
	return check_log_fields(options);
}
