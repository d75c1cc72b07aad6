# modes: root rootless
# attach and exec, with and without terminals.
bats_require_minimum_version 1.5.0
load helpers.bash

setup_file() { tandem_setup_file; }
teardown_file() { tandem_teardown_file; }

# attached_clients N: at least N connections to an attach socket stand (in this network namespace).
attached_clients()
{
	[ "$(ss -Hx state connected | grep -c '[/ ]attach ')" -ge "$1" ]
}

@test "attach shows what is written from then on, and ends with the container" {
	pod run -d --name a1 --network none "$IMAGE" sh -c 'while [ ! -e /tmp/go ]; do sleep 0.05; done; echo after; exit 12'
	pod attach --no-stdin a1 >"$WORK/a1.out" 3>&- &
	local attached=$!
	wait_for attached_clients 1
	pod exec a1 touch /tmp/go
	wait $attached
	eq "$(cat "$WORK/a1.out")" after
	eq "$(pod wait a1)" 12
	pod rm a1
}

@test "attach passes stdin and its end" {
	pod run -d -i --name a2 --network none "$IMAGE" sh -c 'cat; echo "end"; exit 2'
	run pod attach a2 <<<"through attach"
	eq "$(pod wait a2)" 2
	has "$output" "through attach"
	has "$output" "end"
	pod rm a2
}

@test "two attached clients both see everything" {
	pod run -d --name a3 --network none "$IMAGE" sh -c 'while [ ! -e /tmp/go ]; do sleep 0.05; done; seq 2000'
	pod attach --no-stdin a3 >"$WORK/a3.1" 3>&- &
	local one=$!
	pod attach --no-stdin a3 >"$WORK/a3.2" 3>&- &
	local two=$!
	wait_for attached_clients 2
	pod exec a3 touch /tmp/go
	wait $one $two
	# Podman itself ends its attach with an empty line.
	seq 2000 | cmp - <(grep . "$WORK/a3.1")
	seq 2000 | cmp - <(grep . "$WORK/a3.2")
	pod rm a3
}

@test "attach to a terminal: type, see, detach with the detach keys, container goes on" {
	pod run -dt -i --name a4 --network none "$IMAGE" sh -c 'stty -echo; while read x; do echo "got $x"; done'
	run pod_pty 'send=one\n' expect='got one' 'send=\x18' wait -- attach --detach-keys=ctrl-x a4
	eq "$status" 0
	container_is a4 running
	run pod_pty size=31x97 'send=two\n' expect='got two' 'send=\x18' wait -- attach --detach-keys=ctrl-x a4
	eq "$status" 0
	pod rm -f -t 0 a4
}

@test "exec: output, stdin, exit status" {
	pod run -d --name e1 --network none "$IMAGE" sleep 1000
	run --separate-stderr pod exec e1 sh -c 'echo out; echo err >&2; exit 21'
	eq "$status" 21
	eq "$output" out
	eq "$stderr" err
	run pod exec -i e1 sh -c 'cat; echo end' <<<"to exec"
	eq "$status" 0
	eq "$output" $'to exec\nend'
	pod rm -f -t 0 e1
}

@test "exec: 5 MB through stdin and stdout, byte for byte" {
	pod run -d --name e2 --network none "$IMAGE" sleep 1000
	head -c 5000000 /dev/urandom >"$WORK/random"
	chmod 644 "$WORK/random"
	pod exec -i e2 cat <"$WORK/random" >"$WORK/back"
	cmp "$WORK/random" "$WORK/back"
	pod rm -f -t 0 e2
}

@test "exec: a missing command is 127 with the runtime's words, an unusable one 126" {
	pod run -d --name e3 --network none "$IMAGE" sleep 1000
	run -127 pod exec e3 /no/such
	has "$output" "no such file"
	run pod exec e3 /etc/passwd
	eq "$status" 126
	pod rm -f -t 0 e3
}

