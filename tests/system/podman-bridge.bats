# modes: rootless
# needs: isolation
# Rootless bridge networks: one helper serves all bridge containers of the user (netavark behind it).
bats_require_minimum_version 1.5.0
load helpers.bash

setup_file()
{
	tandem_setup_file
	peer_start "serve tcp 0.0.0.0 8000"
	peer_start "serve udp 0.0.0.0 8000"
	peer_start "dns 192.0.2.1 53"
	pod network create tandem-net
}

teardown_file()
{
	peers_stop
	tandem_teardown_file
}

teardown()
{
	pod rm -f -t 0 -a >/dev/null
}

@test "two containers on a network of their own talk to each other, by address and by name" {
	pod run -d --name b1 --network tandem-net "$IMAGE" peer serve tcp 0.0.0.0 80
	wait_for log_has b1 ready
	local address
	address=$(pod inspect --format '{{(index .NetworkSettings.Networks "tandem-net").IPAddress}}' b1)
	run --separate-stderr pod run --rm --network tandem-net "$IMAGE" peer ask tcp "$address" 80 neighbour
	eq "$status" 0
	has "$output" "neighbour"
	run pod run --rm --network tandem-net "$IMAGE" nslookup b1.dns.podman
	has "$output" "$address"
	pod rm -f -t 0 b1
}

@test "one helper for all of them, and none when the last has gone" {
	local i
	for i in 1 2 3; do
		pod run -d --name "c$i" --network tandem-net "$IMAGE" sleep 1000
	done
	local pid
	pid=$(cat "$(find "$RUN_DIR" -name 'rootless-netns-*.pid')")
	has "$(tr '\0' ' ' <"/proc/$pid/cmdline")" "$HELPER"
	eq "$(helper_keeper)" "$pid"
	for i in 1 2 3; do
		pod rm -f -t 0 "c$i"
	done
	no_helper() { [ -z "$(helper_pids)" ]; }
	wait_for no_helper
}

@test "from a bridge container to the outside: TCP, UDP, names" {
	run --separate-stderr pod run --rm --network tandem-net "$IMAGE" peer ask tcp 192.0.2.1 8000 out
	eq "$output" "192.0.2.1 out"
	run --separate-stderr pod run --rm --network tandem-net "$IMAGE" peer ask udp 192.0.2.1 8000 out
	eq "$output" "192.0.2.1 out"
	run pod run --rm --network tandem-net "$IMAGE" nslookup some.example
	has "$output" "192.0.2.77"
}

@test "a published port of a bridge container answers, and is free afterwards" {
	pod run -d --name b2 --network tandem-net -p 18070:80 "$IMAGE" peer serve tcp 0.0.0.0 80
	wait_for log_has b2 ready
	wait_for peer_ask tcp 127.0.0.1 18070 in
	has "$output" " in"
	pod rm -f -t 0 b2
	run "$tandem_home/peer" ask tcp 127.0.0.1 18070 in
	has "$output" "Connection refused"
}

@test "the helper killed with SIGKILL: the next container brings the network back" {
	pod run -d --name b3 --network tandem-net "$IMAGE" sleep 1000
	local pid
	pid=$(cat "$(find "$RUN_DIR" -name 'rootless-netns-*.pid')")
	kill -9 "$pid"
	no_helper() { [ -z "$(helper_pids)" ]; }
	wait_for no_helper
	pod rm -f -t 0 b3
	run --separate-stderr pod run --rm --network tandem-net "$IMAGE" peer ask tcp 192.0.2.1 8000 again
	eq "$output" "192.0.2.1 again"
}
