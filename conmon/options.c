#include "config.h"

#include "conmon/options.h"

#include <glib.h>
#include <string.h>

#define DEFAULT_SOCKET_DIR "/var/run/crio"

/* What GOption writes to; gboolean is an int, which bool is not. */
typedef struct {
	gboolean api_version, exec, exec_attach, systemd_cgroup, no_pivot, no_new_keyring, terminal,
		stdin_open, leave_stdin_open;
	gboolean log_rotate, no_container_partial_message, no_sync_log, syslog, full_attach,
		replace_listen_pid, sync, version;
} Flags;

static const char description[] =
	"Log drivers: k8s-file:PATH (or just PATH), json-file:PATH, journald, syslog[:/SOCKET|:udp:IP:PORT], passthrough, none\n"
	"(also: off, null).";

static char **list_or_empty(char **list)
{
	return list ? list : g_new0(char *, 1);
}

/*
 * GOption hands strings out in UTF-8 (and refuses what is not valid in the locale, C-16). In a locale of another
 * character set the bytes must become again what was typed: they are file names and arguments.
 */
static char *as_typed(char *utf8)
{
	char *typed = utf8 ? g_locale_from_utf8(utf8, -1, NULL, NULL, NULL) : NULL;

	if (!typed)
		return utf8;
	g_free(utf8);
	return typed;
}

static void entries_as_typed(const GOptionEntry *entries)
{
	if (g_get_charset(NULL))
		return;
	for (const GOptionEntry *e = entries; e->long_name; e++) {
		if (e->flags & G_OPTION_FLAG_HIDDEN)
			continue; /* aliases share the variable of the real one */
		if (e->arg == G_OPTION_ARG_STRING) {
			char **value = e->arg_data;

			*value = as_typed(*value);
		} else if (e->arg == G_OPTION_ARG_STRING_ARRAY) {
			for (char **item = *(char ***)e->arg_data; item && *item; item++)
				*item = as_typed(*item);
		}
	}
}

static void take_flags(ConmonOptions *o, const Flags *f)
{
	o->api_version = f->api_version;
	o->is_exec = f->exec;
	o->exec_attach = f->exec_attach;
	o->systemd_cgroup = f->systemd_cgroup;
	o->no_pivot = f->no_pivot;
	o->no_new_keyring = f->no_new_keyring;
	o->terminal = f->terminal;
	o->stdin_open = f->stdin_open;
	o->leave_stdin_open = f->leave_stdin_open;
	o->log_rotate = f->log_rotate;
	o->no_container_partial_message = f->no_container_partial_message;
	o->no_sync_log = f->no_sync_log;
	o->syslog = f->syslog;
	o->full_attach = f->full_attach;
	o->replace_listen_pid = f->replace_listen_pid;
	o->sync = f->sync;
	o->show_version = f->version;
}

static void set_defaults(ConmonOptions *o)
{
	o->is_restore = o->restore_path != NULL;
	o->mode = o->is_exec ? MODE_EXEC : o->is_restore ? MODE_RESTORE : MODE_CREATE;
	o->runtime_args = list_or_empty(o->runtime_args);
	o->runtime_opts = list_or_empty(o->runtime_opts);
	o->log_paths = list_or_empty(o->log_paths);
	o->log_allowlist_dirs = list_or_empty(o->log_allowlist_dirs);
	o->log_labels = list_or_empty(o->log_labels);
	o->exit_command_args = list_or_empty(o->exit_command_args);
	o->network_helper_args = list_or_empty(o->network_helper_args);
	if (!o->log_level)
		o->log_level = g_strdup("warn");
	if (!o->socket_dir_path)
		o->socket_dir_path = g_strdup(DEFAULT_SOCKET_DIR);
}

#define FLAG(name, short_name, member, text)                                                                 \
	{                                                                                                    \
		name, short_name, 0, G_OPTION_ARG_NONE, &f.member, text, NULL                                \
	}
#define STRING(name, short_name, member, text, arg)                                                          \
	{                                                                                                    \
		name, short_name, 0, G_OPTION_ARG_STRING, &o->member, text, arg                              \
	}
#define LIST(name, short_name, member, text, arg)                                                            \
	{                                                                                                    \
		name, short_name, 0, G_OPTION_ARG_STRING_ARRAY, &o->member, text, arg                        \
	}

