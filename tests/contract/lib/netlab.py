# SPDX-License-Identifier: Apache-2.0
"""A machine of its own for network tests: nothing of it is seen outside, nothing of outside is in the way.

sandbox() runs the test program again as process 1 of new mount, network and process namespaces:

	guest (one or more)      host: the helper under test            outside: the rest of the world
	tap0 ...                 lo 127.0.0.1 ::1                        veth 198.51.100.2  2001:db8:51::2
	                         veth 198.51.100.1, .9  2001:db8:51::1, ::9

Every port is free in there, /etc and /run are private copies, /dev/net/tun may be opened by everyone, and whatever
is left over at the end dies with process 1. The driver stays root, and reaches every network namespace by making
its sockets there (a socket belongs for ever to the namespace of the thread that made it).
"""
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

import tap

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
HOST4, HOST4_SECOND, OUTSIDE4 = '198.51.100.1', '198.51.100.9', '198.51.100.2'
HOST6, HOST6_SECOND, OUTSIDE6 = '2001:db8:51::1', '2001:db8:51::9', '2001:db8:51::2'
WORK = '/run/netlab'		# work files; in the sandbox a file system of its own
USER = 54321			# the ordinary user: needs no entry in passwd
_ETC = ('passwd', 'group', 'nsswitch.conf', 'hosts', 'protocols', 'services', 'ld.so.cache', 'ld.so.conf',
	'ld.so.conf.d', 'alternatives', 'subuid', 'subgid', 'localtime', 'containers')


def sandbox():
	"""Return inside the sandbox; print a TAP skip and leave where it cannot be made."""
	if os.environ.get('NETLAB_INSIDE') == '1' and os.getpid() == 1:
		tap.watch(60)
		_furnish()
		return
	if os.geteuid() != 0:
		print('1..0 # SKIP making namespaces with several users in them needs root')
		sys.exit(0)
	os.environ['NETLAB_INSIDE'] = '1'
	os.execvp('unshare', ['unshare', '--mount', '--net', '--pid', '--ipc', '--fork', '--kill-child', '--mount-proc',
		sys.executable, os.path.abspath(sys.argv[0])] + sys.argv[1:])


def _furnish():
	os.umask(0o022)
	for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
		signal.signal(number, signal.SIG_DFL)	# whoever started us may ignore some (nohup), and helpers would inherit that
	run('mount', '-t', 'tmpfs', '-o', 'mode=755', 'netlab-etc', '/mnt')
	for name in _ETC:
		if os.path.isdir('/etc/' + name):
			shutil.copytree('/etc/' + name, '/mnt/' + name, symlinks=True)
		elif os.path.exists('/etc/' + name):
			shutil.copy('/etc/' + name, '/mnt/' + name, follow_symlinks=True)
	run('mount', '--move', '/mnt', '/etc')
	run('mount', '-t', 'tmpfs', '-o', 'mode=755', 'netlab-run', '/run')
	os.mkdir(WORK)
	os.chmod(WORK, 0o1777)
	run('mknod', '-m', '666', '/run/tun', 'c', '10', '200')
	run('mount', '--bind', '/run/tun', '/dev/net/tun')
	resolv_conf()
	_wire()


def _wire():
	run('ip', 'netns', 'add', 'outside')
	for at in (HOST, OUTSIDE):
		at.run('nsenter', '--net=' + at.path, 'sysctl', '-qw', 'net.ipv6.conf.all.accept_dad=0', 'net.ipv6.conf.default.accept_dad=0')
	run('ip', 'link', 'set', 'lo', 'up')
	run('ip', 'link', 'add', 'wan', 'type', 'veth', 'peer', 'name', 'wan', 'netns', 'outside')
	for at, v4, v6 in ((HOST, (HOST4, HOST4_SECOND), (HOST6, HOST6_SECOND)), (OUTSIDE, (OUTSIDE4,), (OUTSIDE6,))):
		for address in v4:
			at.ip('addr', 'add', address + '/24', 'dev', 'wan')
		for address in v6:
			at.ip('addr', 'add', address + '/64', 'dev', 'wan', 'nodad')
		at.ip('link', 'set', 'lo', 'up')
		at.ip('link', 'set', 'wan', 'up')
	HOST.ip('route', 'add', 'default', 'via', OUTSIDE4)
	HOST.ip('-6', 'route', 'add', 'default', 'via', OUTSIDE6)
	# where nobody is, there is silence: no ICMP from a router
	OUTSIDE.ip('route', 'add', 'blackhole', 'default')
	OUTSIDE.ip('-6', 'route', 'add', 'blackhole', 'default')
	with open('/proc/sys/net/ipv4/ping_group_range', 'w') as f:
		f.write('0 2147483647')
	# each end takes up to a second to notice that the other is up, and sends nothing before
	for at in (HOST, OUTSIDE):
		tap.until(lambda: not at.links('tentative') and 'LOWER_UP' in at.link('wan')['flags'], 'link is up')