@test "exec -it: a terminal with size, resize and status" {
	pod run -d --name e4 --network none "$IMAGE" sleep 1000
	run pod_pty size=33x101 expect='33 101' expect=ready size=50x140 expect='50 140' -- exec -it e4 \
		sh -c 'stty size; trap : WINCH; echo ready; while [ "$(stty size)" != "50 140" ]; do sleep 0.1; done; stty size; exit 17'
	eq "$status" 17
	pod rm -f -t 0 e4
}

@test "exec -d returns at once and the command runs on; many execs at a time work" {
	pod run -d --name e5 --network none "$IMAGE" sleep 1000
	pod exec -d e5 sh -c 'echo done >/tmp/detached'
	detached_done() { [ "$(pod exec e5 cat /tmp/detached 2>/dev/null)" = "done" ]; }
	wait_for detached_done
	local i pids=()
	for i in 1 2 3 4 5 6; do
		pod exec e5 sh -c "echo \$(( $i * $i )); exit $i" >"$WORK/e5.$i" 3>&- &
		pids+=($!)
	done
	for i in 1 2 3 4 5 6; do
		status=0
		wait "${pids[$((i - 1))]}" || status=$?
		eq "$status" "$i"
		eq "$(cat "$WORK/e5.$i")" $((i * i))
	done
	pod rm -f -t 0 e5
}

@test "exec ends with 137 when its container is killed" {
	pod run -d --name e6 --network none "$IMAGE" sleep 1000
	pod exec e6 sh -c 'touch /tmp/in; exec sleep 1000' 3>&- &
	local execing=$!
	in_there() { pod exec e6 test -e /tmp/in; }
	wait_for in_there
	pod kill e6
	status=0
	wait $execing || status=$?
	eq "$status" 137
	pod rm -f -t 0 e6
}

# Nothing reads the pipeline until the container is over: what is in pipes and sockets then is a small part of it.
gone()
{
	! pod container exists "$1"
}

@test "a pipeline that is read after the container's end gets every byte, and the status" {
	local lines=2500000
	pod run --name late --network none "$IMAGE" sh -c "seq $lines; exit 7" 3>&- |
		{ wait_for container_is late exited && exec sha1sum; } >"$WORK/late.sum"
	eq "${PIPESTATUS[*]}" "7 0"
	eq "$(cat "$WORK/late.sum")" "$(seq $lines | sha1sum)"
	eq "$(pod wait late)" 7
	pod rm late
	pod run --rm --name late2 --network none "$IMAGE" sh -c "seq $lines; exit 8" 3>&- | { wait_for gone late2 && exec sha1sum; } >"$WORK/late.sum"
	eq "${PIPESTATUS[*]}" "8 0"
	eq "$(cat "$WORK/late.sum")" "$(seq $lines | sha1sum)"
}

@test "a container starts again while somebody still reads what it said before" {
	local lines=1500000 script size running
	script="[ -e /tmp/second ] && { while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 3; }; touch /tmp/second; seq $lines"
	size=$(seq $lines | wc -c)
	# podman run then waits for the end of the second life
	pod run --name again --network none "$IMAGE" sh -c "$script" 3>&- |
		{ wait_for container_is again exited && pod start again >/dev/null && head -c "$size" | sha1sum; } >"$WORK/again.sum" 3>&- &
	running=$!
	wait_for test -s "$WORK/again.sum"
	eq "$(cat "$WORK/again.sum")" "$(seq $lines | sha1sum)"
	container_is again running
	pod exec again touch /tmp/go
	wait $running
	eq "$(pod wait again)" 3
	pod rm again
}

@test "an exec session whose output is read late" {
	local lines=1500000
	pod run -d --name talks --network none "$IMAGE" sleep 1000
	pod exec talks sh -c "seq $lines; touch /tmp/over; exit 9" 3>&- | { wait_for pod exec talks test -e /tmp/over && exec sha1sum; } >"$WORK/talks.sum"
	eq "${PIPESTATUS[*]}" "9 0"
	eq "$(cat "$WORK/talks.sum")" "$(seq $lines | sha1sum)"
	pod rm -f -t 0 talks
}