ConmonOptions *options_parse(int argc, char **argv, char **ret_reason)
{
	ConmonOptions *o = g_new0(ConmonOptions, 1);
	Flags f = {0};
	const GOptionEntry entries[] = {
		FLAG("api-version", 0, api_version, "Use version 1 of the message keys and of the exec flow"),
		STRING("attach-policy", 0, attach_policy,
			"What becomes of a client that does not read: drop-behind (default), detach", "POLICY"),
		{"attach-stall", 0, 0, G_OPTION_ARG_INT, &o->attach_stall,
			"Seconds that such a client may hold up the container (default 5)", "SECONDS"},
		STRING("bundle", 'b', bundle, "OCI bundle; also the directory of attach, ctl, winsz and oom",
			"DIR"),
		STRING("cid", 'c', cid, "Container id", "ID"),
		STRING("conmon-pidfile", 'P', conmon_pidfile, "File that receives conmon's pid", "FILE"),
		STRING("container-pidfile", 'p', container_pidfile,
			"File that the runtime writes the container's pid to", "FILE"),
		STRING("cuuid", 'u', cuuid, "Container UUID; names the attach symlink", "UUID"),
		FLAG("exec", 'e', exec, "Exec a command in a running container"),
		FLAG("exec-attach", 0, exec_attach, "Wait for a client to attach before an exec starts"),
		STRING("exec-process-spec", 0, exec_process_spec, "Process spec of the exec", "FILE"),
		STRING("exit-command", 0, exit_command, "Program to run when the container has ended",
			"PROGRAM"),
		LIST("exit-command-arg", 0, exit_command_args, "Argument for the exit command (repeatable)",
			"ARG"),
		{"exit-delay", 0, 0, G_OPTION_ARG_INT, &o->exit_delay,
			"Seconds to wait before the exit command", "SECONDS"},
		STRING("exit-dir", 0, exit_dir,
			"Directory of the exit file, which is named after the container id", "DIR"),
		FLAG("full-attach", 0, full_attach, "No attach symlink; callers use the bundle's path"),
		FLAG("leave-stdin-open", 0, leave_stdin_open,
			"Leave stdin open when an attached client disconnects"),
		LIST("log-allowlist-dir", 0, log_allowlist_dirs,
			"Directory that log files may be created below (repeatable)", "DIR"),
		{"log-global-size-max", 0, 0, G_OPTION_ARG_INT64, &o->log_global_size_max,
			"Bytes in total after which nothing more is logged to a file", "BYTES"},
		{"log-backups-size-max", 0, 0, G_OPTION_ARG_INT64, &o->log_backups_max,
			"Bytes that the backups of a log may have together with --log-rotate", "BYTES"},
		LIST("log-label", 0, log_labels, "Additional journald field (repeatable)", "LABEL=VALUE"),
		STRING("log-level", 0, log_level,
			"Level of conmon's own messages: error, warn, info, debug, trace", "LEVEL"),
		{"log-max-files", 0, 0, G_OPTION_ARG_INT, &o->log_max_files,
			"Backups to keep with --log-rotate", "N"},
		STRING("log-on-error", 0, log_on_error,
			"What to do while a log can't be written: drop (default; counted), block, stop", "ACTION"),
		LIST("log-path", 'l', log_paths,
			"Log driver and file (repeatable); drivers: k8s-file, json-file, journald, syslog, passthrough, none",
			"[DRIVER:]PATH"),
		FLAG("log-rotate", 0, log_rotate, "Keep backups when a log file reaches its size limit"),
		{"log-rate", 0, 0, G_OPTION_ARG_INT64, &o->log_rate_bytes,
			"Bytes per second that each stream may log", "BYTES"},
		{"log-rate-burst", 0, 0, G_OPTION_ARG_INT, &o->log_rate_burst,
			"Seconds' worth of the rates that may come at once (default 1)", "SECONDS"},
		{"log-rate-lines", 0, 0, G_OPTION_ARG_INT64, &o->log_rate_lines,
			"Lines per second that each stream may log", "LINES"},
		STRING("log-rate-policy", 0, log_rate_policy,
			"What happens beyond the rates: block (default), drop (counted)", "POLICY"),
		{"log-rotate-age", 0, 0, G_OPTION_ARG_INT64, &o->log_rotate_age,
			"Age at which a log file is replaced or rotated", "SECONDS"},
		{"log-size-max", 0, 0, G_OPTION_ARG_INT64, &o->log_size_max, "Size limit of a log file",
			"BYTES"},
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
		{"timeout", 'T', 0, G_OPTION_ARG_INT, &o->timeout,
			"Seconds after which the container is killed", "SECONDS"},
		FLAG("version", 0, version, "Print the version and exit"),
		{"pidfile", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_STRING, &o->container_pidfile, NULL, NULL},
		{"restore-arg", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_STRING_ARRAY, &o->runtime_opts, NULL,
			NULL},
		{NULL},
	};
	g_autoptr(GOptionContext) context = g_option_context_new("- monitor of one container");
	g_autoptr(GError) error = NULL;
	g_auto(GStrv) words = g_new0(char *, (size_t)argc + 1);

	for (int i = 0; i < argc; i++)
		words[i] = g_strdup(argv[i]);
	o->log_size_max = o->log_global_size_max = -1;
	o->log_max_files = 1;
	o->attach_stall = 5;
	o->log_rate_burst = 1;
	o->log_k8s_fd = -1;
	g_option_context_set_description(context, description);
	g_option_context_add_main_entries(context, entries, NULL);
	if (!g_option_context_parse_strv(context, &words, &error)) {
		*ret_reason = g_strdup(error->message);
		return NULL;
	}
	entries_as_typed(entries);
	take_flags(o, &f);
	set_defaults(o);
	return o;
}