def resolv_conf(*servers, text=None, rename=True):
	"""Write the host's resolv.conf; by default it is replaced by rename, as resolvers do."""
	if text is None:
		text = ''.join('nameserver %s\n' % s for s in servers)
	if not rename:
		with open('/etc/resolv.conf', 'w') as f:
			f.write(text)
		return
	with open('/etc/resolv.conf.new', 'w') as f:
		f.write(text)
	os.rename('/etc/resolv.conf.new', '/etc/resolv.conf')


def run(*argv, check=True, **how):
	"""Run a command to its end; return its output, or fail with it."""
	done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **how)
	text = done.stdout.decode('utf-8', 'replace')
	if check and done.returncode != 0:
		raise tap.Failure('%s: status %d: %s' % (' '.join(argv), done.returncode, text.strip()))
	return text


class Netns:
	"""One network namespace. As a context manager: what the calling thread creates inside belongs there."""

	def __init__(self, path):
		self.path = path
		self.fd = None
		self._back = None

	def open(self):
		if self.fd is None:
			self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
		return self.fd

	def __enter__(self):
		self._back = os.open('/proc/thread-self/ns/net', os.O_RDONLY | os.O_CLOEXEC)
		self._set(self.open())
		return self

	def __exit__(self, *_):
		self._set(self._back)
		os.close(self._back)

	@staticmethod
	def _set(fd):
		if LIBC.setns(fd, CLONE_NEWNET) != 0:
			raise OSError(ctypes.get_errno(), 'setns')

	def close(self):
		if self.fd is not None:
			os.close(self.fd)
			self.fd = None

	def run(self, *argv, **how):
		with self:
			return run(*argv, **how)

	def popen(self, *argv, **how):
		with self:
			return subprocess.Popen(argv, **how)

	def ip(self, *argv, **how):
		return self.run('ip', *argv, **how)

	def links(self, *which):
		"""`ip addr` as objects, of those links and addresses that @which selects."""
		return [a for a in json.loads(self.ip('-j', 'addr', 'show', *which) or '[]') if a]

	def link(self, name):
		"""The link of that name with its addresses, or None."""
		found = [a for a in self.links() if a['ifname'] == name]
		return found[0] if found else None

	def addresses(self, name, family='inet', scope=None):
		link = self.link(name)
		return [a['local'] for a in link['addr_info']
			if a['family'] == family and (scope is None or a['scope'] == scope)] if link else []

	def routes(self, family='-4'):
		return json.loads(self.ip(family, '-j', 'route', 'show') or '[]')

	def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, proto=0):
		with self:
			return socket.socket(family, kind, proto)

	def listen(self, address, port=0, backlog=128):
		"""A TCP listener; its port is in getsockname()."""
		s = self.socket(_family(address))
		s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		if s.family == socket.AF_INET6:
			s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
		s.bind((address, port))
		s.listen(backlog)
		s.settimeout(5)
		return s

	def udp(self, address=None, port=0):
		s = self.socket(_family(address or '0.0.0.0'), socket.SOCK_DGRAM)
		if address is not None:
			s.bind((address, port))
		s.settimeout(5)
		return s

	def connect(self, address, port, timeout=5, source=None):
		"""A connected TCP socket; OSError as connect(2) gives it."""
		s = self.socket(_family(address))
		if source:
			s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
			s.bind(source)
		s.settimeout(timeout)
		try:
			s.connect((address, port))
		except BaseException:
			s.close()
			raise
		return s

	def packets(self, link, protocol=0x0003):
		"""A packet socket on @link that sees and sends whole frames."""
		with self:
			s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
			s.bind((link, protocol))
		s.settimeout(3)
		return s


