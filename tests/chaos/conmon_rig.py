# SPDX-License-Identifier: Apache-2.0
"""Containers under our conmon, driven as Podman drives it: SEQPACKET sync and start pipes, runc, a busybox-less bundle."""
import json
import os
import random
import shutil
import socket
import subprocess
import threading
import time

import world
from world import DEADLINE, WORK, lives, until

LEVEL = 'conmon'
WINDOW = 32768		# bytes an attach client may have under way


class Conmon:
	"""What one conmon is given and what must come of it: a container or an exec session."""

	def __init__(self, rig, name):
		self.rig, self.name = rig, name
		self.dir = os.path.join(WORK, 'c', name)
		self.cid = name.encode().hex().ljust(64, '0')[:64]
		self.sid = None
		self.quiet = False
		os.makedirs(os.path.join(self.dir, 'exits'))
		os.makedirs(os.path.join(self.dir, 'persist'))

	def path(self, *names):
		return os.path.join(self.dir, *names)

	def launch(self, *options, cid=None):
		"""Start conmon with @options and let it go; its first sync message is left to the caller."""
		self.sync, sync = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		start, go = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		self.sync.settimeout(60)
		argv = [self.rig.programs.conmon, '--api-version', '-c', cid or self.cid, '-u', self.cid, '-n', self.name,
			'-r', self.rig.programs.runc, '--runtime-arg', '--root=' + self.rig.runc_root, '-b', self.dir,
			'-p', self.path('pidfile'), '-P', self.path('conmon.pid'), '--exit-dir', self.path('exits'),
			'--persist-dir', self.path('persist'), '--full-attach',
			'--exit-command', '/bin/sh', '--exit-command-arg', '-c',
			'--exit-command-arg', 'echo ran >>' + self.path('exit-command')] + list(options)
		env = dict(os.environ, _OCI_SYNCPIPE=str(sync.fileno()), _OCI_STARTPIPE=str(start.fileno()))
		front = subprocess.Popen(argv, pass_fds=[sync.fileno(), start.fileno()], env=env, cwd=self.dir,
			stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.path('front.err'), 'wb'))
		sync.close()
		start.close()
		go.send(b'\0')
		go.close()
		status = front.wait()
		if status != 0:
			raise RuntimeError('conmon ended with %d: %s' % (status, open(self.path('front.err')).read()))
		with open(self.path('conmon.pid')) as f:
			self.keeper = int(f.read())

	def message(self):
		text = self.sync.recv(8192)
		return json.loads(text) if text else None

	def arm(self):
		"""From now on processes of it may be killed."""
		if not self.rig.may_kill or not lives(self.keeper):
			return
		st = world.stat_of(self.keeper)
		if st:
			self.sid = st[3]
			self.rig.targets[self.sid] = self

	def disarm(self):
		self.rig.targets.pop(self.sid, None)

	def processes(self):
		return [p for p, st in world.running(self.rig.programs.conmon).items() if st[3] == self.sid or p == self.keeper]

	def wait_end(self, want, promise_name):
		"""The exit files, the exit command, and nothing left of it."""
		book = self.rig.book
		file = self.path('exits', self.exit_name)
		try:
			until(lambda: os.path.exists(file), 'exit file of %s' % promise_name)
			with open(file) as f:
				got = f.read()
			if got != str(want):
				book.breach('wrong exit codes', '%s: exit file says %r, should be %d' % (promise_name, got, want))
			with open(self.path('persist', 'exit')) as f:
				if f.read() != str(want):
					book.breach('wrong exit codes', '%s: persist file' % promise_name)
		except (TimeoutError, OSError) as e:
			book.breach('wrong exit codes', '%s: %s' % (promise_name, e))
		try:
			until(lambda: not self.processes(), 'the processes of %s end' % promise_name)
		except TimeoutError:
			for p in self.processes():
				book.breach('left over', '%s: process %d %s' % (promise_name, p, world.cmdline(p)[:100]))
				world.kill(p)
		self.disarm()
		book.count('exit codes checked')
		self.check_exit_command(promise_name)

	def check_exit_command(self, name):
		try:
			with open(self.path('exit-command')) as f:
				n = len(f.read().splitlines())
		except OSError:
			n = 0
		if n != 1:
			self.rig.book.breach('exit commands missing or doubled', '%s: ran %d times' % (name, n))
		if os.path.exists(self.path('attach')):
			self.rig.book.breach('left over', '%s: the attach socket' % name)

	def check_log(self, seed, what):
		"""Every line of both streams, once and in order."""
		done = subprocess.run([self.rig.programs.load, 'check-k8s', str(seed), self.path('log')], stdout=subprocess.PIPE)
		self.rig.judge_log(done, '%s (%s)' % (self.name, what))

	def forget(self):
		self.sync.close()
		if not self.rig.keep:
			shutil.rmtree(self.dir, ignore_errors=True)


