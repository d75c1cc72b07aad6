# Shared by quickstart, check, the system tests and the benchmarks: what has to be there before any of them
# can work (packages, a build, an unprivileged user, an image, an engine configuration). Every function may be
# called again at any time and does only what is still missing. To be sourced by bash with -u set.
# shellcheck shell=bash disable=SC2034

tandem_top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Where everything lives that a run leaves for the next one. For root it has to be a place that the unprivileged
# user can read: a clone under /root is not.
if [ "$(id -u)" = 0 ]; then
	tandem_home=${TANDEM_HOME:-/var/lib/tandem-check}
else
	tandem_home=${TANDEM_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tandem-check}
fi
tandem_prefix=${TANDEM_PREFIX:-$tandem_home/prefix}
tandem_build=${TANDEM_BUILD:-$tandem_top/build}
tandem_user=${TANDEM_USER:-tandem}
tandem_image=localhost/tandem-busybox:1
tandem_image_tar=$tandem_home/busybox.tar

# To build.
tandem_packages_build=(
	gcc libc6-dev make autoconf automake libtool pkg-config
	libslirp-dev libglib2.0-dev libsystemd-dev libcap-dev libseccomp-dev libjansson-dev libmnl-dev libnftnl-dev
)
# To run real containers, as quickstart does.
tandem_packages_run=(
	podman runc conmon slirp4netns netavark aardvark-dns iptables uidmap busybox-static python3 iproute2
	util-linux procps libcap2-bin passwd
)
# What only the tests and checks need. systemd is here for its journald, which tests start by themselves.
tandem_packages_check=(
	bats clang clang-format shellcheck buildah rootlesskit fuse-overlayfs passt nftables socat ncat udhcpc systemd dbus jq
	libclang-rt-14-dev git zstd gzip
)

# say TEXT...: progress, on stderr, so that it never mixes with results.
say()
{
	printf '== %s\n' "$*" >&2
}