def _family(address):
	return socket.AF_INET6 if ':' in address else socket.AF_INET


HOST = Netns('/proc/self/ns/net')
OUTSIDE = Netns('/run/netns/outside')


class Guest(Netns):
	"""A container without a container: a process that waits, with a network namespace of its own.

	@owner     uid that creates it
	@userns    whether it gets a user namespace too; by default if an ordinary user creates it and not @inside another
	@inside    pid of a process in whose user namespace all that is done (as Podman does)
	"""

	def __init__(self, owner, userns=None, inside=None):
		userns = (owner != 0 and not inside) if userns is None else userns
		argv = ['unshare', '--net'] + (['--user', '--map-root-user'] if userns else [])
		if inside:
			argv = ['nsenter', '--user', '--preserve-credentials', '--target', str(inside)] + argv
		self.process = subprocess.Popen(argv + ['sh', '-c', 'echo; exec cat >/dev/null'], user=owner, group=owner,
			extra_groups=[], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd='/')
		self.pid = self.process.pid
		if self.process.stdout.read(1) != b'\n':
			raise tap.Skip('unshare failed: user or network namespaces are not permitted here')
		super().__init__('/proc/%d/ns/net' % self.pid)
		self.userns_path = '/proc/%d/ns/user' % self.pid
		self.open()

	def sysctl(self, key, value):
		self.run('nsenter', '--net=' + self.path, 'sysctl', '-qw', '%s=%s' % (key, value))

	def end(self):
		"""End its process; the namespace lives on while something refers to it."""
		if self.process is not None:
			self.process.stdin.close()
			self.process.kill()
			self.process.wait()
			self.process.stdout.close()
			self.process = None

	def close(self):
		self.end()
		super().close()


def pidfd_wait(pid, seconds):
	"""True once @pid has ended (not reaped), False after @seconds."""
	fd = os.pidfd_open(pid)
	try:
		waiter = select.poll()
		waiter.register(fd, select.POLLIN)
		return bool(waiter.poll(seconds * 1000))
	finally:
		os.close(fd)


def getfd(pidfd, fd):
	"""A duplicate of descriptor @fd of another process."""
	got = LIBC.syscall(438, pidfd, fd, 0)	# pidfd_getfd(2)
	if got < 0:
		raise OSError(ctypes.get_errno(), 'pidfd_getfd')
	return got


def processes():
	"""Pids of this sandbox, without the driver."""
	return [int(p) for p in os.listdir('/proc') if p.isdigit() and int(p) != 1]


def state(pid):
	"""The letter of proc(5), X if @pid is gone."""
	try:
		with open('/proc/%d/stat' % pid) as f:
			return f.read().rpartition(')')[2].split()[0]
	except (FileNotFoundError, ProcessLookupError):
		return 'X'


def alive(pid):
	"""True unless @pid is gone or a zombie."""
	return state(pid) not in 'ZX'


def cpu_ms(pid):
	"""Milliseconds of CPU that @pid has had: a busy loop gets its share even of a crowded machine, sleep costs none."""
	with open('/proc/%d/schedstat' % pid) as f:
		return int(f.read().split()[0]) / 1e6


def descendants(pid):
	"""@pid and every process that came from it, as far as the parents tell."""
	parents = {}
	for p in processes():
		try:
			with open('/proc/%d/stat' % p) as f:
				parents[p] = int(f.read().rpartition(')')[2].split()[1])
		except (FileNotFoundError, ProcessLookupError):
			pass
	found = [pid]
	for p in found:
		found += [c for c, parent in parents.items() if parent == p and c not in found]
	return found


def sweep():
	"""Kill and reap everything in the sandbox but the driver; only where that is certain to be a sandbox."""
	if os.getpid() != 1 or os.environ.get('NETLAB_INSIDE') != '1':
		raise RuntimeError('sweep outside the sandbox')
	end = time.monotonic() + 5
	while processes() and time.monotonic() < end:
		for p in processes():
			try:
				os.kill(p, signal.SIGKILL)
			except ProcessLookupError:
				pass
		try:
			while os.waitpid(-1, os.WNOHANG)[0]:
				pass
		except ChildProcessError:
			pass
		time.sleep(0.005)