class Container(Conmon):
	def __init__(self, rig, name, kind, seed):
		super().__init__(rig, name)
		self.kind, self.seed = kind, seed
		self.code = random.Random(seed).randrange(256)
		self.exit_name = self.cid
		self.client = None

	def start(self):
		terminal = self.kind == 'terminal'
		echo = self.kind in ('terminal', 'stdin')
		words = ['echo', 'pause=50000'] + (['raw'] if terminal else []) if echo else \
			['lines=%d' % self.seed, 'pause=%d' % self.rig.pause_us]
		self.rig.write_bundle(self.dir, ['/load', 'run', 'code=%d' % self.code] + words, terminal)
		driver = 'journald:' if self.kind == 'journald' else 'k8s-file:' + self.path('log')
		self.launch('-l', driver, *(['-t'] if terminal else ['-i'] if echo else []))
		first = self.message()
		if not first or first.get('data', -1) <= 0:
			raise RuntimeError('%s was not created: %r' % (self.name, first))
		self.payload = first['data']
		self.client = Client(self, echo)
		self.arm()
		self.rig.runc('start', self.cid)
		return self

	def stop(self):
		want = self.code
		self.client.wait_first()	# process 1 of a namespace does not get a SIGTERM that it has no handler for yet
		finish = self.client.settle if self.client.echoes else None
		if finish:
			finish()
		if self.kind in ('terminal', 'stdin') and self.code % 2:
			world.kill(self.payload, 9)
			want = 137
		elif not world.kill(self.payload, 15):
			self.rig.book.breach('containers disturbed', '%s: its process had ended before' % self.name)
		self.wait_end(want, '%s %s' % (self.name, self.kind))
		self.client.end()
		if self.kind == 'journald':
			self.check_journal()
		elif self.client.echoes:
			self.client.check_log()
		else:
			self.check_log(self.seed, 'k8s-file')
		self.rig.runc('delete', '--force', self.cid, check=False)
		self.rig.book.count('containers run')
		self.forget()

	def check_journal(self):
		"""The messages of both priorities, joined, are the streams."""
		streams = {'6': [], '3': []}
		def read():
			return self.rig.journal.entries('CONTAINER_ID_FULL=' + self.cid, '_COMM=conmon')
		for entry in read():
			if 'MESSAGE_ID' not in entry:
				streams[entry['PRIORITY']].append(world.entry_bytes(entry['MESSAGE']))
		for priority, stream in (('6', 'o'), ('3', 'e')):
			file = self.path('journal.' + stream)
			with open(file, 'wb') as f:
				f.write(b''.join(streams[priority]))
			done = subprocess.run([self.rig.programs.load, 'check', str(self.seed), stream, file], stdout=subprocess.PIPE)
			self.rig.judge_log(done, '%s (journald)' % self.name)


