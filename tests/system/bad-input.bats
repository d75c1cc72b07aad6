# modes: root rootless
# What is wrong is said in one clear line, the status is not zero, the engine is told, and nothing is left behind.
bats_require_minimum_version 1.5.0
load helpers.bash

setup_file() { tandem_setup_file; }
teardown_file() { tandem_teardown_file; }

teardown()
{
	pod rm -f -a -t 0 >/dev/null 2>&1 || true
}

# Tests of what is better than the reference's are for ours alone.
ours_only()
{
	case $CONMON$HELPER in /usr/bin/*) skip "the reference programs say this less clearly" ;; esac
}

# conmon_try ARG...: conmon as an engine calls it, with a bundle of our own; its pid file is $WORK/t/pid.
conmon_try()
{
	mkdir -p "$WORK/t/exits"
	! is_root || chown -R "$USER_NAME:" "$WORK/t"
	as_user sh -c 'cd "$TANDEM_TEST/t" && exec "$@"' sh "$CONMON" --api-version 1 -c 0123456789abcdef -u 0123456789abcdef \
		-P "$WORK/t/pid" -p "$WORK/t/cpid" --exit-dir "$WORK/t/exits" --full-attach -l "k8s-file:$WORK/t/log" "$@"
}

# nothing_left: no file but the log, no process, after a failure.
nothing_left()
{
	wait_for no_leftovers
	eq "$(find "$WORK/t" -mindepth 1 -not -name log -not -name exits)" ""
	rm -rf "$WORK/t"
}

# one_line TEXT: helpers print usage or banner on stdout; what is wrong is one line on stderr.
one_line()
{
	eq "$(grep -c . <<<"$1")" 1 "one line expected: $1"
}

@test "conmon: a runtime that does not exist is named, before anything is started" {
	run --separate-stderr conmon_try -b "$WORK/t" -r /no/such/runtime
	eq "$status" 1
	has "$stderr" "/no/such/runtime"
	one_line "$stderr"
	nothing_left
}

@test "conmon: an unknown option is named" {
	run --separate-stderr conmon_try -b "$WORK/t" -r /bin/true --no-such-option
	eq "$status" 1
	ours_only
	has "$stderr" "--no-such-option"
	one_line "$stderr"
	nothing_left
}

@test "conmon: a bundle that is not there is named, and the engine hears of it on its sync pipe" {
	ours_only
	mkdir -p "$WORK/t"
	run --separate-stderr conmon_sync -b "$WORK/no-such-bundle" -r "$(in_path runc)"
	has "$output$stderr" "no-such-bundle"
	wait_for no_leftovers
	rm -rf "$WORK/t"
}

@test "conmon: a bundle without config.json: the runtime's words reach the engine" {
	mkdir -p "$WORK/t/empty"
	run --separate-stderr conmon_sync -b "$WORK/t/empty" -r "$(in_path runc)" --runtime-arg "--root=$WORK/t/runc"
	has "$output" '"data": -1'
	has "$output" "config.json"
	wait_for no_leftovers
	rm -rf "$WORK/t"
}

# conmon_sync ARG...: conmon_try with a sync pipe; prints what the engine would have read from it.
conmon_sync()
{
	mkdir -p "$WORK/t/exits"
	! is_root || chown -R "$USER_NAME:" "$WORK/t"
	as_user /usr/bin/python3 "$system_tests/engine-pipe.py" "$WORK/t" "$CONMON" --api-version 1 -c 0123456789abcdef \
		-u 0123456789abcdef -P "$WORK/t/pid" -p "$WORK/t/cpid" --exit-dir "$WORK/t/exits" --full-attach \
		-l "k8s-file:$WORK/t/log" "$@"
}

@test "podman: a missing runtime fails with its path, and no container is left" {
	run -125 pod --runtime "$WORK/no-runc" run --rm --network none "$IMAGE" true
	has "$output" "no-runc"
	eq "$(pod ps -aq)" ""
}

@test "netns-helper: a namespace that does not exist is named" {
	run --separate-stderr as_user "$HELPER" -c --netns-type=path "$WORK/no-such-netns" tap0
	eq "$status" 1
	run --separate-stderr as_user "$HELPER" -c 4194303 tap0
	eq "$status" 1
	ours_only
	has "$stderr" 4194303
	run --separate-stderr as_user "$HELPER" -c --netns-type=path "$WORK/no-such-netns" tap0
	has "$stderr" "no-such-netns"
}

@test "netns-helper: a file that is no namespace is refused" {
	touch "$WORK/plain"
	chmod 644 "$WORK/plain"
	run --separate-stderr as_user "$HELPER" -c --netns-type=path "$WORK/plain" tap0
	eq "$status" 1
	ours_only
	one_line "$stderr"
	has "$stderr" "$WORK/plain"
}

@test "netns-helper: wrong values are named with their option" {
	run --separate-stderr as_user "$HELPER" -c --mtu=65522 $$ tap0
	eq "$status" 1
	run --separate-stderr as_user "$HELPER" -c --cidr=10.0.2.0/26 $$ tap0
	eq "$status" 1
	has "$stderr" "prefix length needs to be 1-25"
	run --separate-stderr as_user "$HELPER" -c --outbound-addr=no.such.address $$ tap0
	eq "$status" 1
	ours_only
	has "$stderr" "no.such.address"
}

@test "no /dev/net/tun: said so, by name, and podman run fails with it" {
	[ "${TANDEM_ISOLATED:-}" = 1 ] || skip "needs root of the host"
	mount -t tmpfs tmpfs /dev/net
	run pod run --rm --network slirp4netns "$IMAGE" true
	umount /dev/net
	[ "$status" != 0 ]
	has "$output" "/dev/net/tun"
	wait_for no_leftovers
	eq "$(pod ps -aq)" ""
}

@test "a published port that is in use: podman run fails and names the port" {
	[ "${TANDEM_ISOLATED:-}" = 1 ] || skip "needs ports of its own"
	peer_start "serve tcp 0.0.0.0 18099"
	run pod run --rm --network slirp4netns:port_handler=slirp4netns -p 18099:80 "$IMAGE" true
	peers_stop
	[ "$status" != 0 ]
	ours_only
	has "$output" 18099
	has "$output" "in use"
	wait_for no_leftovers
}

@test "a low port as an ordinary user: the port, the sysctl and the ways out are named" {
	[ "${TANDEM_ISOLATED:-}" = 1 ] || skip "needs ports of its own"
	[ "$TANDEM_MODE" = rootless ] || skip "root may use low ports"
	run pod run --rm --network slirp4netns:port_handler=slirp4netns -p 81:80 "$IMAGE" true
	[ "$status" != 0 ]
	ours_only
	has "$output" 81
	has "$output" net.ipv4.ip_unprivileged_port_start
	wait_for no_leftovers
}
