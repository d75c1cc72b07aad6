# modes: root rootless
# A container's life under Podman: start, output, exit status, stop, restart, cleanup.
bats_require_minimum_version 1.5.0
load helpers.bash

setup_file() { tandem_setup_file; }
teardown_file() { tandem_teardown_file; }

@test "run in the foreground passes stdout, stderr and the exit status on" {
	run --separate-stderr pod run --rm --network none "$IMAGE" sh -c 'echo out; echo err >&2; exit 3'
	eq "$status" 3
	eq "$output" out
	eq "$stderr" err
}

@test "exit statuses 0, 1, 42, 126, 127, 255 arrive unchanged" {
	local want
	for want in 0 1 42 126 127 255; do
		run "-$want" pod run --rm --network none "$IMAGE" sh -c "exit $want"
	done
}

@test "death by SIGKILL and SIGTERM is 128 + signal" {
	run pod run --rm --network none "$IMAGE" sh -c 'sh -c "kill -9 \$\$"; exit $?'
	eq "$status" 137
	pod run -d --name killed --network none "$IMAGE" sleep 1000
	pod kill killed
	eq "$(pod wait killed)" 137
	pod rm killed
}

@test "a command that does not exist is 127, one that is not executable 126, and the runtime's words arrive" {
	run -127 pod run --rm --network none "$IMAGE" /no/such/command
	has "$output" "/no/such/command"
	run pod run --rm --network none "$IMAGE" /etc/passwd
	eq "$status" 126
	has "$output" "permission denied"
	eq "$(pod ps -aq)" ""
}

@test "stdin with -i reaches the container, its end too" {
	run pod run --rm -i --network none "$IMAGE" sh -c 'cat; echo "end $?"' <<<"one line"
	eq "$status" 0
	eq "$output" $'one line\nend 0'
}

@test "10 MB through stdin and stdout, byte for byte" {
	head -c 10000000 /dev/urandom >"$WORK/random"
	chmod 644 "$WORK/random"
	pod run --rm -i --network none "$IMAGE" cat <"$WORK/random" >"$WORK/back"
	cmp "$WORK/random" "$WORK/back"
}

@test "detached: id printed, running, conmon's pid is alive and named conmon" {
	run pod run -d --name d1 --network none "$IMAGE" sh -c 'echo started; exec sleep 1000'
	eq "$status" 0
	eq "${#output}" 64
	container_is d1 running
	local pid
	pid=$(pod inspect --format '{{.State.ConmonPid}}' d1)
	eq "$(cat "/proc/$pid/comm")" conmon
	has "$(tr '\0' ' ' <"/proc/$pid/cmdline")" "$output"
	pod stop -t 0 d1
	eq "$(pod wait d1)" 137
	pod rm d1
	[ ! -e "/proc/$pid" ] || [ "$(cut -d' ' -f3 "/proc/$pid/stat")" = Z ]
}

@test "stop sends SIGTERM first and the container's own exit status is kept" {
	pod run -d --name s1 --network none "$IMAGE" sh -c 'trap "exit 7" TERM; echo ready; while :; do sleep 0.1; done'
	wait_for log_has s1 ready
	pod stop -t 20 s1
	eq "$(pod inspect --format '{{.State.ExitCode}}' s1)" 7
	pod rm s1
}

@test "wait returns the status of a container that ends by itself" {
	pod run -d --name w1 --network none "$IMAGE" sh -c 'read x </dev/null; exit 19'
	eq "$(pod wait w1)" 19
	container_is w1 exited
	pod rm w1
}

@test "restart and start run the same container again, and its log goes on" {
	pod run -d --name r1 --network none "$IMAGE" sh -c 'echo run; exec sleep 1000'
	wait_for log_has r1 run
	pod restart -t 0 r1
	container_is r1 running
	two_runs() { [ "$(pod logs r1 | grep -c '^run$')" = 2 ]; }
	wait_for two_runs
	pod stop -t 0 r1
	pod start r1
	three_runs() { [ "$(pod logs r1 | grep -c '^run$')" = 3 ]; }
	wait_for three_runs
	pod rm -f -t 0 r1
}

@test "the exit command cleans up: --rm of a detached container removes it without anyone asking" {
	pod run -d --rm --name gone --network none "$IMAGE" true
	no_gone() { ! pod container exists gone; }
	wait_for no_gone
}

@test "the exit command unmounts and records the status when nobody waits" {
	pod run -d --name c1 --network none "$IMAGE" sh -c 'exit 5'
	exited() { container_is c1 exited; }
	wait_for exited
	eq "$(pod inspect --format '{{.State.ExitCode}} {{.State.ConmonPid}}' c1)" "5 0"
	pod rm c1
}

@test "--restart=on-failure starts it again until it has failed often enough" {
	pod run -d --name rf --restart=on-failure:2 --network none "$IMAGE" sh -c 'echo try; exit 1'
	tries() { [ "$(pod logs rf | grep -c '^try$')" = 3 ] && container_is rf exited; }
	wait_for tries
	pod rm -f -t 0 rf
}

@test "a terminal: run -it sees one, its size, and CR LF" {
	run pod_pty size=37x111 -- run --rm -it --network none "$IMAGE" sh -c 'test -t 0 && test -t 1 && stty size; exit 6'
	eq "$status" 6
	has "$output" "37 111"
}

@test "a terminal: resizing the window reaches the container" {
	run pod_pty size=20x80 expect=ready size=44x132 expect='44 132' -- run --rm -it --network none "$IMAGE" \
		sh -c 'trap "stty size" WINCH; echo ready; while [ "$(stty size)" != "44 132" ]; do sleep 0.1; done; stty size'
	eq "$status" 0
}

@test "a terminal: what is typed arrives, control-C interrupts" {
	run pod_pty expect=ready 'send=typed\n' expect='got typed' 'send=\x03' expect=interrupted -- \
		run --rm -it --network none "$IMAGE" \
		sh -c 'trap "echo interrupted; exit 9" INT; echo ready; read x; echo "got $x"; while :; do sleep 0.1; done'
	eq "$status" 9
}

@test "20 containers one after the other leave nothing" {
	local i
	for i in $(seq 20); do
		run pod run --rm --network none "$IMAGE" sh -c "exit $i"
		eq "$status" "$i"
	done
	wait_for no_leftovers
}