class Client:
	"""An attach client. Of an echo: everything typed comes back once, in order. Of a writer: it sees both streams."""

	def __init__(self, container, echoes):
		self.container, self.echoes = container, echoes
		self.rig, self.book = container.rig, container.rig.book
		self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		self.sock.connect(container.path('attach'))
		self.sent, self.came = bytearray(), bytearray()
		self.error = bytearray()
		self.lock = threading.Condition()
		self.settling = self.closed = False
		self.n = 0
		self.rig.threads.start(self.read)
		if echoes:
			self.rig.threads.start(self.type)

	def read(self):
		while True:
			try:
				packet = self.sock.recv(65536)
			except OSError:
				packet = b''
			with self.lock:
				if packet[:1] == b'\x02':
					self.came += packet[1:]
				elif packet[:1] == b'\x03':
					self.error += packet[1:]
				elif packet:
					self.book.breach('client bytes lost, doubled or changed', 'packet of stream %d' % packet[0])
				self.closed |= not packet
				self.lock.notify_all()
				if not packet:
					return

	def type(self):
		rng = random.Random(self.container.seed)
		if self.container.kind == 'terminal':
			with self.lock:
				self.lock.wait_for(lambda: b'ready\n' in self.came or self.closed, DEADLINE)
				self.sent += b'ready\n'
		while not self.settling and not self.closed:
			text = b''.join(b'%s.%d ' % (self.container.name.encode(), self.n + i) for i in range(rng.randrange(1, 200)))
			self.n += 200
			text += b'\n' * rng.randrange(2)
			with self.lock:
				self.lock.wait_for(lambda: len(self.sent) - len(self.came) < WINDOW or self.settling or self.closed, 1)
				if self.settling or len(self.sent) - len(self.came) >= WINDOW:
					continue
				self.sent += text
			try:
				self.sock.send(text)
			except OSError as e:
				if not self.settling:
					self.book.breach('client bytes lost, doubled or changed', '%s: client cannot send: %s'
						% (self.container.name, e))
				return
			time.sleep(0.02)

	def wait_first(self):
		with self.lock:
			if not self.lock.wait_for(lambda: self.came or self.closed, DEADLINE):
				self.book.breach('client bytes lost, doubled or changed', '%s: nothing came' % self.container.name)

	def settle(self):
		"""Stop typing, wait for the last echo, compare."""
		with self.lock:
			self.settling = True
			self.lock.notify_all()
			self.lock.wait_for(lambda: len(self.came) >= len(self.sent) or self.closed, DEADLINE)
			if self.closed:
				self.book.breach('client bytes lost, doubled or changed', '%s: client was detached' % self.container.name)
			elif self.came != self.sent:
				at = next((i for i, (a, b) in enumerate(zip(self.came, self.sent)) if a != b),
					min(len(self.came), len(self.sent)))
				self.book.breach('client bytes lost, doubled or changed',
					'%s %s: %d typed, %d came back, first difference at %d: sent %r got %r' % (self.container.name,
					self.container.kind, len(self.sent), len(self.came), at, bytes(self.sent[at:at + 40]),
					bytes(self.came[at:at + 40])))
			self.book.count('client bytes echoed', len(self.came))

	def end(self):
		"""The monitor has closed us, after everything."""
		with self.lock:
			if not self.lock.wait_for(lambda: self.closed, DEADLINE):
				self.book.breach('left over', '%s: the client is still attached' % self.container.name)
		self.sock.close()
		if self.echoes:
			return
		for stream, data in (('o', self.came), ('e', self.error)):
			file = self.container.path('client.' + stream)
			with open(file, 'wb') as f:
				f.write(data)
			done = subprocess.run([self.rig.programs.load, 'check', str(self.container.seed), stream, file],
				stdout=subprocess.PIPE)
			text = done.stdout.decode()
			self.book.count('client bytes seen', len(data))
			if done.returncode:
				self.book.breach('client bytes lost, doubled or changed', '%s: attached client: %s' % (self.container.name,
					' | '.join(text.splitlines())))

	def check_log(self):
		"""The log of an echo is what the client saw."""
		data = bytearray()
		with open(self.container.path('log'), 'rb') as f:
			for record in f:
				data += record[45:-1]
				if record[43:44] == b'F':
					data += b'\n'
		if data != self.came:
			self.book.breach('log lines lost', '%s %s: log has %d bytes, the client saw %d' % (self.container.name,
				self.container.kind, len(data), len(self.came)))
		self.book.count('log bytes checked', len(data))


