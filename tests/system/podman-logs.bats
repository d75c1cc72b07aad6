# modes: root rootless
# What the container wrote is in the log, byte for byte, through every reader.
bats_require_minimum_version 1.5.0
load helpers.bash

setup_file() { tandem_setup_file; }
teardown_file() { tandem_teardown_file; }

log_path()
{
	pod inspect --format '{{.HostConfig.LogConfig.Path}}' "$1"
}

@test "k8s-file: podman logs gives stdout and stderr back, each on its own stream" {
	pod run --name l1 --network none "$IMAGE" sh -c 'echo to-out; echo to-err >&2' >/dev/null 2>&1
	run --separate-stderr pod logs l1
	eq "$status" 0
	eq "$output" to-out
	eq "$stderr" to-err
	pod rm l1
}

@test "k8s-file: the records are time, stream, F or P, text" {
	pod run --name l2 --network none "$IMAGE" sh -c 'echo full; echo >&2; printf partial' >/dev/null 2>&1
	local stamp='[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}[+-][0-9]{2}:[0-9]{2}'
	run cat "$(log_path l2)"
	eq "$(grep -cE "^$stamp std(out|err) [FP] ?" <<<"$output")" 3
	grep -qE "^$stamp stdout F full\$" <<<"$output"
	grep -qE "^$stamp stderr F \$" <<<"$output"
	grep -qE "^$stamp stdout P partial\$" <<<"$output"
	pod rm l2
}

@test "k8s-file: 200000 lines of different lengths come back unchanged" {
	pod run --name l3 --network none "$IMAGE" sh -c 'seq 200000' >"$WORK/direct"
	pod logs l3 >"$WORK/logged"
	seq 200000 | cmp - "$WORK/direct"
	seq 200000 | cmp - "$WORK/logged"
	pod rm l3
}

@test "k8s-file: a line of 100000 bytes is one line for podman logs" {
	pod run --name l4 --network none "$IMAGE" sh -c 'head -c 100000 /dev/zero | tr "\0" x; echo; echo next' >/dev/null
	run pod logs l4
	eq "${#lines[0]}" 100000
	eq "${lines[1]}" next
	pod rm l4
}

@test "k8s-file: logs -f follows to the end and then ends" {
	pod run -d --name l5 --network none "$IMAGE" sh -c 'for i in 1 2 3 4 5 6 7 8; do echo "n $i"; sleep 0.2; done; exit 4'
	run timeout 60 "$BASH" -c "$(declare -f pod as_user); pod logs -f l5"
	eq "$status" 0
	eq "$output" "$(for i in 1 2 3 4 5 6 7 8; do echo "n $i"; done)"
	eq "$(pod wait l5)" 4
	pod rm l5
}

@test "k8s-file: --log-opt path= and max-size= are honoured" {
	mkdir -p "$HOME_DIR/logs"
	is_root && chown "$USER_NAME:" "$HOME_DIR/logs"
	pod run --rm --network none --log-opt path="$HOME_DIR/logs/own.log" "$IMAGE" echo here >/dev/null
	grep -q ' stdout F here$' "$HOME_DIR/logs/own.log"
	pod run --rm --network none --log-opt path="$HOME_DIR/logs/small.log" --log-opt max-size=10kb "$IMAGE" seq 20000 >/dev/null
	[ "$(stat -c %s "$HOME_DIR/logs/small.log")" -le 12000 ]
	has "$(tail -n 1 "$HOME_DIR/logs/small.log")" " stdout F 20000"
}

@test "--log-driver=none keeps nothing, --log-driver=passthrough writes straight to our stdout" {
	run pod run --rm --network none --log-driver none "$IMAGE" echo shown
	eq "$output" shown
	run pod run --rm --network none --log-driver passthrough "$IMAGE" sh -c 'echo straight; exit 8'
	eq "$status" 8
	has "$output" straight
}

@test "the log of a detached container is complete when wait returns" {
	local i
	for i in 1 2 3 4 5; do
		pod run -d --name "l6-$i" --network none "$IMAGE" sh -c 'seq 5000; printf last' >/dev/null
		pod wait "l6-$i" >/dev/null
		eq "$(pod logs "l6-$i" | tail -n 1)" last
		eq "$(pod logs "l6-$i" | wc -l)" 5000
		pod rm "l6-$i"
	done
}

@test "output of a background child after the main process ended does not hold anything up" {
	pod run -d --name l7 --network none "$IMAGE" sh -c 'sleep 1000 & echo main; exit 3'
	eq "$(pod wait l7)" 3
	eq "$(pod logs l7)" main
	pod rm l7
}

# podman logs -f reads every 250 ms, from the name: it can only follow what stays there for so long.
follower_has()
{
	grep -qxF "$1" "$WORK/followed"
}

tell()
{
	timeout 20 sh -c "echo $1 >'$WORK/gate/go'"
}

@test "k8s-file: logs -f shows every line once across rotations, and after the log was renamed and removed" {
	local i log ctl follower
	printf '#!/bin/sh\nexec %q "$@" --log-rotate --log-max-files 3 --log-compress gzip\n' "$CONMON" >"$WORK/rotating"
	chmod 755 "$WORK/rotating"
	mkdir "$WORK/gate"
	chmod 777 "$WORK/gate"
	pod --conmon "$WORK/rotating" run -d --name l8 --network none -v "$WORK/gate:/gate" "$IMAGE" \
		sh -c 'mkfifo -m 666 /gate/go; exec 3<>/gate/go; n=0; while read x <&3; do [ "$x" = end ] && break; echo "line $n"; echo "and $n"; n=$((n+1)); done'
	log=$(log_path l8)
	ctl=$(dirname "$(pod inspect --format '{{.OCIConfigPath}}' l8)")/ctl
	wait_for test -p "$WORK/gate/go"
	pod logs -f l8 >"$WORK/followed" 2>&1 &
	follower=$!
	for i in 0 1 2 3 4 5; do
		tell go
		wait_for follower_has "and $i"
		case $i in
		4) mv "$log" "$log.mine" ;;
		5) rm "$log" ;;
		esac
		printf '2 0 0\n' >"$ctl"
		wait_for test -e "$log"
	done
	tell go
	wait_for follower_has "and 6"
	tell end
	wait "$follower"
	eq "$(cat "$WORK/followed")" "$(for i in 0 1 2 3 4 5 6; do echo "line $i"; echo "and $i"; done)"
	eq "$(pod wait l8)" 0
	pod rm l8
}