# die TEXT...: one clear line and out.
die()
{
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

is_root()
{
	[ "$(id -u)" = 0 ]
}

# in_path PROGRAM: print its path, looking in the sbin directories too, which an ordinary user's PATH may lack.
in_path()
{
	PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v "$1"
}

packages_missing()
{
	local p
	for p in "$@"; do
		# shellcheck disable=SC2016 # the format is dpkg-query's, not the shell's
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
	done
}

# packages_ensure PACKAGE...: install what is missing (root), or say what is missing and how to get it (others).
packages_ensure()
{
	local missing
	in_path dpkg-query >/dev/null || die "this needs Debian 12 (no dpkg-query here)"
	mapfile -t missing < <(packages_missing "$@")
	[ ${#missing[@]} -gt 0 ] || return 0
	if ! is_root; then
		echo "$(basename "$0"): ${#missing[@]} packages are missing: ${missing[*]}" >&2
		echo "Install them with:" >&2
		echo "  sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
		exit 1
	fi
	say "installing ${#missing[@]} Debian packages: ${missing[*]}"
	packages_install "${missing[@]}" || packages_install_fresh "${missing[@]}" ||
		die "apt-get could not install: ${missing[*]}"
}

packages_install()
{
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >"$tandem_home/apt.log" 2>&1 \
		</dev/null
}

# The package lists may be missing or old: fetch them, then once more.
packages_install_fresh()
{
	say "refreshing the package lists"
	apt-get update -q >"$tandem_home/apt-update.log" 2>&1 </dev/null || true
	packages_install "$@" || { tail -n 20 "$tandem_home/apt.log" >&2; return 1; }
}

home_ensure()
{
	mkdir -p "$tandem_home"
	chmod 755 "$tandem_home"
}

# quietly LOG COMMAND...: run it with its output in LOG; show the end of LOG only if it fails.
quietly()
{
	local log=$1
	shift
	"$@" >"$log" 2>&1 </dev/null && return 0
	echo "--- failed: $*; the end of $log:" >&2
	tail -n 40 "$log" >&2
	return 1
}

# configure_ensure DIR ARG...: have DIR configured with exactly these arguments.
configure_ensure()
{
	local dir=$1
	shift
	if [ ! -x "$tandem_top/configure" ] || [ "$tandem_top/configure.ac" -nt "$tandem_top/configure" ]; then
		say "autoreconf"
		(cd "$tandem_top" && quietly "$tandem_home/autoreconf.log" autoreconf -fi) || return 1
	fi
	mkdir -p "$dir"
	if [ ! -f "$dir/Makefile" ] || [ "$(cat "$dir/.configured-with" 2>/dev/null)" != "$*" ]; then
		say "configure $*"
		(cd "$dir" && quietly configure.log "$tandem_top/configure" "$@") || return 1
		printf '%s\n' "$*" >"$dir/.configured-with"
	fi
}

# build_ensure: build the tree and install it under $tandem_prefix, from where every user can run it.
build_ensure()
{
	configure_ensure "$tandem_build" --prefix="$tandem_prefix" || return 1
	say "make -j$(nproc) (in $tandem_build)"
	(cd "$tandem_build" && quietly make.log make -j"$(nproc)") || return 1
	rm -rf "$tandem_prefix"
	(cd "$tandem_build" && quietly install.log make install) || return 1
	chmod -R a+rX "$tandem_prefix"
}

# programs_stage DIR: set CONMON and HELPER to the programs under test. The environment decides; else they are copies
# under DIR of what stands in the build tree (which an unprivileged user may not be able to read). The copies find
# their private library beside themselves.
programs_stage()
{
	local built=${TANDEM_BUILDDIR:-$tandem_build} program
	CONMON=${TANDEM_CONMON:-$1/bin/conmon}
	HELPER=${TANDEM_NETNS_HELPER:-$1/bin/netns-helper}
	mkdir -p "$1/bin" "$1/lib/tandem"
	for program in conmon netns-helper; do
		[ ! -x "$built/$program/$program" ] || cp "$built/$program/$program" "$1/bin/"
	done
	[ ! -d "$built/lib/tandem" ] || cp "$built"/lib/tandem/*.so "$1/lib/tandem/"
	chmod -R a+rX "$1"
	[ -x "$CONMON" ] || { echo "no conmon at $CONMON: build first, or name one by TANDEM_CONMON" >&2; return 1; }
	[ -x "$HELPER" ] || { echo "no netns-helper at $HELPER: build first, or name one by TANDEM_NETNS_HELPER" >&2; return 1; }
}

# user_ensure: the unprivileged user who does the rootless work when we are root, with a range of subordinate ids.
user_ensure()
{
	is_root || return 0
	if ! id "$tandem_user" >/dev/null 2>&1; then
		say "creating the unprivileged user '$tandem_user', who does the rootless work"
		useradd --create-home --shell /bin/bash "$tandem_user" || die "useradd $tandem_user failed"
	fi
	subid_ensure /etc/subuid
	subid_ensure /etc/subgid
}

# useradd writes the range where /etc/login.defs says so; a user from elsewhere may have none.
subid_ensure()
{
	local end
	grep -q "^$tandem_user:" "$1" 2>/dev/null && return 0
	end=$(awk -F: '{ e = $2 + $3; if (e > m) m = e } END { print m > 100000 ? m : 100000 }' "$1" 2>/dev/null)
	echo "$tandem_user:${end:-100000}:65536" >>"$1"
}

# devices_ensure: rootless networking opens /dev/net/tun, fuse-overlayfs /dev/fuse; bare hosts have them for root only.
devices_ensure()
{
	is_root || return 0
	if [ ! -e /dev/net/tun ]; then
		mkdir -p /dev/net
		mknod /dev/net/tun c 10 200 || die "there is no /dev/net/tun and it cannot be made: modprobe tun"
	fi
	chmod 666 /dev/net/tun
	[ ! -e /dev/fuse ] || chmod 666 /dev/fuse
}

# runtime_dir USER: print its XDG_RUNTIME_DIR, made if root may make it. Who did not log in (su -) has none: then a private one.
runtime_dir()
{
	local uid dir
	uid=$(id -u "$1")
	dir=/run/user/$uid
	if is_root && [ ! -d "$dir" ]; then
		mkdir -p "$dir"
		chown "$uid:$(id -g "$1")" "$dir"
		chmod 700 "$dir"
	fi
	[ -d "$dir" ] || dir=${XDG_RUNTIME_DIR:-/tmp/tdm-$uid}	# short: socket paths have 107 bytes
	[ -d "$dir" ] || mkdir -m 700 "$dir" || return 1
	[ -O "$dir" ] || is_root || { echo "$dir is not ours: set XDG_RUNTIME_DIR to a directory of $1" >&2; return 1; }
	echo "$dir"
}

# peer_ensure: the other end of test connections, static, so that it runs on the host and in the image.
peer_ensure()
{
	local source=$tandem_top/tests/system/peer.c
	[ ! "$tandem_home/peer" -nt "$source" ] || return 0
	gcc -std=gnu11 -O2 -static -o "$tandem_home/peer.new" "$source" 2>"$tandem_home/peer.log" ||
		{ cat "$tandem_home/peer.log" >&2; die "cannot compile $source"; }
	mv "$tandem_home/peer.new" "$tandem_home/peer"
}

# image_ensure: no registry is needed, the image is busybox-static, its links, and peer.
# Several test files may come here at the same time.
image_ensure()
{
	(flock 9 && image_build) 9>"$tandem_home/lock"
}

image_build()
{
	local busybox dir applet
	peer_ensure
	[ ! "$tandem_image_tar" -nt "$tandem_home/peer" ] || return 0
	busybox=$(in_path busybox) || die "busybox-static is not installed"
	say "making a container image from busybox-static"
	dir=$(mktemp -d)
	mkdir -p "$dir"/{bin,etc,root,tmp,www}
	cp "$busybox" "$dir/bin/busybox"
	cp "$tandem_home/peer" "$dir/bin/peer"
	for applet in $("$busybox" --list); do
		[ "$applet" = busybox ] || ln -s busybox "$dir/bin/$applet"
	done
	echo 'root:x:0:0:root:/root:/bin/sh' >"$dir/etc/passwd"
	echo 'root:x:0:' >"$dir/etc/group"
	echo 'hello from the container' >"$dir/www/index.html"
	chmod 1777 "$dir/tmp"
	chmod 755 "$dir"
	tar -C "$dir" --owner=0 --group=0 -cf "$tandem_image_tar.new" . && mv "$tandem_image_tar.new" "$tandem_image_tar"
	rm -rf "$dir"
	chmod 644 "$tandem_image_tar"
}

# engine_conf FILE CONMON HELPER [LOG_DRIVER]: a private containers.conf; nothing of the host's is touched.
# The ulimits are there because a container must not raise limits where CAP_SYS_RESOURCE is missing (in CI).
engine_conf()
{
	cat >"$1" <<-EOF
		[containers]
		default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
		log_driver = "${4:-k8s-file}"
		[network]
		network_backend = "netavark"
		[engine]
		runtime = "runc"
		cgroup_manager = "cgroupfs"
		events_logger = "file"
		conmon_path = ["$2"]
		network_cmd_path = "$3"
		[engine.runtimes]
		runc = ["$(in_path runc)"]
	EOF
	chmod 644 "$1"
}

# engine_setup rootless|root: a Podman with a work directory, storage, state and configuration of its own, running the
# programs under test. Sets and exports what as_user and pod need.
engine_setup()
{
	WORK=$(mktemp -d /tmp/tandem-XXXXXX) || return 1
	chmod 755 "$WORK"
	programs_stage "$WORK/stage" || { rm -rf "$WORK"; WORK=; return 1; }
	USER_NAME=$(id -un)
	HOME_DIR=$WORK/home
	RUN_DIR=$WORK/run
	if [ "$1" = rootless ]; then
		! is_root || USER_NAME=$tandem_user
		RUN_DIR=$(runtime_dir "$USER_NAME") || return 1
		RUN_DIR+=/$(basename "$WORK")
	fi
	mkdir -p "$HOME_DIR" "$RUN_DIR"
	! is_root || chown "$USER_NAME:" "$WORK" "$HOME_DIR" "$RUN_DIR"
	CONF=$WORK/containers.conf
	engine_conf "$CONF" "$CONMON" "$HELPER"
	IMAGE=$tandem_image
	export CONMON HELPER USER_NAME WORK HOME_DIR RUN_DIR CONF IMAGE
	pod import -q "$tandem_image_tar" "$IMAGE" >/dev/null
}

# engine_remove: everything that engine_setup and the containers have left.
engine_remove()
{
	[ -n "${WORK:-}" ] || return 0
	pod rm -f -a -t 0 >/dev/null 2>&1
	pod unshare rm -rf "$HOME_DIR/storage" 2>/dev/null
	pause_stop
	rm -rf "$WORK" "$RUN_DIR" 2>/dev/null
}

# Rootless Podman keeps one process to hold its user namespace.
pause_stop()
{
	local pid
	pid=$(cat "$RUN_DIR/tmpdir/pause.pid" 2>/dev/null) || return 0
	[ -z "$pid" ] || kill "$pid" 2>/dev/null || true
	rm -f "$RUN_DIR/tmpdir/pause.pid"
}

# as_user COMMAND...: run COMMAND as the engine's user, with a small clean environment. NAME=VALUE words may come first.
# Descriptor 3 is bats' own: a daemon that inherited it would hold the whole test run open.
as_user()
{
	local switch=()
	[ "$USER_NAME" = "$(id -un)" ] ||
		switch=(setpriv "--reuid=$USER_NAME" "--regid=$(id -g "$USER_NAME")" --init-groups --)
	(cd "$WORK" && exec "${switch[@]}" env -i HOME="$HOME_DIR" USER="$USER_NAME" \
		PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin TERM=xterm LANG=C.UTF-8 \
		XDG_RUNTIME_DIR="$(dirname "$RUN_DIR")" CONTAINERS_CONF="$CONF" TANDEM_TEST="$WORK" "$@" 3>&-)
}

# pod ARGS...: Podman with storage, state and configuration of its own.
pod()
{
	as_user podman --log-level=error --root "$HOME_DIR/storage" --runroot "$RUN_DIR/runroot" --tmpdir "$RUN_DIR/tmpdir" \
		--storage-driver vfs "$@"
}

# wait_for COMMAND...: until it succeeds, at most TANDEM_DEADLINE (20) seconds.
wait_for()
{
	local end=$((SECONDS + ${TANDEM_DEADLINE:-20}))
	until "$@"; do
		[ $SECONDS -lt $end ] || { echo "gave up waiting for: $*" >&2; return 1; }
		sleep 0.05
	done
}

# http_get PORT: what a server on the host's loopback answers, without its header.
http_get()
{
	# shellcheck disable=SC2016 # the inner shell expands it
	timeout 5 bash -c 'exec 4<>"/dev/tcp/127.0.0.1/$1" && printf "GET / HTTP/1.0\r\n\r\n" >&4 &&
		sed "1,/^\r*\$/d" <&4' sh "$1" 2>&1
}

# helper_pids: every live process of the network helper under test.
helper_pids()
{
	local exe p
	exe=$(readlink -f "$HELPER")
	for p in /proc/[0-9]*; do
		[ "$(readlink "$p/exe" 2>/dev/null)" != "$exe" ] || echo "${p#/proc/}"
	done
}

# helper_keeper: the pid that the engine started, of a single running helper: it shows the command line as given, the
# others (a worker, a janitor) have titles.
helper_keeper()
{
	local p
	for p in $(helper_pids); do
		grep -qsz '^netns-helper: ' "/proc/$p/cmdline" || echo "$p"
	done
}

# helper_workers: the process that does the work for it.
helper_workers()
{
	local p
	for p in $(helper_pids); do
		! grep -qsz '^netns-helper: worker' "/proc/$p/cmdline" || echo "$p"
	done
}