class Exec(Conmon):
	"""One exec session in a running container."""

	def __init__(self, rig, container, name, seed):
		super().__init__(rig, name)
		self.container, self.seed = container, seed
		rng = random.Random(seed)
		self.code, self.count = rng.randrange(256), rng.randrange(1, 400)
		self.exit_name = container.cid

	def run(self):
		with open(self.path('process.json'), 'w') as f:
			json.dump({'args': ['/load', 'once', str(self.seed), str(self.count), str(self.code)], 'cwd': '/',
				'env': ['PATH=/'], 'user': {'uid': 0, 'gid': 0}}, f)
		self.launch('-l', 'k8s-file:' + self.path('log'), '-e', '--exec-process-spec', self.path('process.json'),
			cid=self.container.cid)
		first = self.message()
		if not first or first.get('data', -1) <= 0:
			raise RuntimeError('exec %s was not started: %r' % (self.name, first))
		self.arm()
		last = self.message()
		if not last or last.get('data') != self.code:
			self.rig.book.breach('wrong exit codes', 'exec %s: message %r, should be %d' % (self.name, last, self.code))
		self.wait_end(self.code, 'exec ' + self.name)
		self.check_log(self.seed, 'exec')
		self.rig.book.count('exec sessions run')
		self.forget()


class Rig:
	level = LEVEL

	def __init__(self, programs, book, threads, journal, rng, may_kill=True, keep=False):
		self.programs, self.book, self.threads, self.journal = programs, book, threads, journal
		self.rng, self.may_kill, self.keep = rng, may_kill, keep
		self.pause_us = 50000
		self.targets = {}
		self.stopping = False
		self.n = 0
		self.lock = threading.Lock()
		self.runc_root = os.path.join(WORK, 'runc')
		self.rootfs = os.path.join(WORK, 'rootfs')
		os.makedirs(self.rootfs)
		for name in ('proc', 'dev', 'tmp', 'sys'):
			os.mkdir(os.path.join(self.rootfs, name))
		shutil.copy(programs.load, os.path.join(self.rootfs, 'load'))

	def runc(self, *args, check=True):
		done = subprocess.run([self.programs.runc, '--root=' + self.runc_root] + list(args), stdout=subprocess.PIPE,
			stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
		if check and done.returncode:
			raise RuntimeError('runc %s: %s' % (' '.join(args), done.stdout.decode()))

	def write_bundle(self, path, args, terminal, namespaces=('pid', 'ipc', 'uts', 'mount')):
		config = {
			'ociVersion': '1.0.2', 'root': {'path': self.rootfs, 'readonly': True},
			'process': {'terminal': terminal, 'user': {'uid': 0, 'gid': 0}, 'args': args, 'env': ['PATH=/'], 'cwd': '/',
				'rlimits': []},
			'mounts': [{'destination': '/proc', 'type': 'proc', 'source': 'proc'},
				{'destination': '/dev', 'type': 'tmpfs', 'source': 'tmpfs', 'options': ['mode=755']},
				{'destination': '/dev/pts', 'type': 'devpts', 'source': 'devpts',
					'options': ['newinstance', 'ptmxmode=0666', 'mode=0620']}],
			'linux': {'namespaces': [{'type': t} for t in namespaces]}}
		with open(os.path.join(path, 'config.json'), 'w') as f:
			json.dump(config, f)

	def name(self, kind):
		with self.lock:
			self.n += 1
			return '%s%d' % (kind, self.n), self.rng.randrange(1, 1 << 30)

	def judge_log(self, done, what):
		"""Take the checker's verdict into the book."""
		text = done.stdout.decode('utf-8', 'replace')
		for line in text.splitlines():
			if line.startswith('ok '):
				self.book.count('log lines checked', int(line.rpartition('=')[2]))
			elif line.startswith('bad '):
				numbers = dict(w.split('=') for w in line.split()[1:] if '=' in w)
				lost = int(numbers.get('lost', 0))
				torn = int(numbers.get('doubled', 0)) + int(numbers.get('torn', 0)) + int(numbers.get('records', 0))
				if lost or not torn:
					self.book.breach('log lines lost', '%s: %s' % (what, ' | '.join(text.splitlines())), max(lost, 1))
				if torn:
					self.book.breach('log lines doubled or torn', '%s: %s' % (what, ' | '.join(text.splitlines())), torn)

	# --- the load ---

	def start(self):
		for kind in ('k8s', 'k8s', 'journald', 'terminal', 'stdin'):
			self.threads.start(self.short_lives, kind)
		for kind in ('k8s', 'terminal'):
			self.threads.start(self.resident, kind)
		self.threads.start(self.storm)

	def short_lives(self, kind):
		"""Containers of one kind, one after the other."""
		while not self.stopping:
			name, seed = self.name(kind)
			container = Container(self, name, kind, seed).start()
			end = time.monotonic() + random.Random(seed).uniform(0.3, 6)
			while time.monotonic() < end and not self.stopping:
				time.sleep(0.05)
			container.stop()

	def resident(self, kind):
		"""One that lives through the whole run, and must not have gathered descriptors at its end."""
		name, seed = self.name(kind)
		container = Container(self, name, kind, seed)
		container.quiet = True
		container.start()
		time.sleep(1)
		before = self.fds(container)
		container.quiet = False
		while not self.stopping:
			time.sleep(0.1)
		container.quiet = True
		if self.may_kill:
			self.check_fds(container, before)
		container.stop()

	@staticmethod
	def fds(container):
		pids = container.processes()
		return world.describe_fds(pids[0]) if pids else {}

	def check_fds(self, container, before):
		def settled():
			now = self.fds(container)
			return all(n <= before.get(kind, 0) for kind, n in now.items() if kind != '[eventpoll]')
		try:
			until(settled, 'descriptors as at the beginning')
		except TimeoutError:
			now = self.fds(container)
			self.book.breach('left over', '%s: descriptors %r, at the beginning %r' % (container.name,
				{k: n for k, n in now.items() if n > before.get(k, 0)}, before))
		now = self.fds(container).get('anon_inode:[eventpoll]', 0)
		if now > before.get('anon_inode:[eventpoll]', 0) + 1:
			self.book.breach('left over', '%s: %d epoll descriptors' % (container.name, now))

	def storm(self):
		"""Exec sessions in a container that does nothing else."""
		name, seed = self.name('host')
		host = Container(self, name, 'stdin', seed)
		host.start()
		while not self.stopping:
			batch = [threading.Thread(target=self.one_exec, args=(host,)) for _ in range(3)]
			for t in batch:
				t.start()
			for t in batch:
				t.join(60)
		host.stop()

	def one_exec(self, host):
		try:
			name, seed = self.name('exec')
			Exec(self, host, name, seed).run()
		except Exception as e:	# noqa: B902
			self.book.fail('exec: %s: %s' % (type(e).__name__, e))

	def stop(self):
		self.stopping = True

	@staticmethod
	def role(target, pid):
		"""Which process of ours it is, as the state file says."""
		try:
			with open('/run/tandem/conmon-%s.state' % target.cid) as f:
				for line in f:
					key, _, value = line.strip().partition('=')
					if key.endswith('_PID') and value == str(pid) and key != 'PAYLOAD_PID':
						return key[:-4].lower()
		except OSError:
			pass
		return 'keeper' if pid == target.keeper else 'conmon'

	@staticmethod
	def allows(roles, n):
		return True

	def groups(self):
		"""Lists of processes that may be killed, but never all of a list."""
		found = {}
		for pid, st in world.running(self.programs.conmon).items():
			target = self.targets.get(st[3])
			if target and not target.quiet:
				found.setdefault(st[3], []).append(pid)
		return [(LEVEL, self.targets.get(sid), pids) for sid, pids in found.items()]

	def finish(self):
		left = [p for p in world.running(self.programs.conmon)]
		for p in left:
			self.book.breach('left over', 'process %d %s' % (p, world.cmdline(p)[:120]))
			world.kill(p)
