# modes: rootless
# needs: isolation
# Podman in a rootless Podman: the programs under test serve both, so the inner network helper has the outer one's guest as its host.
#
#	inner container ═ inner helper ═ outer container ═ outer helper ═ host
bats_require_minimum_version 1.5.0
load helpers.bash

setup_file()
{
	tandem_setup_file
	nested_setup
	peer_start "serve tcp 192.0.2.1 8000"
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

# The outer container's /nested: a root file system for the inner one, its engine's configuration, and set-uid programs
# that belong to the outer container's root (the host's are nobody's in there).
# shellcheck disable=SC2154 # tandem_home is of lib.bash
nested_setup()
{
	local dir=$WORK/nested program
	mkdir -p "$dir"/suid "$dir"/root/{bin,dev,etc,proc,run,sys,tmp}
	cp "$(in_path busybox)" "$tandem_home/peer" "$dir/root/bin/"
	for program in sh cat; do ln -s busybox "$dir/root/bin/$program"; done
	cp "$(in_path newuidmap)" "$(in_path newgidmap)" "$dir/suid/"
	nested_runc >"$dir/runc"
	engine_conf "$dir/containers.conf" "$CONMON" "$HELPER"
	sed -i 's,^runtime = .*,&\nruntime_supports_nocgroup = ["runc"],; s,^runc = .*,runc = ["/nested/runc"],' "$dir/containers.conf"
	! is_root || chown -R "$USER_NAME:" "$dir"
	chmod 755 "$dir/runc"
	chmod 4755 "$dir"/suid/*
}

# Nobody may make cgroups in there, so the inner engine goes without; Podman says so to the runtime by an option of crun.
nested_runc()
{
	cat <<-EOF
		#!/bin/sh
		n=\$#
		while [ \$n -gt 0 ]; do
			case \$1 in --cgroup-manager) shift 2; n=\$((n - 2)); continue ;; esac
			set -- "\$@" "\$1"; shift; n=\$((n - 1))
		done
		exec $(in_path runc) "\$@"
	EOF
}

# outer SCRIPT: run it in a container that has the host's programs, its engine configuration, and the devices.
outer()
{
	pod run --rm --privileged --network slirp4netns -e "CONTAINERS_CONF=/nested/containers.conf" -v /usr:/usr:ro \
		-v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro -v /etc/alternatives:/etc/alternatives:ro -v /etc/containers:/etc/containers:ro \
		-v "$WORK/stage:$WORK/stage:ro" -v "$WORK/nested:/nested:suid" "$IMAGE" /bin/sh -c "
		export PATH=/nested/suid:/usr/bin:/usr/sbin:/bin HOME=/root
		gone() { for p in /proc/[0-9]*/cmdline; do ! grep -qs /bin/[n]etns-helper \$p || return 1; done; }
		$1"
}

# Words of such a script.
inner="podman --log-level=error --storage-driver vfs --cgroup-manager=cgroupfs run --rm --cgroups=disabled"
make_user="echo inner:x:1000:1000::/home/inner:/bin/sh >>/etc/passwd; echo inner:x:1000: >>/etc/group
	echo inner:10000:50000 | tee /etc/subuid >/etc/subgid
	mkdir -p /home/inner /tmp/xdg; cp -r /nested/root /home/inner/root; chown -R 1000:1000 /home/inner /tmp/xdg; chmod 700 /tmp/xdg"
as_inner="/usr/bin/setpriv --reuid 1000 --regid 1000 --clear-groups /usr/bin/env HOME=/home/inner XDG_RUNTIME_DIR=/tmp/xdg USER=inner"

# need SCRIPT: skip with the reason where not even a container without a network is possible in there.
need()
{
	run outer "$1"
	[ "$status" = 0 ] || skip "no container in a container on this host: $output"
}

ask="peer ask tcp 10.0.2.100 8001 inner; peer ask tcp 192.0.2.1 8000 world; cat /sys/class/net/tap0/iflink"
serve="peer serve tcp 0.0.0.0 8001 >/tmp/peer.out & until grep -qs ready /tmp/peer.out; do sleep 0.02; done"

# What the inner container has to print: whom the servers saw, and the fast path's link (gateway-rtnl.c) rather than a tap.
answers=$'10.0.2.100 inner\n192.0.2.1 world\n29796'

@test "root of a rootless container runs a container: it reaches the outer one and the world, by the fast path" {
	need "$inner --network none --rootfs /nested/root cat /dev/null"
	run outer "$serve
		$inner --network slirp4netns:cidr=10.0.9.0/24 --rootfs /nested/root sh -c '$ask'
		n=0; until gone || [ \$n = 100 ]; do sleep 0.05; n=\$((n + 1)); done; gone || echo 'a helper is left'"
	eq "$output" "$answers"
	eq "$status" 0
}

@test "so does an ordinary user of a rootless container" {
	need "$make_user; $as_inner $inner --network none --rootfs /home/inner/root cat /dev/null"
	run outer "$make_user; $serve
		$as_inner $inner --network slirp4netns:cidr=10.0.9.0/24 --rootfs /home/inner/root sh -c '$ask'
		n=0; until gone || [ \$n = 100 ]; do sleep 0.05; n=\$((n + 1)); done; gone || echo 'a helper is left'"
	eq "$output" "$answers"
	eq "$status" 0
}
