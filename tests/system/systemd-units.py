#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The unit templates in a booted systemd: everything of a unit is killed, and what must go on goes on."""
import ctypes
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.normpath(os.path.join(HERE, '..', '..'))
BUILD = os.environ.get('TANDEM_BUILDDIR') or os.path.join(TOP, 'build')
STAGE = '/opt/tandem-test'
UNIT = 'tandem-netns-helper@web.service'
API = '/run/tandem/web.sock'
PORT = 8099
CLONE_NEWNET = 0x40000000


def outside():
	"""Boot, and run this program again inside."""
	for path in ('conmon/conmon', 'netns-helper/netns-helper', 'tests/chaos/load'):
		if not os.access(os.path.join(BUILD, path), os.X_OK):
			print('1..0 # SKIP %s is not built' % path)
			return 0
	if os.geteuid() != 0:
		print('1..0 # SKIP booting systemd in namespaces needs root')
		return 0
	env = dict(os.environ, TANDEM_BUILDDIR=BUILD)
	done = subprocess.run([os.path.join(HERE, 'boot-systemd'), '--bind', TOP, '--bind', BUILD, '/usr/bin/env',
		'TANDEM_BUILDDIR=' + BUILD, '/usr/bin/python3', os.path.abspath(__file__), '--inside'], env=env,
		stdin=subprocess.DEVNULL)
	if done.returncode == 77:
		print('1..0 # SKIP systemd cannot be booted here')
		return 0
	return done.returncode


def run(*argv, check=True):
	done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
	text = done.stdout.decode('utf-8', 'replace')
	if check and done.returncode:
		raise RuntimeError('%s: status %d: %s' % (' '.join(argv), done.returncode, text.strip()))
	return text


def until(condition, what, seconds=20):
	end = time.monotonic() + seconds
	while True:
		value = condition()
		if value:
			return value
		if time.monotonic() > end:
			raise TimeoutError('%s: not within %g s' % (what, seconds))
		time.sleep(0.01)


# --- set-up ---

def install():
	for d in ('bin', 'lib/tandem', 'libexec'):
		os.makedirs(os.path.join(STAGE, d))
	shutil.copy(os.path.join(BUILD, 'conmon/conmon'), STAGE + '/bin')
	shutil.copy(os.path.join(BUILD, 'netns-helper/netns-helper'), STAGE + '/bin')
	shutil.copy(os.path.join(BUILD, 'tests/chaos/load'), STAGE + '/bin')
	shutil.copy(os.path.join(BUILD, 'lib/tandem/libtandem-common.so'), STAGE + '/lib/tandem')
	for name, to in (('tandem-netns-helper@.service', '/etc/systemd/system'), ('tandem-container@.service', '/etc/systemd/system'),
			('container-unit', STAGE + '/libexec')):
		with open(os.path.join(TOP, 'systemd', name + '.in')) as f:
			text = f.read()
		for word, value in (('@bindir@', STAGE + '/bin'), ('@pkglibexecdir@', STAGE + '/libexec'), ('@docdir@', STAGE)):
			text = text.replace(word, value)
		with open(os.path.join(to, name), 'w') as f:
			f.write(text)
	os.chmod(STAGE + '/libexec/container-unit', 0o755)
	shutil.copy(os.path.join(TOP, 'systemd/tandem.catalog'), '/usr/lib/systemd/catalog/')
	shutil.copy(os.path.join(TOP, 'systemd/tandem.tmpfiles.conf'), '/usr/lib/tmpfiles.d/tandem.conf')
	run('journalctl', '--update-catalog')
	run('systemd-tmpfiles', '--create', '/usr/lib/tmpfiles.d/tandem.conf')
	for d in ('netns-helper', 'containers'):
		os.makedirs('/etc/tandem/' + d)
	run('systemctl', 'daemon-reload')


def api(**what):
	with socket.socket(socket.AF_UNIX) as s:
		s.settimeout(10)
		s.connect(API)
		s.sendall(json.dumps(what).encode())
		s.shutdown(socket.SHUT_WR)
		return json.loads(s.recv(65536))


def ask():
	"""One connection through the published port; False if it was cut, an exception if it was refused."""
	with socket.create_connection(('127.0.0.1', PORT), 10) as s:
		s.settimeout(10)
		try:
			s.sendall(b'hello')
			return s.recv(5) == b'hello'
		except ConnectionResetError:
			return False


def prop(unit, name):
	return run('systemctl', 'show', '-P', name, unit).strip()


def link():
	"""What must not change: number, peer, hardware address, MTU, addresses."""
	found = json.loads(run('ip', '-n', 'web', '-j', 'addr', 'show', 'tap0'))[0]
	return [found.get(k) for k in ('ifindex', 'link_index', 'address', 'mtu')] + \
		[(a['local'], a['prefixlen']) for a in found['addr_info']]


