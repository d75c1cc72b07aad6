# modes: root rootless
# needs: isolation
# The journald log driver against a real journald, which this file starts and stops (there is none in CI).
bats_require_minimum_version 1.5.0
load helpers.bash

setup_file()
{
	journald_start
	tandem_setup_file
}

teardown_file()
{
	tandem_teardown_file
	local rc=$?
	journald_stop
	return $rc
}

journal()
{
	journalctl --no-pager -q -o json CONTAINER_ID_FULL="$1" | jq -r "$2"
}

journal_has()
{
	journalctl --sync >/dev/null 2>&1 || true
	[[ $(journal "$1" .MESSAGE) == *"$2"* ]]
}

@test "journald: podman logs gives back what was written, stdout and stderr apart" {
	pod run --name j1 --log-driver journald --network none "$IMAGE" sh -c 'echo to-out; echo to-err >&2' >/dev/null 2>&1
	wait_for log_has j1 to-err
	run --separate-stderr pod logs j1
	eq "$output" to-out
	eq "$stderr" to-err
	pod rm j1
}

@test "journald: the fields are id, short id, name, priority and identifier, and the sender is conmon" {
	local id
	id=$(pod run -d --name j2 --log-driver journald --network none "$IMAGE" sh -c 'echo plain; echo bad >&2')
	pod wait j2
	wait_for journal_has "$id" bad
	eq "$(journal "$id" 'select(.MESSAGE|startswith("plain")) | [.CONTAINER_ID, .CONTAINER_NAME, .PRIORITY, .SYSLOG_IDENTIFIER, ._COMM, ._UID] | join(" ")')" \
		"${id:0:12} j2 6 j2 conmon $(id -u "$USER_NAME")"
	eq "$(journal "$id" 'select(.MESSAGE|startswith("bad")) | .PRIORITY')" 3
	pod rm j2
}

@test "journald: --log-opt tag= is CONTAINER_TAG and the identifier" {
	local id
	id=$(pod run -d --name j3 --log-driver journald --log-opt tag=my-tag --network none "$IMAGE" echo tagged)
	pod wait j3
	wait_for journal_has "$id" tagged
	eq "$(journal "$id" '[.CONTAINER_TAG, .SYSLOG_IDENTIFIER] | join(" ")')" "my-tag my-tag"
	pod rm j3
}

@test "journald: 20000 lines, all of them, in order" {
	local id
	id=$(pod run -d --name j4 --log-driver journald --network none "$IMAGE" seq 20000)
	pod wait j4
	wait_for journal_has "$id" 20000
	journal "$id" '.MESSAGE | rtrimstr("\n")' >"$WORK/journal"
	seq 20000 | cmp - "$WORK/journal"
	pod rm j4
}

@test "journald: an unfinished last line is there, and marked as partial" {
	local id
	id=$(pod run -d --name j5 --log-driver journald --network none "$IMAGE" sh -c 'echo whole; printf cut')
	pod wait j5
	wait_for journal_has "$id" cut
	eq "$(journal "$id" 'select(.MESSAGE=="cut") | .CONTAINER_PARTIAL_MESSAGE')" true
	eq "$(journal "$id" 'select(.MESSAGE|startswith("whole")) | .CONTAINER_PARTIAL_MESSAGE')" null
	pod rm j5
}

@test "journald: logs -f follows and ends with the container" {
	pod --events-backend=journald run -d --name j6 --log-driver journald --network none "$IMAGE" \
		sh -c 'for i in 1 2 3; do echo "n $i"; sleep 0.3; done; exit 6'
	run timeout 60 "$BASH" -c "$(declare -f pod as_user); pod --events-backend=journald logs -f j6"
	eq "$output" $'n 1\nn 2\nn 3'
	eq "$(pod wait j6)" 6
	pod rm -f -t 0 j6
}

@test "journald stopped under a running container: it writes on, ends, and its status arrives" {
	pod run -d --name j7 --log-driver journald --network none "$IMAGE" \
		sh -c 'echo before; while [ ! -e /tmp/go ]; do sleep 0.05; done; seq 30000; exit 11'
	wait_for log_has j7 before
	journald_stop
	pod exec j7 touch /tmp/go
	eq "$(pod wait j7)" 11
	journald_start
	pod rm j7
}
