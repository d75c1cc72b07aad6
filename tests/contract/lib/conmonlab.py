# SPDX-License-Identifier: Apache-2.0
"""Drive conmon as Podman and CRI-O do: one Lab per test, with bundles, runs of the program, clients and files."""
import glob
import json
import os
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time

import processes

processes.isolate()

import attachclient	# noqa: E402
import k8slog		# noqa: E402
import oci		# noqa: E402
import tap		# noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
MS_BIND, MS_REC, MS_MOVE = 4096, 16384, 8192
USER = 47001		# of the rootless mode; needs no entry in passwd
BOTH = ('', 'rootless')	# modes of tests that run as root and rootless


def _program():
	top = os.path.normpath(os.path.join(HERE, '..', '..', '..'))
	for path in (os.environ.get('CONMON'), os.path.join(os.environ.get('TANDEM_BUILDDIR', '/nonexistent'), 'conmon/conmon'),
		     os.path.join(top, 'build/conmon/conmon')):
		if path and os.access(path, os.X_OK):
			return os.path.abspath(path)
	print('1..0 # SKIP no conmon to test: build it or set CONMON')
	raise SystemExit(0)


PROGRAM = _program()
_version = subprocess.run([PROGRAM, '--version'], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
	stderr=subprocess.STDOUT).stdout.decode()
REFERENCE = '2.1.6' if _version.startswith('conmon version 2.1.6\n') else None
SCALE = max(1, int(os.environ.get('CONTRACT_SCALE', '1')))	# multiplies counts and sizes of the stress tests

_work = None
_rootfs = None


def work_dir():
	"""One directory for the run of this file. Short, for the sake of socket addresses; on a file system of its own."""
	global _work, _rootfs
	if _work is None:
		_work = tempfile.mkdtemp(prefix='cc', dir='/tmp')
		os.chmod(_work, 0o755)
		processes.mount('tmpfs', _work, 'tmpfs', 0, 'size=1g,mode=755')
		_rootfs = _work + '/rootfs'
		oci.make_rootfs(_rootfs)
	return _work


def _is_removed(group):
	try:
		os.rmdir(group)
		return True
	except OSError:
		return not os.path.exists(group)


def clean_up():
	for group in glob.glob('/sys/fs/cgroup/*/contract'):		# runc's; others may be using it
		_is_removed(group)
	if _work is not None:
		os.chdir('/')
		processes.umount(_work)
		shutil.rmtree(_work, ignore_errors=True)


