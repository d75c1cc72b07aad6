#include "config.h"

#include "conmon/options.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "conmon/option-parser.h"
#include "conmon/text.h"

/*
 * Seconds. A client that reads, however slowly, is waited for as long as it likes; this is for one that takes nothing. Long enough for a reader that
 * is starved on a busy machine, short enough that the container makes up for it: what it could not write meanwhile comes at
 * full speed afterwards, and after five seconds of 100 MB/s that lasts so long that its other writes take longer, too.
 */
#define ATTACH_STALL_DEFAULT 1
#define ATTACH_BACKLOG_DEFAULT (64 * 1024 * 1024)	/* bytes: what somebody may want to page through */
#define DEFAULT_SOCKET_DIR "/var/run/crio"

static const char description[] =
	"Log drivers: k8s-file:PATH (or just PATH), json-file:PATH, journald, syslog[:/SOCKET|:udp:IP:PORT|:tcp:IP:PORT], passthrough, none\n"
	"(also: off, null).";

#define ENTRY(name, short_name, kind, member, text, argument)                                                \
	{                                                                                                    \
		name, short_name, kind, offsetof(ConmonOptions, member), text, argument                      \
	}
#define FLAG(name, short_name, member, text) ENTRY(name, short_name, OPTION_FLAG, member, text, "")
#define STRING(name, short_name, member, text, arg) ENTRY(name, short_name, OPTION_STRING, member, text, arg)
#define LIST(name, short_name, member, text, arg) ENTRY(name, short_name, OPTION_LIST, member, text, arg)
#define INT(name, short_name, member, text, arg) ENTRY(name, short_name, OPTION_INT, member, text, arg)
#define INT64(name, short_name, member, text, arg) ENTRY(name, short_name, OPTION_INT64, member, text, arg)

