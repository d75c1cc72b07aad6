#pragma once
/*
 * Command line of conmon: contract section 2 (C-9 to C-23).
 */
#include <stdbool.h>
#include <stdint.h>

typedef enum { MODE_CREATE, MODE_RESTORE, MODE_EXEC } ConmonMode;

typedef struct {
	ConmonMode mode;
	bool is_exec, is_restore;	/* as given; validation refuses both together */
	bool show_version;
	bool api_version;	/* v1 */
	const char *bundle;		/* as given; cwd if not given and not exec; NULL for exec without bundle */
	char *cid, *cuuid, *name;
	char *runtime;
	char **runtime_args;	/* NULL-terminated lists, never NULL */
	char **runtime_opts;
	bool systemd_cgroup, no_pivot, no_new_keyring;
	const char *container_pidfile, *conmon_pidfile;
	bool exec_attach;
	char *exec_process_spec;
	char *restore_path;
	bool terminal, stdin_open, leave_stdin_open;
	/* logging; paths and drivers come parsed from log_paths */
	char **log_paths;
	bool log_journald, log_passthrough, log_k8s;
	const char *log_k8s_path;	/* the last one given (C-138) */
	int log_k8s_fd;		/* opened by options_validate(); -1: none */
	/* ours alone, no option of the contract */
	const char *log_json_path, *log_syslog_address;	/* from log_paths; NULL: not wanted */
	char *log_on_error, *attach_policy;	/* as given, or NULL */
	bool log_error_blocks, log_error_stops, attach_detaches;
	int64_t log_rate_bytes, log_rate_lines;	/* of each stream, per second; <= 0: unlimited */
	int log_rate_burst;			/* seconds' worth that may come at once */
	char *log_rate_policy;			/* as given, or NULL */
	bool log_rate_drops;
	char *log_compress;			/* as given, or NULL */
	char *log_compress_program;		/* absolute; NULL: no compression */
	bool log_compress_gzip;			/* else zstd */
	int64_t log_backups_max;		/* bytes of all backups of a log; <= 0 unlimited */
	int64_t log_rotate_age;			/* seconds; <= 0 never */
	int attach_stall;			/* seconds that a client which does not read may hold up the container */
	int64_t attach_backlog;			/* bytes of each stream that are kept in a file for such clients; 0: none */
	int64_t log_size_max, log_global_size_max;	/* bytes; <= 0 unlimited */
	bool log_rotate;
	int log_max_files;
	char **log_allowlist_dirs;
	char *log_tag;
	char **log_labels;
	bool no_container_partial_message, no_sync_log;
	const char *log_level;	/* validated */
	bool syslog;
	char *exit_dir, *persist_dir;
	char *exit_command;
	char **exit_command_args;
	int exit_delay;		/* seconds */
	int timeout;		/* seconds; <= 0 none */
	const char *socket_dir_path;
	bool full_attach;
	char *sdnotify_socket;
	bool replace_listen_pid;
	bool sync;
	/* ours */
	char *network_helper;	/* program to run beside the container; NULL: none */
	char **network_helper_args;
	char *on_worker_failure;	/* "continue" or "stop" */
	bool stop_on_worker_failure;
} ConmonOptions;

/**
 * Parse a command line; --help prints and exits (C-7). Nothing is checked that concerns more than one word.
 *
 * @param argc         number of words
 * @param argv         the words, left as they are (C-1); the options point into them
 * @param ret_reason   on failure: text after "conmon: option parsing failed: " (C-17), to be freed with free()
 * @return the options, for the life of the process, or NULL
 */
ConmonOptions *options_parse(int argc, char **argv, char **ret_reason);
