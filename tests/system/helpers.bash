# Helpers of the system tests. Every file calls tandem_setup_file and tandem_teardown_file (which also checks
# that nothing is left over); tests then use `pod` for Podman and `wait_for` for everything that takes time.
# shellcheck shell=bash
# shellcheck source=../../scripts/lib.bash
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.bash"

export TANDEM_MODE=${TANDEM_MODE:-$(is_root && echo root || echo rootless)}
system_tests=$tandem_top/tests/system

# tandem_setup_file: work directory, engine configuration and image of one test file.
tandem_setup_file()
{
	CONMON=$(program_conmon)
	HELPER=$(program_netns_helper)
	[ -x "$CONMON" ] || { echo "no conmon at $CONMON (TANDEM_CONMON names one)" >&2; return 1; }
	[ -x "$HELPER" ] || { echo "no netns-helper at $HELPER (TANDEM_NETNS_HELPER names one)" >&2; return 1; }
	USER_NAME=$(id -un)
	[ "$TANDEM_MODE" = root ] || ! is_root || USER_NAME=$tandem_user
	WORK=$(mktemp -d /tmp/tandem-XXXXXX)
	chmod 755 "$WORK"
	HOME_DIR=$WORK/home
	RUN_DIR=$WORK/run
	[ "$TANDEM_MODE" = root ] || RUN_DIR=$(runtime_dir "$USER_NAME")/tandem-test
	mkdir -p "$HOME_DIR" "$RUN_DIR"
	is_root && chown -R "$USER_NAME:" "$WORK" "$RUN_DIR"
	CONF=$WORK/containers.conf
	engine_conf "$CONF" "$CONMON" "$HELPER"
	export CONMON HELPER USER_NAME WORK HOME_DIR RUN_DIR CONF
	export IMAGE=$tandem_image
	pod import -q "$tandem_image_tar" "$IMAGE" >/dev/null
	process_list >"$WORK/processes.before"
	mounts_list >"$WORK/mounts.before"
}

tandem_teardown_file()
{
	local rc=0
	[ -n "${WORK:-}" ] || return 0	# the set-up failed, and has said why
	leftovers_check || rc=1
	pod rm -f -a -t 0 >/dev/null 2>&1
	pause_stop
	if [ "$rc" = 0 ]; then
		pod unshare rm -rf "$HOME_DIR/storage" 2>/dev/null
		pause_stop
		rm -rf "$WORK" "$RUN_DIR" 2>/dev/null
	fi
	return $rc
}

# as_user COMMAND...: run COMMAND as the user of the mode, with a small clean environment. Extra NAME=VALUE words
# may come first.
as_user()
{
	local switch=()
	[ "$USER_NAME" = "$(id -un)" ] ||
		switch=(setpriv "--reuid=$USER_NAME" "--regid=$(id -g "$USER_NAME")" --init-groups --)
	(cd "$WORK" && exec "${switch[@]}" env -i HOME="$HOME_DIR" USER="$USER_NAME" \
		PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin TERM=xterm LANG=C.UTF-8 \
		XDG_RUNTIME_DIR="$(dirname "$RUN_DIR")" CONTAINERS_CONF="$CONF" TANDEM_TEST="$WORK" "$@" 3>&-)
}

# pod ARGS...: Podman with storage, state and configuration of its own.
pod()
{
	as_user podman --log-level=error --root "$HOME_DIR/storage" --runroot "$RUN_DIR/runroot" --tmpdir "$RUN_DIR/tmpdir" \
		--storage-driver vfs "$@"
}

# pod_pty [STEP...] -- ARGS...: Podman on a pseudo-terminal; see terminal.py for the steps.
pod_pty()
{
	local steps=()
	while [ "$1" != -- ]; do
		steps+=("$1")
		shift
	done
	shift
	as_user /usr/bin/python3 "$system_tests/terminal.py" "${steps[@]}" -- podman --log-level=error --root "$HOME_DIR/storage" \
		--runroot "$RUN_DIR/runroot" --tmpdir "$RUN_DIR/tmpdir" --storage-driver vfs "$@"
}

# wait_for COMMAND...: until it succeeds, at most TANDEM_DEADLINE (20) seconds.
wait_for()
{
	local end=$((SECONDS + ${TANDEM_DEADLINE:-20}))
	until "$@"; do
		[ $SECONDS -lt $end ] || { echo "gave up waiting for: $*" >&2; return 1; }
		sleep 0.05
	done
}

# eq GOT WANTED [WHAT]: exact bytes.
eq()
{
	[ "$1" == "$2" ] && return 0
	printf '%s\n  got:    %q\n  wanted: %q\n' "${3:-not equal}" "$1" "$2" >&2
	[ -z "${output:-}" ] || printf 'output: %s\n' "$output" >&2
	return 1
}

# has TEXT PART: PART is somewhere in TEXT.
has()
{
	[[ $1 == *"$2"* ]] && return 0
	printf 'not found: %q\nin: %s\n' "$2" "$1" >&2
	return 1
}

