# modes: root rootless
# needs: isolation
# --network=slirp4netns with its options: what Podman asks of the helper, seen from inside and outside.
bats_require_minimum_version 1.5.0
load helpers.bash

setup_file()
{
	tandem_setup_file
	peer_start "serve tcp 0.0.0.0 8000"
	peer_start "serve udp 0.0.0.0 8000"
	peer_start "serve tcp ::1 8001"
	peer_start "serve tcp 2001:db8::1 8002"
	peer_start "serve tcp 127.0.0.1 8003"
	peer_start "sink 192.0.2.1 8004"
	peer_start "dns 192.0.2.1 53"
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

slirp() # OPTIONS COMMAND...
{
	local options=$1
	shift
	pod run --rm --network "slirp4netns$options" "$IMAGE" "$@"
}

@test "the default network: tap0, MTU 65520, address, route, name server, IPv6" {
	run slirp "" sh -c 'ip addr show tap0; ip route; cat /etc/resolv.conf; grep -c "10.0.2.100" /etc/hosts'
	eq "$status" 0
	has "$output" "mtu 65520"
	has "$output" "inet 10.0.2.100/24 brd 10.0.2.255"
	has "$output" "default via 10.0.2.2 dev tap0"
	has "$output" "nameserver 10.0.2.3"
	has "$output" "inet6 fd00::"
}

@test "TCP and UDP to an address of the host" {
	run slirp "" peer ask tcp 192.0.2.1 8000 hello
	eq "$status" 0
	eq "$output" "192.0.2.1 hello"
	run slirp "" peer ask udp 192.0.2.1 8000 hello
	eq "$status" 0
	eq "$output" "192.0.2.1 hello"
}

@test "a refused connection is refused" {
	run slirp "" peer ask tcp 192.0.2.1 9 hello
	eq "$status" 1
	has "$output" "Connection refused"
}

@test "the host's loopback is out of reach by default, and reached with allow_host_loopback=true" {
	run slirp "" peer ask tcp 10.0.2.2 8003 hello
	eq "$status" 1
	run slirp ":allow_host_loopback=false" peer ask tcp 10.0.2.2 8003 hello
	eq "$status" 1
	run slirp ":allow_host_loopback=true" peer ask tcp 10.0.2.2 8003 hello
	eq "$output" "127.0.0.1 hello"
	run slirp ":allow_host_loopback=true" peer ask udp 10.0.2.2 8000 hello
	eq "$output" "127.0.0.1 hello"
}

@test "mtu= is the MTU of the interface" {
	run slirp ":mtu=1500" sh -c 'cat /sys/class/net/tap0/mtu; peer ask tcp 192.0.2.1 8000 small'
	eq "$output" $'1500\n192.0.2.1 small'
	run slirp ":mtu=9000" cat /sys/class/net/tap0/mtu
	eq "$output" 9000
}

@test "cidr= moves address, gateway and name server" {
	run slirp ":cidr=10.99.8.0/24,allow_host_loopback=true" sh -c \
		'ip -4 addr show tap0; ip route; cat /etc/resolv.conf; peer ask tcp 10.99.8.2 8003 there'
	eq "$status" 0
	has "$output" "inet 10.99.8.100/24"
	has "$output" "default via 10.99.8.2"
	has "$output" "nameserver 10.99.8.3"
	has "$output" "127.0.0.1 there"
}

@test "the built-in name server asks the host's" {
	run slirp "" nslookup some.example 10.0.2.3
	has "$output" "192.0.2.77"
}

@test "IPv6: outbound, and the host's loopback behind fd00::2 when allowed" {
	run slirp "" peer ask tcp 2001:db8::1 8002 six
	eq "$output" "2001:db8::1 six"
	run slirp "" peer ask tcp fd00::2 8001 six
	eq "$status" 1
	run slirp ":allow_host_loopback=true" peer ask tcp fd00::2 8001 six
	eq "$output" "::1 six"
}

@test "enable_ipv6=false: no IPv6 address" {
	run slirp ":enable_ipv6=false" sh -c 'ip -6 addr show tap0 scope global; peer ask tcp 192.0.2.1 8000 four'
	eq "$output" "192.0.2.1 four"
}

@test "outbound_addr= is the source address, given as an address or an interface" {
	run slirp ":outbound_addr=192.0.2.2" peer ask tcp 192.0.2.1 8000 from
	eq "$output" "192.0.2.2 from"
	run slirp ":outbound_addr=192.0.2.2" peer ask udp 192.0.2.1 8000 from
	eq "$output" "192.0.2.2 from"
	run slirp ":outbound_addr=world" peer ask tcp 192.0.2.1 8000 from
	eq "$output" "192.0.2.1 from"
}

@test "100 MB out, byte for byte" {
	run slirp "" peer flood 192.0.2.1 8004 100000000
	eq "$output" "100000000 good"
}

@test "port_handler=slirp4netns: TCP and UDP published, answering, and free again afterwards" {
	pod run -d --name p1 --network slirp4netns:port_handler=slirp4netns -p 127.0.0.1:18080:80 -p 192.0.2.1:18081:81/udp "$IMAGE" \
		sh -c 'peer serve udp 0.0.0.0 81 & exec peer serve tcp 0.0.0.0 80'
	wait_for log_has p1 $'ready\nready'
	wait_for peer_ask tcp 127.0.0.1 18080 in
	has "$output" " in"
	run "$tandem_home/peer" ask tcp 192.0.2.1 18080 in
	has "$output" "Connection refused"
	wait_for peer_ask udp 192.0.2.1 18081 in
	has "$output" " in"
	run "$tandem_home/peer" ask udp 127.0.0.1 18081 in
	has "$output" "Connection refused"
	pod rm -f -t 0 p1
	run "$tandem_home/peer" ask tcp 127.0.0.1 18080 in
	has "$output" "Connection refused"
	eq "$(ss -Hltu sport = :18080 or sport = :18081)" ""
}

@test "port_handler=slirp4netns: a client's own address is what the container sees" {
	pod run -d --name p6 --network slirp4netns:port_handler=slirp4netns -p 18086:86 -p 18086:86/udp "$IMAGE" \
		sh -c 'peer serve udp 0.0.0.0 86 & exec peer serve tcp 0.0.0.0 86'
	wait_for log_has p6 $'ready\nready'
	wait_for peer_ask tcp 192.0.2.1 18086 who 192.0.2.2
	eq "$output" "192.0.2.2 who"
	wait_for peer_ask udp 192.0.2.1 18086 who 192.0.2.2
	eq "$output" "192.0.2.2 who"
	wait_for peer_ask tcp 127.0.0.1 18086 who
	eq "$output" "10.0.2.2 who"
}

@test "port_handler=slirp4netns: 50 MB in, byte for byte" {
	pod run -d --name p2 --network slirp4netns:port_handler=slirp4netns -p 18082:82 "$IMAGE" peer sink 0.0.0.0 82
	wait_for log_has p2 ready
	run "$tandem_home/peer" flood 127.0.0.1 18082 50000000
	eq "$output" "50000000 good"
	pod rm -f -t 0 p2
}

@test "the default port handler: published port answers" {
	pod run -d --name p3 --network slirp4netns -p 18083:83 "$IMAGE" peer serve tcp 0.0.0.0 83
	wait_for log_has p3 ready
	wait_for peer_ask tcp 127.0.0.1 18083 in
	has "$output" " in"
	pod rm -f -t 0 p3
}

@test "a restarted container has its network and its ports again" {
	pod run -d --name p4 --network slirp4netns:port_handler=slirp4netns -p 18084:84 "$IMAGE" \
		sh -c 'peer ask tcp 192.0.2.1 8000 out; exec peer serve tcp 0.0.0.0 84'
	wait_for log_has p4 ready
	wait_for peer_ask tcp 127.0.0.1 18084 in
	local i
	for i in 1 2 3; do
		pod restart -t 0 p4
		wait_for peer_ask tcp 127.0.0.1 18084 again
		has "$output" " again"
	done
	eq "$(pod logs p4 | grep -c '^192.0.2.1 out$')" 4
	pod rm -f -t 0 p4
}

@test "ping: the gateway answers" {
	run slirp ":allow_host_loopback=true" ping -c 1 -W 5 10.0.2.2
	eq "$status" 0
}

@test "the helper ends with its container, and takes tap and sockets along" {
	pod run -d --name p5 --network slirp4netns:port_handler=slirp4netns -p 18085:85 "$IMAGE" sleep 1000
	[ "$(helper_pids | wc -l)" -ge 1 ]
	pod kill p5
	pod wait p5
	no_helper() { [ -z "$(helper_pids)" ]; }
	wait_for no_helper
	eq "$(ss -Hlt sport = :18085)" ""
	pod rm p5
}

@test "five containers at a time, each with its own helper" {
	local i
	for i in 1 2 3 4 5; do
		pod run -d --name "m$i" --network slirp4netns:port_handler=slirp4netns -p $((18090 + i)):80 "$IMAGE" \
			peer serve tcp 0.0.0.0 80
	done
	for i in 1 2 3 4 5; do
		wait_for peer_ask tcp 127.0.0.1 $((18090 + i)) "n$i"
		has "$output" " n$i"
	done
	pod rm -f -t 0 -a
}
