# modes: root rootless
# needs: isolation
# The network worker may be killed at any time: published ports never refuse, nothing is left behind.
bats_require_minimum_version 1.5.0
load helpers.bash

setup_file()
{
	tandem_setup_file
}

teardown_file() { tandem_teardown_file; }

setup()
{
	case $HELPER in /usr/bin/*) skip "the reference has no worker to kill" ;; esac
}

teardown()
{
	touch "${WORK:-/nonexistent}/stop" 2>/dev/null || true
	peers_stop
	pod rm -f -t 0 -a >/dev/null
}

worker_other_than()
{
	local now
	now=$(helper_workers)
	[ -n "$now" ] && [ "$now" != "$1" ]
}

# fds PID: what it has open, by kind, for a comparison that does not depend on numbers.
fds()
{
	find "/proc/$1/fd" -mindepth 1 -printf '%l\n' | sed -E 's/[0-9]+//g' | sort | uniq -c
}

# ask_until FILE PORT COUNTER: asks all the time; every failure is written into COUNTER.failed.
ask_until()
{
	local stop=$1 port=$2 counter=$3 n=0
	: >"$counter.failed"
	until [ -e "$stop" ]; do
		peer_ask tcp 127.0.0.1 "$port" "q$n" && [[ $output == *" q$n" ]] || echo "q$n: $output" >>"$counter.failed"
		n=$((n + 1))
		echo "$n" >"$counter"
	done
}

@test "100 times SIGKILL of the network worker under a loop of requests: none refused, none lost, nothing left" {
	pod run -d --name k1 --network slirp4netns:port_handler=slirp4netns -p 18200:80 -p 18201:81 -p 18202:82/udp "$IMAGE" \
		sh -c 'peer serve tcp 0.0.0.0 81 & peer serve udp 0.0.0.0 82 & exec peer serve tcp 0.0.0.0 80'
	wait_for log_has k1 $'ready\nready\nready'
	wait_for peer_ask tcp 127.0.0.1 18200 first
	local keeper worker fds_before mounts_before i
	keeper=$(helper_keeper)
	mounts_before=$(wc -l <"/proc/$keeper/mountinfo")
	fds_before=$(fds "$keeper")
	rm -f "$WORK/stop"
	ask_until "$WORK/stop" 18200 "$WORK/asked" 3>&- &
	local asking=$!
	# Restarts in close succession are held back, so this takes minutes; as root a tenth has to do.
	local kills=100
	[ "$TANDEM_MODE" = rootless ] || kills=10
	for i in $(seq $kills); do
		worker=$(helper_workers)
		eq "$(wc -w <<<"$worker")" 1 "kill $i: exactly one worker"
		kill -9 "$worker"
		wait_for worker_other_than "$worker"
		# A second question, to the other port, so that each life of a worker has served something.
		peer_ask tcp 127.0.0.1 18201 "k$i" || { echo "kill $i: $output" >&2; false; }
		has "$output" " k$i"
	done
	touch "$WORK/stop"
	wait $asking
	# A connection that libslirp had accepted dies with it; one of the splice engine (a veth, not a tap) does not.
	# Refused, or anything else, is none.
	eq "$(grep -v 'Connection reset by peer$' "$WORK/asked.failed")" ""
	if pod exec k1 test -e /sys/class/net/tap0/tun_flags; then
		[ "$(wc -l <"$WORK/asked.failed")" -le $kills ]
	else
		eq "$(cat "$WORK/asked.failed")" ""
	fi
	[ "$(cat "$WORK/asked")" -ge 50 ]
	wait_for peer_ask udp 192.0.2.1 18202 datagram
	eq "$(helper_keeper)" "$keeper" "the started pid"
	# Mounts of the engine may come to an end in its view meanwhile; it must not gather any.
	[ "$(wc -l <"/proc/$keeper/mountinfo")" -le "$mounts_before" ]
	fds_same() { [ "$(fds "$keeper")" = "$fds_before" ]; }
	wait_for fds_same || diff <(echo "$fds_before") <(fds "$keeper") >&2
	pod rm -f -t 0 k1
	no_helper() { [ -z "$(helper_pids)" ]; }
	wait_for no_helper
	eq "$(ss -Hltu 'sport >= :18200 and sport <= :18202')" ""
	wait_for no_leftovers
}

@test "SIGKILL of the worker: an outgoing transfer that begins afterwards works, IPv6 and names too" {
	peer_start "sink 192.0.2.1 8004"
	peer_start "serve tcp 2001:db8::1 8002"
	peer_start "dns 192.0.2.1 53"
	pod run -d --name k2 --network slirp4netns "$IMAGE" sleep 1000
	local i worker
	for i in 1 2 3; do
		worker=$(helper_workers)
		kill -9 "$worker"
		wait_for worker_other_than "$worker"
		eq "$(pod exec k2 peer flood 192.0.2.1 8004 10000000)" "10000000 good"
		eq "$(pod exec k2 peer ask tcp 2001:db8::1 8002 six)" "2001:db8::1 six"
		has "$(pod exec k2 nslookup some.example 10.0.2.3)" "192.0.2.77"
	done
	pod rm -f -t 0 k2
	peers_stop
}

@test "SIGKILL of conmon's monitor 50 times under a chatty container: no byte of the log lost or doubled" {
	case $CONMON in /usr/bin/*) skip "the reference has no monitor to kill" ;; esac
	# Not faster than `podman logs` reads: it would never come to the end.
	pod run -d --name k3 --network none "$IMAGE" sh -c 'i=0; while [ ! -e /tmp/stop ]; do
		i=$((i+1)); echo "line $i"; [ $((i % 500)) -ne 0 ] || sleep 0.02; done; echo end'
	wait_for log_has k3 "line 100"
	local keeper i monitor
	keeper=$(pod inspect --format '{{.State.ConmonPid}}' k3)
	for i in $(seq 50); do
		monitor=$(monitor_of "$keeper")
		kill -9 "$monitor"
		monitor_is_new() { local now; now=$(monitor_of "$keeper"); [ -n "$now" ] && [ "$now" != "$monitor" ]; }
		wait_for monitor_is_new
	done
	pod exec k3 touch /tmp/stop
	eq "$(pod wait k3)" 0
	pod logs k3 >"$WORK/k3.log"
	eq "$(tail -n 1 "$WORK/k3.log")" end
	local lines
	lines=$(($(wc -l <"$WORK/k3.log") - 1))
	[ "$lines" -gt 100 ]
	seq "$lines" | sed 's/^/line /' | cmp - <(head -n "$lines" "$WORK/k3.log")
	pod rm k3
}

# monitor_of KEEPER: the child of conmon's published pid that holds no capability: the one that handles the bytes.
monitor_of()
{
	local p
	for p in $(pgrep -P "$1" 2>/dev/null); do
		[ "$(readlink "/proc/$p/exe" 2>/dev/null)" = "$CONMON" ] || continue
		! grep -q '^CapEff:.*[1-9a-f]' "/proc/$p/status" 2>/dev/null || continue
		echo "$p"
	done
}