# hasnt TEXT PART
hasnt()
{
	[[ $1 != *"$2"* ]] && return 0
	printf 'must not be there: %q\nin: %s\n' "$2" "$1" >&2
	return 1
}

container_status()
{
	pod inspect --format '{{.State.Status}}' "$1" 2>/dev/null
}

container_is()
{
	[ "$(container_status "$1")" = "$2" ]
}

log_has()
{
	[[ $(pod logs "$1" 2>&1) == *"$2"* ]]
}

# Every process that carries our mark: the work directory in its command line, or TANDEM_TEST in its environment.
# Kernel-side remains (zombies that nobody has reaped yet) have neither and do not count.
process_list()
{
	local p
	for p in /proc/[0-9]*; do
		[ "${p#/proc/}" != $$ ] && [ "${p#/proc/}" != "$BASHPID" ] || continue
		if grep -qsF "$WORK" "$p/cmdline" || grep -qszxF "TANDEM_TEST=$WORK" "$p/environ"; then
			echo "${p#/proc/} $(tr '\0' ' ' <"$p/cmdline" 2>/dev/null)"
		fi
	done
}

# Processes of the test itself (bats, this shell) also know $WORK in their environment, but not as TANDEM_TEST;
# Podman's own pause process belongs to the user, not to a container.
process_leftovers()
{
	process_list | grep -vE '^[0-9]+ (podman|catatonit -P|.*/bats)' | grep -vE ' (bash|grep|tr|awk) ' || true
}

mounts_list()
{
	awk -v w="$WORK" -v r="$RUN_DIR" '$5 ~ "/netns/" || index($5, w "/") || index($5, r "/") { print $5 }' /proc/self/mountinfo |
		grep -vE '/storage/vfs(-containers)?$|/rootless-netns' | sort
}

sockets_list()
{
	ss -Hxl | awk '{ print $5 }' | grep -F -e "$WORK" -e "$RUN_DIR" | grep -v '/rootlessport' || true
}

# What a container of ours may leave when it has gone: no process, no socket, no mount, no helper's file.
leftovers()
{
	process_leftovers | sed 's/^/process /'
	comm -13 "$WORK/mounts.before" <(mounts_list) | sed 's/^/mount /'
	sockets_list | sed 's/^/socket /'
	find "$RUN_DIR/tmpdir/exits" "$RUN_DIR/tmpdir/socket" -mindepth 1 ! -name '.*' 2>/dev/null | sed 's/^/file /'
}

no_leftovers()
{
	[ -z "$(leftovers)" ]
}

leftovers_check()
{
	local running
	running=$(pod ps -q | wc -l)
	if [ "$running" != 0 ]; then
		echo "$running containers still running at the end of the file" >&2
		pod ps -a >&2
		return 1
	fi
	pod rm -f -a -t 0 >/dev/null 2>&1
	TANDEM_DEADLINE=10 wait_for no_leftovers && return 0
	echo "left over:" >&2
	leftovers >&2
	return 1
}

# Rootless Podman keeps one process to hold its user namespace.
pause_stop()
{
	local pid
	pid=$(cat "$RUN_DIR/tmpdir/pause.pid" 2>/dev/null) || return 0
	[ -z "$pid" ] || kill "$pid" 2>/dev/null || true
	rm -f "$RUN_DIR/tmpdir/pause.pid"
}

# journald_start: a journald of our own, in the background; sets JOURNALD_WHY when that is not possible.
journald_start()
{
	local daemon=/lib/systemd/systemd-journald
	JOURNALD_WHY=
	if [ "${TANDEM_ISOLATED:-}" != 1 ]; then
		[ -S /run/systemd/journal/socket ] && return 0
		JOURNALD_WHY="only root can start one"
		return 1
	fi
	[ -x "$daemon" ] || { JOURNALD_WHY="systemd is not installed"; return 1; }
	mkdir -p /run/systemd/journald.conf.d /run/log
	printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\nRateLimitIntervalSec=0\nReadKMsg=no\nAudit=no\n' \
		>/run/systemd/journald.conf.d/tandem.conf
	"$daemon" >/dev/null 2>&1 3>&- </dev/null &
	JOURNALD_PID=$!
	echo "$JOURNALD_PID" >/run/systemd/tandem-journald.pid
	wait_for test -S /run/systemd/journal/socket
	wait_for journald_readable
}

# Podman of an ordinary user reads the journal's files, which belong to a group that the user is not in.
journald_readable()
{
	ls /run/log/journal/*/system.journal >/dev/null 2>&1 && chmod -R a+rX /run/log/journal
}

journald_stop()
{
	local pid
	[ "${TANDEM_ISOLATED:-}" = 1 ] || return 0
	pid=$(cat /run/systemd/tandem-journald.pid 2>/dev/null) || return 0
	rm -f /run/systemd/tandem-journald.pid
	kill "$pid" 2>/dev/null || return 0
	journald_gone() { ! kill -0 "$pid" 2>/dev/null || [ "$(cut -d' ' -f3 "/proc/$pid/stat")" = Z ]; }
	wait_for journald_gone
	rm -f /run/systemd/journal/socket
}