class Run:
	"""One invocation of conmon and the test's ends of its descriptors."""

	def __init__(self, lab, argv, *, sync, start, attach, env, cwd, fds, keep, setup, mask, ignored, go):
		self.lab, self.argv = lab, argv
		self.messages_seen, self.buffer = [], b''
		self.sync = self.start = self.attach_pipe = self.monitor_pid = None
		self.outputs = {1: b'', 2: b''}
		theirs = dict(keep or {})
		env = dict(env)
		at = 3
		for name, kind, variable in (('sync', sync, '_OCI_SYNCPIPE'), ('start', start, '_OCI_STARTPIPE'),
					     ('attach_pipe', attach, '_OCI_ATTACHPIPE')):
			if kind is None:
				continue
			while at in theirs:
				at += 1
			ours, his = self._pair(kind, name)
			setattr(self, name, lab.own_fd(ours))
			theirs[at] = his
			env.setdefault(variable, str(at))
		ends = []
		for n in (1, 2):
			if n not in (fds or {}):
				r, w = os.pipe2(os.O_CLOEXEC)
				theirs[n] = w
				ends.append(w)
				os.set_blocking(r, False)
				setattr(self, 'fd%d' % n, lab.own_fd(r))
		ends += [theirs[n] for n in theirs if n > 2 and n not in (keep or {})]
		theirs.update(fds or {})
		self.pid = processes.spawn([PROGRAM] + argv, fds=theirs, env=env, cwd=cwd, setup=setup, mask=mask, ignored=ignored)
		for fd in ends:
			os.close(fd)
		self.conmon_pidfile = argv[argv.index('--conmon-pidfile') + 1] if '--conmon-pidfile' in argv else \
			argv[argv.index('-P') + 1] if '-P' in argv else None
		if go and self.start is not None:
			self.go()

	@staticmethod
	def _pair(kind, name):
		"""(our end, conmon's end) of one channel: Podman's packet socket, CRI-O's stream socket or pipe."""
		if kind == 'pipe':
			r, w = os.pipe2(os.O_CLOEXEC)
			return (w, r) if name == 'start' else (r, w)
		a, b = socket.socketpair(socket.AF_UNIX, {'seq': socket.SOCK_SEQPACKET, 'stream': socket.SOCK_STREAM}[kind])
		return a.detach(), b.detach()

	def go(self, data=b'\0'):
		"""What the engine writes when the cgroup is set up."""
		os.write(self.start, data)

	def close_start(self):
		self.lab.close_fd(self.start)
		self.start = None

	def close_sync(self):
		self.lab.close_fd(self.sync)
		self.sync = None

	# its own output

	def _pump(self, n):
		fd = getattr(self, 'fd%d' % n)
		try:
			while True:
				data = os.read(fd, 65536)
				if not data:
					return True
				self.outputs[n] += data
		except BlockingIOError:
			return False

	def out(self):
		self._pump(1)
		return self.outputs[1].decode('utf-8', 'replace')

	def err(self):
		self._pump(2)
		text = self.outputs[2].decode('utf-8', 'replace')
		if REFERENCE:		# some lines of 2.1.6 have no colon behind the level; C-19 and C-217 are the later form
			text = re.sub(r'\[conmon:([ewid])\] ', r'[conmon:\1]: ', text)
		return text

	def output_ended(self, n, seconds=10):
		tap.until(lambda: self._pump(n), 'end of file on conmon\'s descriptor %d' % n, seconds)

	# its processes

	def front_status(self, seconds=10):
		return processes.wait(self.pid, seconds, 'the front process')

	@property
	def monitor(self):
		if self.monitor_pid is None:
			if '--sync' in self.argv:
				self.monitor_pid = self.pid
			else:
				def written():		# a busy machine may let the messages be faster
					try:
						with open(self.conmon_pidfile) as f:
							return int(f.read() or 0)
					except FileNotFoundError:
						return 0
				self.monitor_pid = tap.until(written, 'the pid file')
		return self.monitor_pid

	def end(self, seconds=15):
		"""Wait for the monitor's end; its exit status."""
		return processes.wait(self.monitor, seconds, 'the monitor')

	def is_alive(self):
		return processes.is_alive(self.monitor)

	def processes(self):
		"""Pids of the monitor and what helps it; not those of the container."""
		return [p for p in processes.family(self.monitor) if processes.comm(p).startswith('conmon')]

	def cpu_while(self, seconds):
		"""CPU milliseconds that conmon uses while @seconds go by: tells spinning from waiting."""
		before = sum(processes.cpu_ms(p) for p in self.processes())
		time.sleep(seconds)
		return sum(processes.cpu_ms(p) for p in self.processes()) - before

	def sockets(self):
		"""How many sockets its processes hold, whoever of them does."""
		return len({what for p in self.processes() for what in processes.fds(p).values() if what.startswith('socket:')})

	def serving(self, n):
		"""Wait until @n more sockets are held than when settle() was called: clients are accepted."""
		tap.until(lambda: self.sockets() >= self.settled + n, '%d clients are served' % n)

	def settle(self):
		self.settled = self.sockets()

	# messages

	def _receive(self, fd, seconds):
		if not select.select([fd], [], [], seconds)[0]:
			raise tap.Failure('no message within %g s; conmon says: %s' % (seconds, self.err()))
		try:
			return os.read(fd, 4096)	# Podman's buffer: the kernel cuts longer packets off (C-58)
		except ConnectionResetError:
			return b''

	def raw_message(self, seconds=15.0, fd=None):
		"""One line as bytes, b'' at the end of file."""
		fd = self.sync if fd is None else fd
		end = time.monotonic() + seconds
		while b'\n' not in self.buffer:
			data = self._receive(fd, max(0, end - time.monotonic()))
			if not data:
				rest, self.buffer = self.buffer, b''
				return rest
			self.buffer += data
		line, self.buffer = self.buffer.split(b'\n', 1)
		return line + b'\n'

	def message(self, seconds=15.0):
		"""The next message as an object, None at the end of file."""
		line = self.raw_message(seconds)
		if not line:
			return None
		try:
			return json.loads(line)
		except ValueError as e:
			raise tap.Failure('not JSON (%s): %r' % (e, line[:300]))

	def sync_ended(self, seconds=15.0):
		tap.same(self.raw_message(seconds), b'', 'sync pipe, which has to be at its end')

	def created(self, key='data'):
		"""The message of success: the payload's pid."""
		m = self.message()
		if not m or m.get(key, -1) <= 0:
			tap.fail('creation failed: %r; conmon says: %s' % (m, self.err()))
		return m[key]

	def is_waiting_for_go(self):
		"""Wait until the front process sleeps in its wait for the start pipe."""
		tap.until(lambda: processes.is_blocked(self.pid), 'the front process waits for the start pipe')