def helper_start():
	run('ip', 'netns', 'add', 'web')
	run('ip', 'link', 'set', 'lo', 'up')
	subprocess.Popen(['ip', 'netns', 'exec', 'web', STAGE + '/bin/load', 'run', 'port=7000'], stdin=subprocess.DEVNULL,
		stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
	with open('/etc/tandem/netns-helper/web.conf', 'w') as f:
		f.write('TANDEM_OPTIONS=-c --mtu=65520 --enable-sandbox --enable-seccomp --api-socket=%s\n'
			'TANDEM_TARGET=--netns-type=path /run/netns/web\nTANDEM_INTERFACE=tap0\n'
			'TANDEM_CONTAINER_ID=%s\nTANDEM_CONTAINER_NAME=web\n' % (API, 'ab' * 32))
	run('systemctl', 'start', UNIT)
	answer = api(execute='add_hostfwd', arguments={'proto': 'tcp', 'host_addr': '127.0.0.1', 'host_port': PORT,
		'guest_addr': '', 'guest_port': 7000})
	assert answer == {'return': {'id': 1}}, answer
	until(ask, 'the port answers')


# --- tests ---

def test_1_ready():
	"""the helper's unit is active when the network is there, and systemd holds its descriptors"""
	helper_start()
	assert prop(UNIT, 'ActiveState') == 'active'
	assert int(prop(UNIT, 'NFileDescriptorStore')) >= 4, prop(UNIT, 'NFileDescriptorStore')
	assert 'tap0' in run('ip', '-n', 'web', 'link')


def test_2_killed_altogether():
	"""all of the unit killed 20 times: no connection refused, same link, same addresses, same forwards"""
	before = link()
	for i in range(20):
		old = prop(UNIT, 'MainPID')
		run('systemctl', 'kill', '-s', 'KILL', UNIT)
		ask()	# made in the gap or just before it; refused would raise
		until(lambda: prop(UNIT, 'MainPID') not in ('0', old) and prop(UNIT, 'ActiveState') == 'active', 'it is started again')
		until(ask, 'the port answers again')
	assert before == link(), 'link changed:\n%r\n%r' % (before, link())
	entries = api(execute='list_hostfwd')['entries']
	assert [(e['id'], e['host_port']) for e in entries] == [(1, PORT)], entries
	answer = api(execute='add_hostfwd', arguments={'proto': 'tcp', 'host_addr': '127.0.0.1', 'host_port': PORT + 1,
		'guest_addr': '', 'guest_port': 7000})
	assert answer == {'return': {'id': 2}}, answer
	assert int(prop(UNIT, 'NRestarts')) == 20, prop(UNIT, 'NRestarts')


def test_3_worker_killed():
	"""only the worker killed: the keeper replaces it, systemd does not notice"""
	restarts, main = prop(UNIT, 'NRestarts'), prop(UNIT, 'MainPID')
	for _ in range(10):
		children = run('pgrep', '-P', main).split()
		run('kill', '-9', *children)
		until(ask, 'the port answers again')
	assert prop(UNIT, 'NRestarts') == restarts and prop(UNIT, 'MainPID') == main


class Stream:
	"""Numbers sent into one end of a connection whose other end sends back what it gets; all come back, once and in order."""

	def __init__(self, sock):
		self.sock, self.trouble, self.got, self.stop = sock, None, 0, False
		sock.settimeout(20)
		self.threads = [threading.Thread(target=self.guarded, args=(f,), daemon=True) for f in (self.send, self.receive)]
		for t in self.threads:
			t.start()

	def guarded(self, work):
		try:
			work()
		except Exception as e:	# noqa: B902
			self.trouble = self.trouble or '%s: %s' % (type(e).__name__, e)

	def send(self):
		n = 0
		while not self.stop:
			self.sock.sendall(struct.pack('>4096Q', *range(n, n + 4096)))
			n += 4096
		self.sent = n
		self.sock.shutdown(socket.SHUT_WR)

	def receive(self):
		rest = b''
		while True:
			data = self.sock.recv(1 << 16)
			if not data:
				break
			data = rest + data
			n = len(data) // 8
			want = range(self.got, self.got + n)
			if struct.unpack('>%dQ' % n, data[:8 * n]) != tuple(want):
				raise ValueError('not the numbers from %d on' % self.got)
			self.got, rest = self.got + n, data[8 * n:]
		if rest:
			raise ValueError('ends within a number')

	def goes_on(self, much=200000):
		"""That many more numbers come."""
		before = self.got
		until(lambda: self.trouble or self.got > before + much, 'numbers come')
		assert not self.trouble, self.trouble

	def finish(self):
		self.stop = True
		for t in self.threads:
			t.join(20)
		assert not self.trouble, self.trouble
		assert self.got == self.sent, '%d numbers came of %d' % (self.got, self.sent)
		self.sock.close()


def socket_in_guest():
	libc, here = ctypes.CDLL(None, use_errno=True), os.open('/proc/self/ns/net', os.O_RDONLY)
	guest = os.open('/run/netns/web', os.O_RDONLY)
	try:
		assert libc.setns(guest, CLONE_NEWNET) == 0
		return socket.socket()
	finally:
		assert libc.setns(here, CLONE_NEWNET) == 0
		os.close(here)
		os.close(guest)


def connect_out(listener):
	"""A connection of the guest to a server of ours, which sends back what it gets."""
	def echo():
		with listener.accept()[0] as s:
			while True:
				data = s.recv(1 << 16)
				if not data:
					return
				s.sendall(data)

	threading.Thread(target=echo, daemon=True).start()
	sock = socket_in_guest()
	sock.settimeout(10)
	sock.connect(('10.0.2.2', listener.getsockname()[1]))
	return sock


def stored():
	return int(prop(UNIT, 'NFileDescriptorStore'))


def kill_unit():
	old = prop(UNIT, 'MainPID')
	run('systemctl', 'kill', '-s', 'KILL', UNIT)
	until(lambda: prop(UNIT, 'MainPID') not in ('0', old) and prop(UNIT, 'ActiveState') == 'active', 'it is started again')


def test_4_connections():
	"""all of the unit killed 10 times while two connections are full of numbers: not one is lost or doubled"""
	before = stored()
	with socket.socket() as listener:
		listener.bind(('127.0.0.1', 0))
		listener.listen()
		sockets = [socket.create_connection(('127.0.0.1', PORT), 10), connect_out(listener)]
		until(lambda: stored() == before + 4, 'systemd has both connections')	# idle still: no pipes are made
		streams = [Stream(s) for s in sockets]
		for _ in range(10):
			for stream in streams:
				stream.goes_on()
			kill_unit()
		for stream in streams:
			stream.goes_on()
			stream.finish()
	# what has ended is not kept any more; pipes go after a while without work
	until(lambda: stored() <= before, 'systemd has let go of what was more than %d' % before)


def test_5_ends_of_kept():
	"""a connection that systemd has too ends at once for its peer, by a reset as by an end; one too young to be kept is cut, not left hanging"""
	before = stored()	# nothing more comes or goes by itself: see the end of the test before this one

	def pair():
		listener = socket.socket()
		listener.bind(('127.0.0.1', 0))
		listener.listen()
		out = socket_in_guest()
		out.settimeout(10)
		out.connect(('10.0.2.2', listener.getsockname()[1]))
		inner = listener.accept()[0]
		inner.settimeout(10)
		listener.close()
		return out, inner

	def kept_pair():
		until(lambda: stored() == before, 'systemd has let go of the last one')
		sockets = pair()
		until(lambda: stored() == before + 2, 'systemd has it')
		return sockets

	out, inner = kept_pair()
	out.close()
	assert inner.recv(1) == b'', 'no end of the stream'
	inner.close()
	out, inner = kept_pair()
	out.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
	out.close()
	try:
		raise AssertionError('no reset but %r' % inner.recv(1))
	except ConnectionResetError:
		inner.close()
	out, inner = pair()
	kill_unit()
	for s in (out, inner):
		try:
			assert s.recv(1) == b'', 'data from nowhere'
		except ConnectionResetError:
			pass
		s.close()
	until(ask, 'the port answers again')


def test_6_explained():
	"""the journal has the deaths with their fields, and journalctl -x explains them"""
	entries = [json.loads(line) for line in run('journalctl', '-q', '-o', 'json', 'CONTAINER_ID_FULL=' + 'ab' * 32,
		'MESSAGE_ID=b1f5b7c0a3b94e0f8d0e6c1d2f3a4b52').splitlines()]
	assert len(entries) >= 10, len(entries)
	assert entries[0]['CONTAINER_NAME'] == 'web' and entries[0]['TANDEM_GAP_MS'].isdigit(), entries[0]
	text = run('journalctl', '-q', '-x', '-n', '1', 'MESSAGE_ID=b1f5b7c0a3b94e0f8d0e6c1d2f3a4b52')
	assert 'works again' in text and 'Nothing has to be done' in text, text


def test_7_descriptors():
	"""no descriptor has been gathered, neither in the processes nor in systemd's store"""
	main = prop(UNIT, 'MainPID')
	assert int(prop(UNIT, 'NFileDescriptorStore')) < 40, prop(UNIT, 'NFileDescriptorStore')
	until(lambda: len(os.listdir('/proc/%s/fd' % main)) < 90, 'few descriptors: %d' % len(os.listdir('/proc/%s/fd' % main)))


def test_8_stop():
	"""a stopped unit takes link and ports with it, and starts anew"""
	run('systemctl', 'stop', UNIT)
	until(lambda: 'tap0' not in run('ip', '-n', 'web', 'link'), 'the link is gone')
	with socket.socket() as s:
		assert s.connect_ex(('127.0.0.1', PORT)) != 0, 'port is open'
	run('systemctl', 'start', UNIT)
	assert api(execute='list_hostfwd')['entries'] == []
	run('systemctl', 'stop', UNIT)


def container_conf(name, words):
	bundle = '/var/tmp/' + name
	os.makedirs(bundle + '/rootfs/proc')
	shutil.copy(STAGE + '/bin/load', bundle + '/rootfs/load')
	with open(bundle + '/config.json', 'w') as f:
		json.dump({'ociVersion': '1.0.2', 'root': {'path': 'rootfs'}, 'mounts': [
			{'destination': '/proc', 'type': 'proc', 'source': 'proc'}],
			'process': {'user': {'uid': 0, 'gid': 0}, 'args': ['/load', 'run'] + words, 'env': ['PATH=/'], 'cwd': '/',
				'rlimits': []},
			'linux': {'namespaces': [{'type': t} for t in ('pid', 'ipc', 'uts', 'mount')]}}, f)
	with open('/etc/tandem/containers/%s.conf' % name, 'w') as f:
		f.write('BUNDLE=%s\nRUNTIME=%s\nCONMON_OPTIONS=--log-path k8s-file:%s/log --name %s\n'
			% (bundle, shutil.which('runc', path='/usr/sbin:/usr/bin'), bundle, name))
	return bundle


def conmons():
	return [int(p) for p in os.listdir('/proc') if p.isdigit() and exe(p) == STAGE + '/bin/conmon']


def exe(pid):
	try:
		return os.readlink('/proc/%s/exe' % pid)
	except OSError:
		return None


def test_9_container():
	"""a container unit: its conmon's processes killed one after the other, it goes on, its log is whole, its status is known"""
	unit = 'tandem-container@writer.service'
	bundle = container_conf('writer', ['lines=77', 'pause=20000', 'code=9'])
	run('systemctl', 'start', unit)
	until(lambda: os.path.exists(bundle + '/log') and os.path.getsize(bundle + '/log') > 1000, 'it writes')
	first = True
	for _ in range(12):
		if first:
			run('systemctl', 'kill', '-s', 'KILL', '--kill-who=main', unit)
			first = False
		else:
			os.kill(sorted(conmons())[-1], 9)
		until(lambda: len(conmons()) == 4, 'four processes again')
		assert prop(unit, 'ActiveState') == 'active', prop(unit, 'ActiveState')
	run('systemctl', 'stop', unit)
	until(lambda: not conmons(), 'all ended')
	done = subprocess.run([STAGE + '/bin/load', 'check-k8s', '77', bundle + '/log'], stdout=subprocess.PIPE)
	assert done.returncode == 0, done.stdout.decode()


def test_9_container_status():
	"""a container that ends by itself gives the unit its status"""
	unit = 'tandem-container@ends.service'
	bundle = container_conf('ends', ['lines=78', 'pause=20000', 'code=9'])
	run('systemctl', 'start', unit)
	until(lambda: os.path.exists(bundle + '/log') and os.path.getsize(bundle + '/log') > 1000, 'it writes')
	with open('/run/tandem-container-ends/pid') as f:
		os.kill(int(f.read()), 15)
	until(lambda: prop(unit, 'ActiveState') == 'failed', 'the unit ends')
	assert prop(unit, 'ExecMainStatus') == '9', prop(unit, 'ExecMainStatus')


def inside():
	tests = [f for name, f in sorted(globals().items()) if name.startswith('test_')]
	print('1..%d' % len(tests))
	bad = 0
	install()
	for i, f in enumerate(tests, 1):
		trouble = None
		try:
			f()
		except Exception as e:	# noqa: B902
			trouble = '%s: %s' % (type(e).__name__, e)
		bad += trouble is not None
		print('%sok %d %s' % ('not ' if trouble else '', i, f.__doc__))
		if trouble:
			for line in trouble.splitlines():
				print('# ' + line)
			for unit in (UNIT, 'tandem-container@writer.service'):
				for line in run('journalctl', '-q', '-n', '25', '-u', unit, check=False).splitlines():
					print('#   ' + line)
		sys.stdout.flush()
	return 1 if bad else 0


if __name__ == '__main__':
	sys.exit(inside() if '--inside' in sys.argv else outside())