static const OptionEntry entries[] = {
	FLAG("api-version", 0, api_version, "Use version 1 of the message keys and of the exec flow"),
	INT64("attach-backlog", 0, attach_backlog,
		"Bytes of each stream to keep in a file for clients that do not read (default 64 MiB; 0: none)", "BYTES"),
	STRING("attach-policy", 0, attach_policy,
		"What becomes of a client that does not read: drop-behind (default), detach", "POLICY"),
	INT("attach-stall", 0, attach_stall,
		"Seconds that such a client may hold up the container (default 1)", "SECONDS"),
	STRING("bundle", 'b', bundle, "OCI bundle; also the directory of attach, ctl, winsz and oom",
		"DIR"),
	STRING("cid", 'c', cid, "Container id", "ID"),
	STRING("conmon-pidfile", 'P', conmon_pidfile, "File that receives conmon's pid", "FILE"),
	STRING("container-pidfile", 'p', container_pidfile,
		"File that the runtime writes the container's pid to", "FILE"),
	STRING("cuuid", 'u', cuuid, "Container UUID; names the attach symlink", "UUID"),
	FLAG("exec", 'e', is_exec, "Exec a command in a running container"),
	FLAG("exec-attach", 0, exec_attach, "Wait for a client to attach before an exec starts"),
	STRING("exec-process-spec", 0, exec_process_spec, "Process spec of the exec", "FILE"),
	STRING("exit-command", 0, exit_command, "Program to run when the container has ended",
		"PROGRAM"),
	LIST("exit-command-arg", 0, exit_command_args, "Argument for the exit command (repeatable)",
		"ARG"),
	INT("exit-delay", 0, exit_delay,
		"Seconds to wait before the exit command", "SECONDS"),
	STRING("exit-dir", 0, exit_dir,
		"Directory of the exit file, which is named after the container id", "DIR"),
	FLAG("full-attach", 0, full_attach, "No attach symlink; callers use the bundle's path"),
	FLAG("leave-stdin-open", 0, leave_stdin_open,
		"Leave stdin open when an attached client disconnects"),
	LIST("log-allowlist-dir", 0, log_allowlist_dirs,
		"Directory that log files may be created below (repeatable)", "DIR"),
	INT64("log-global-size-max", 0, log_global_size_max,
		"Bytes in total after which nothing more is logged to a file", "BYTES"),
	INT64("log-backups-size-max", 0, log_backups_max,
		"Bytes that the backups of a log may have together with --log-rotate", "BYTES"),
	STRING("log-compress", 0, log_compress, "Compress backups with this program: zstd, gzip", "PROGRAM"),
	LIST("log-label", 0, log_labels, "Additional journald field (repeatable)", "LABEL=VALUE"),
	STRING("log-level", 0, log_level,
		"Level of conmon's own messages: error, warn, info, debug, trace", "LEVEL"),
	INT("log-max-files", 0, log_max_files,
		"Backups to keep with --log-rotate", "N"),
	STRING("log-on-error", 0, log_on_error,
		"What to do while a log can't be written: drop (default; counted), block, stop", "ACTION"),
	LIST("log-path", 'l', log_paths,
		"Log driver and file (repeatable); drivers: k8s-file, json-file, journald, syslog, passthrough, none",
		"[DRIVER:]PATH"),
	FLAG("log-rotate", 0, log_rotate, "Keep backups when a log file reaches its size limit"),
	INT64("log-rate", 0, log_rate_bytes,
		"Bytes per second that each stream may log", "BYTES"),
	INT("log-rate-burst", 0, log_rate_burst,
		"Seconds' worth of the rates that may come at once (default 1)", "SECONDS"),
	INT64("log-rate-lines", 0, log_rate_lines,
		"Lines per second that each stream may log", "LINES"),
	STRING("log-rate-policy", 0, log_rate_policy,
		"What happens beyond the rates: block (default), drop (counted)", "POLICY"),
	INT64("log-rotate-age", 0, log_rotate_age,
		"Age at which a log file is replaced or rotated", "SECONDS"),
	INT64("log-size-max", 0, log_size_max,
		"Size limit of a log file", "BYTES"),
	STRING("log-tag", 0, log_tag, "Tag for journald", "TAG"),
	STRING("name", 'n', name, "Container name", "NAME"),
	STRING("network-helper", 0, network_helper,
		"Network helper to run with the container: PROGRAM -e FD -r FD ARG... PID tap0", "PROGRAM"),
	LIST("network-helper-arg", 0, network_helper_args, "Argument for the network helper (repeatable)",
		"ARG"),
	FLAG("no-container-partial-message", 0, no_container_partial_message,
		"Omit the journald field CONTAINER_PARTIAL_MESSAGE"),
	FLAG("no-new-keyring", 0, no_new_keyring, "No new session keyring for the container"),
	FLAG("no-pivot", 0, no_pivot, "The runtime shall not use pivot_root"),
	FLAG("no-sync-log", 0, no_sync_log, "Do not fsync the log at the container's end"),
	STRING("on-worker-failure", 0, on_worker_failure,
		"What to do when one of our processes cannot be started again: continue (default), stop", "ACTION"),
	STRING("persist-dir", '0', persist_dir, "Directory of the files exit and oom", "DIR"),
	FLAG("replace-listen-pid", 0, replace_listen_pid, "Set LISTEN_PID to the runtime's pid"),
	STRING("restore", 0, restore_path, "Restore the container from a checkpoint", "DIR"),
	STRING("runtime", 'r', runtime, "OCI runtime", "PROGRAM"),
	LIST("runtime-arg", 0, runtime_args,
		"Argument for the runtime, before the subcommand (repeatable)", "ARG"),
	LIST("runtime-opt", 0, runtime_opts, "Argument for the runtime's subcommand (repeatable)",
		"ARG"),
	STRING("sdnotify-socket", 0, sdnotify_socket, "Host's sd-notify socket to relay messages to",
		"PATH"),
	STRING("socket-dir-path", 0, socket_dir_path, "Directory of the attach symlink", "DIR"),
	FLAG("stdin", 'i', stdin_open, "Open a pipe to the container's stdin"),
	FLAG("sync", 0, sync, "Stay in the foreground"),
	FLAG("syslog", 0, syslog, "Send conmon's own messages to syslog, too"),
	FLAG("systemd-cgroup", 's', systemd_cgroup, "The runtime shall use systemd's cgroup manager"),
	FLAG("terminal", 't', terminal, "The container has a terminal"),
	INT("timeout", 'T', timeout,
		"Seconds after which the container is killed", "SECONDS"),
	FLAG("version", 0, show_version, "Print the version and exit"),
	STRING("pidfile", 0, container_pidfile, "", ""), /* deprecated, as the next */
	LIST("restore-arg", 0, runtime_opts, "", ""),
	{.name = ""},
};

/* A list that was not given is an empty one. */
static void complete_list(char ***list)
{
	if (!*list)
		*list = text_new(1, sizeof(char *));
}

static void set_defaults(ConmonOptions *o)
{
	o->is_restore = o->restore_path != NULL;
	o->mode = o->is_exec ? MODE_EXEC : o->is_restore ? MODE_RESTORE : MODE_CREATE;
	complete_list(&o->runtime_args);
	complete_list(&o->runtime_opts);
	complete_list(&o->log_paths);
	complete_list(&o->log_allowlist_dirs);
	complete_list(&o->log_labels);
	complete_list(&o->exit_command_args);
	complete_list(&o->network_helper_args);
}

ConmonOptions *options_parse(int argc, char **argv, char **ret_reason)
{
	ConmonOptions *o = text_new(1, sizeof(*o));
	char reason[OPTION_REASON_MAX];
	int r;

	o->log_size_max = o->log_global_size_max = -1;
	o->log_max_files = 1;
	o->attach_stall = ATTACH_STALL_DEFAULT;
	o->attach_backlog = ATTACH_BACKLOG_DEFAULT;
	o->log_rate_burst = 1;
	o->log_k8s_fd = -1;
	o->log_level = "warn";
	o->socket_dir_path = DEFAULT_SOCKET_DIR;
	r = option_parser_run(entries, argc, argv, o, reason);
	if (r < 0) {
		*ret_reason = text_format("%s", reason);
		return NULL;
	}
	if (r > 0) {
		option_parser_help(entries, "conmon", "monitor of one container", description);
		exit(fflush(stdout) == 0 ? 0 : 1);
	}
	set_defaults(o);
	return o;
}
