# Helpers of the system tests. Every file calls tandem_setup_file and tandem_teardown_file (which also checks
# that nothing is left over); tests then use `pod` for Podman and `wait_for` for everything that takes time.
# shellcheck shell=bash disable=SC2034,SC2317
# shellcheck source=../../scripts/lib.bash
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.bash"

export TANDEM_MODE=${TANDEM_MODE:-$(is_root && echo root || echo rootless)}
system_tests=$tandem_top/tests/system

# tandem_setup_file: work directory, engine configuration and image of one test file.
tandem_setup_file()
{
	engine_setup "$TANDEM_MODE"
	process_list >"$WORK/processes.before"
	mounts_list >"$WORK/mounts.before"
}

tandem_teardown_file()
{
	[ -n "${WORK:-}" ] || return 0	# the set-up failed, and has said why
	leftovers_check || return 1	# and leave everything to be looked at
	engine_remove
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
		case ${p#/proc/} in "$$" | "$BASHPID") continue ;; esac
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

# journald_start: a journald of our own, in the background (files that need isolation only).
journald_start()
{
	mkdir -p /run/systemd/journald.conf.d /run/log
	printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\nRateLimitIntervalSec=0\nReadKMsg=no\nAudit=no\n' \
		>/run/systemd/journald.conf.d/tandem.conf
	/lib/systemd/systemd-journald >/dev/null 2>&1 3>&- </dev/null &
	echo $! >/run/systemd/tandem-journald.pid
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
	pid=$(cat /run/systemd/tandem-journald.pid 2>/dev/null) || return 0
	rm -f /run/systemd/tandem-journald.pid
	kill "$pid" 2>/dev/null || return 0
	journald_gone() { ! kill -0 "$pid" 2>/dev/null || [ "$(cut -d' ' -f3 "/proc/$pid/stat")" = Z ]; }
	wait_for journald_gone
	rm -f /run/systemd/journal/socket
}

# peer_start "ARGS": a peer (see peer.c) as a server on the host's side, until peers_stop.
peer_start()
{
	local out=$WORK/peer.${1//[^a-zA-Z0-9]/_}
	# shellcheck disable=SC2086 # several words are meant
	"$tandem_home/peer" $1 >"$out" 2>&1 3>&- </dev/null &
	echo $! >>"$WORK/peers"
	wait_for grep -q ready "$out"
}

peers_stop()
{
	local pid
	[ -f "${WORK:-}/peers" ] || return 0
	while read -r pid; do
		kill "$pid" 2>/dev/null || true
	done <"$WORK/peers"
	rm -f "$WORK/peers"
}

# peer_ask PROTOCOL ADDRESS PORT TEXT: one question from the host's side; the answer is left in $output.
peer_ask()
{
	output=$("$tandem_home/peer" ask "$@" 2>&1)
}