class Lab:
	"""What one test has; all of it is gone, and checked to be gone, when the test ends."""

	leftovers_allowed = ()

	def __init__(self, mode=''):
		base = work_dir()
		self.is_rootless = mode == 'rootless'
		self.rootfs = _rootfs
		self.dir = base + '/t'
		os.chdir('/')
		shutil.rmtree(self.dir, ignore_errors=True)
		os.mkdir(self.dir)
		self.tmp = self.path('tmp')
		os.mkdir(self.tmp)
		self.cwd = self.path('cwd')
		os.mkdir(self.cwd)
		self.exits, self.persist, self.sockets = self.path('exits'), self.path('persist'), self.path('sock')
		for d in (self.exits, self.persist, self.sockets):
			os.mkdir(d)
		self.runc_root = self.path('runc')
		self.log = self.path('ctr.log')
		self.runs, self.bundles, self.clients, self.owned, self.mounts, self.groups = [], [], [], [], [], []
		self.serial = 0
		processes.forget()
		self.n_fds = len(os.listdir('/proc/self/fd'))
		self.give(self.dir, self.tmp, self.cwd, self.exits, self.persist, self.sockets)

		self.namespace = self._hold_namespace() if self.is_rootless else None

	@staticmethod
	def _hold_namespace():
		"""A process that keeps the user namespace of the rootless mode, as Podman's pause process does."""
		pid = processes.spawn(['/bin/busybox', 'sleep', '3600'], setup=lambda: processes.become_rootless(USER))
		tap.until(lambda: processes.comm(pid) == 'busybox', 'the user namespace is there')
		return pid

	def give(self, *paths):
		"""Rootless: @paths belong to the user."""
		for path in paths if self.is_rootless else ():
			os.chown(path, USER, USER)

	def path(self, name):
		return os.path.join(self.dir, name)

	def own_fd(self, fd):
		self.owned.append(fd)
		return fd

	def close_fd(self, fd):
		if fd in self.owned:
			self.owned.remove(fd)
			os.close(fd)

	def ident(self):
		self.serial += 1
		return '%x%s' % (self.serial, os.urandom(32).hex()[:63])

	# what to run

	def bundle(self, script, **how):
		"""A bundle for runc whose container runs @script."""
		oci.need_runc()
		b = oci.Bundle(self, how.pop('id', None) or self.ident(), script, rootless=self.is_rootless, **how)
		self.give(b.path, b.shared)
		self.bundles.append(b)
		return b

	def plain(self, **how):
		"""A bundle directory without configuration, for scripted runtimes."""
		b = oci.Bundle(self, how.pop('id', None) or self.ident(), None, **how)
		self.give(b.path, b.shared)
		self.bundles.append(b)
		return b

	def runtime(self, body, name='rt'):
		"""A scripted runtime: @body is Python with everything of fakert at hand. Returns its path."""
		path = self.path(name)
		with open(path, 'w') as f:
			f.write('#!/usr/bin/python3 -BSE\nimport sys\nsys.path.insert(0, %r)\nfrom fakert import *\n' % HERE)
			f.write('DIR = %r\n%s\n' % (self.dir, body))
		os.chmod(path, 0o755)
		return path

	def environ(self, **more):
		env = {'PATH': os.environ.get('PATH', '/usr/bin:/bin'), 'LANG': 'C.UTF-8', 'TMPDIR': self.tmp,
			'XDG_RUNTIME_DIR': self.path('xdg')}
		for name in ('ASAN_OPTIONS', 'UBSAN_OPTIONS'):
			if name in os.environ:
				env[name] = os.environ[name]
		env.update(more)
		return {k: v for k, v in env.items() if v is not None}

	def conmon(self, *argv, sync='seq', start=None, attach=None, env=None, cwd=None, fds=None, keep=None, setup=None,
		   mask=(), ignored=(), go=True):
		"""Run conmon with exactly @argv."""
		if self.is_rootless:
			given = setup

			def setup():
				processes.join_rootless(self.namespace)
				if given:
					given()
		r = Run(self, [str(a) for a in argv], sync=sync, start=start, attach=attach, env=self.environ(**(env or {})),
			cwd=cwd or self.cwd, fds=fds, keep=keep, setup=setup, mask=mask, ignored=ignored, go=go)
		self.runs.append(r)
		return r

	def options(self, b, *extra, runtime=None, v1=True, log=None, full=True, exits=True, pidfile=True):
		"""The usual options of a create for bundle @b."""
		o = ['--api-version', '1'] if v1 else []
		o += ['-c', b.id, '-u', b.id, '-r', runtime or oci.RUNC, '-b', b.path, '-p', b.pidfile, '-n', 'name-' + b.id[:6]]
		if exits:
			o += ['--exit-dir', self.exits, '--persist-dir', self.persist]
		o += ['--full-attach'] if full else ['--socket-dir-path', self.sockets]
		if runtime is None:
			o += ['--runtime-arg', '--root=' + self.runc_root]
		o += ['-l', log or 'k8s-file:' + self.log]
		if pidfile:
			o += ['--conmon-pidfile', self.path('pid-' + b.id[:6])]
		if b.terminal:
			o += ['-t']
		return o + [str(e) for e in extra]

	def start_conmon(self, b, *extra, **how):
		"""Run conmon for @b with the usual options; does not wait for anything."""
		given = {k: how.pop(k) for k in ('runtime', 'v1', 'log', 'full', 'exits', 'pidfile') if k in how}
		how.setdefault('start', 'seq')
		return self.conmon(*self.options(b, *extra, **given), **how)

	def create(self, b, *extra, **how):
		"""Run conmon for @b and wait until the container is created."""
		key = 'pid' if how.get('v1') is False else 'data'
		r = self.start_conmon(b, *extra, **how)
		r.payload = r.created(key)
		if '--sync' not in r.argv:
			tap.same(r.front_status(), 0, 'front process')
		return r

	def run(self, script, *extra, terminal=False, attach=False, **how):
		"""A container from create to exit: (run, bundle, client)."""
		given = {k: how.pop(k) for k in ('memory', 'user', 'env_inside') if k in how}
		b = self.bundle(script, terminal=terminal, **given)
		r = self.create(b, *extra, **how)
		client = self.attach(b) if attach else None
		b.start()
		return r, b, client

	def fake(self, script, *extra, body=None, terminal=False, **how):
		"""A payload that runs @script under a scripted runtime that behaves: (run, bundle)."""
		b = self.plain()
		b.terminal = terminal
		start = 'pid, _ = terminal(%r)' % script if terminal else 'pid = payload(%r)' % script
		rt = self.runtime(body or 'if SUB: %s; write_pid(pid)' % start)
		return self.create(b, *extra, runtime=rt, **how), b

	def attach(self, b, how='opath'):
		c = attachclient.Client(b.attach_path, how)
		self.clients.append(c)
		return c

	def ctl(self, b, data, name='ctl'):
		"""Write to a control FIFO the way Podman does: without blocking, no reader is an error."""
		fd = os.open(os.path.join(b.path, name), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
		try:
			os.write(fd, data if isinstance(data, bytes) else data.encode())
		finally:
			os.close(fd)

	def exec_spec(self, script, **how):
		path = self.path('process-%d.json' % len(os.listdir(self.dir)))
		with open(path, 'w') as f:
			json.dump(oci.process(script, **how), f)
		return path

	# what is left

	def records(self, path=None):
		return k8slog.read(path or self.log)

	def logged(self, stream='stdout', path=None):
		return k8slog.content(self.records(path), stream)

	def wait_logged(self, part, stream='stdout', path=None, seconds=10):
		part = part if isinstance(part, bytes) else part.encode()

		def there():
			try:
				with open(path or self.log, 'rb') as f:
					data = f.read()
			except FileNotFoundError:
				return False
			return part in k8slog.content(k8slog.parse(data[:data.rfind(b'\n') + 1]), stream)
		tap.until(there, '%r in the log' % part[:60], seconds)

	def exit_file(self, b, seconds=10):
		"""Wait for the exit file; what is in it."""
		path = os.path.join(self.exits, b.id)
		tap.until(lambda: os.path.exists(path), 'the exit file', seconds)
		return self.text(path)

	def persist_exit(self):
		return self.text(os.path.join(self.persist, 'exit'))

	def has_exit(self, b):
		return os.path.exists(os.path.join(self.exits, b.id))

	@staticmethod
	def text(path):
		with open(path) as f:
			return f.read()

	@staticmethod
	def mode(path):
		return stat.S_IMODE(os.lstat(path).st_mode)

	def tmpfs(self, name, size):
		path = self.path(name)
		os.mkdir(path)
		processes.mount('tmpfs', path, 'tmpfs', 0, 'size=' + size)
		self.mounts.append(path)
		return path

	# the end

	def report(self):
		out = ['process %d %s %s' % (p, b' '.join(processes.cmdline(p))[:100].decode('utf-8', 'replace'), processes.state(p))
			for p in processes.everyone()[:20]]
		for r in self.runs:
			try:
				out.append('stderr: ' + r.err()[:600])
			except OSError:
				pass
		return '\n'.join(out)

	def _kill_payloads(self):
		for p in processes.everyone():
			if not processes.comm(p).startswith('conmon'):
				processes.kill(p)

	def close(self, outcome):
		for c in self.clients:
			c.close()
		wrong = []
		end = time.monotonic() + 8
		while True:
			self._kill_payloads()
			left = processes.everyone()
			if not left or time.monotonic() > end:
				break
			time.sleep(0.02)
		if left:
			wrong.append('still there: ' + ', '.join('%d %s' % (p, processes.comm(p)) for p in left))
			for p in left:
				processes.kill(p)
			tap.until(lambda: not [processes.kill(p) for p in processes.everyone()], 'everything is dead', 8)
		for fd in list(self.owned):
			self.close_fd(fd)
		for b in self.bundles:
			if os.path.exists(os.path.join(self.runc_root, b.id)):
				b.delete()
		n = len(os.listdir('/proc/self/fd'))
		if n != self.n_fds:
			wrong.append('the test itself leaks descriptors: %d, had %d' % (n, self.n_fds))
		wrong += ['left in TMPDIR: ' + name for name in os.listdir(self.tmp) if name not in self.leftovers_allowed]
		if not REFERENCE:		# which leaves its symlink (C-108)
			wrong += ['left in the socket directory: ' + name for name in os.listdir(self.sockets)
				  if name not in self.leftovers_allowed]
		wrong += ['left in the working directory: ' + name for name in os.listdir(self.cwd)
			  if name not in self.leftovers_allowed]
		for path in self.mounts:
			processes.umount(path)
		for path in self.groups:
			if os.path.isdir(path):
				tap.until(lambda: _is_removed(path), 'the cgroup %s is empty' % path)
		if wrong and outcome == 'pass':
			raise tap.Failure('; '.join(wrong))


def main(make=Lab, **how):
	try:
		tap.main(make, modes=BOTH, usual=('',), reference=REFERENCE, **how)
	finally:
		clean_up()
