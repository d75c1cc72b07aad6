# SPDX-License-Identifier: Apache-2.0
"""Start the network helper under test in every way that its callers do, and talk to it."""
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time

import netlab
import tap
from netlab import HOST, OUTSIDE, USER, WORK, Guest

ROOTLESS = 'rootless'		# uid 0 of a user namespace that owns the guest, as Podman and Buildah run it
USUAL = ('root', 'user')	# real root; an ordinary user outside the guest's user namespace
ALL = USUAL + (ROOTLESS,)
SLIRP = 'slirp'			# an ordinary user as well, and our plain data path where the other is the default
NEW_LINK = '52:55:0a:00:02:02'	# the gateway's address on the link


def program():
	"""Path of the helper under test."""
	here = os.path.dirname(os.path.abspath(__file__))
	top = os.path.normpath(os.path.join(here, '..', '..', '..'))
	for path in (os.environ.get('NETNS_HELPER'),
		     os.path.join(os.environ.get('TANDEM_BUILDDIR', ''), 'netns-helper/netns-helper'),
		     os.path.join(top, 'build/netns-helper/netns-helper')):
		if path and os.access(path, os.X_OK):
			return os.path.abspath(path)
	print('Bail out! no helper to test: build it or set NETNS_HELPER')
	raise SystemExit(1)


PROGRAM = program()
VERSION = subprocess.run([PROGRAM, '--version'], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout.decode()
REFERENCE = '1.2.0' if VERSION.startswith('slirp4netns version 1.2.0\n') else None
DATA_PATH = os.environ.get('NETNS_DATA_PATH') if not REFERENCE else None


class Helper:
	"""One running helper, and our ends of its descriptors."""

	def __init__(self, argv, *, uid, ready, exit_fd, extra_fds=(), start=None, env=None, cwd=None, stdin=None,
		     output=None):
		keep = list(extra_fds)
		self.ready_r = self.exit_w = None
		options, give = [], []
		if ready:
			self.ready_r, w = os.pipe2(os.O_CLOEXEC)
			options += ['-r', str(w)]
			give.append(w)
		if exit_fd:
			r, self.exit_w = os.pipe2(os.O_CLOEXEC)
			options += ['-e', str(r)]
			give.append(r)
		self.ready_w = give[0] if ready else None
		self.output = output or os.path.join(WORK, 'out.%d' % time.monotonic_ns())
		self.out_file = open(self.output, 'wb')
		self.err_file = open(self.output + '.err', 'wb')
		self.argv = argv[:1] + options + argv[1:] if argv[0] == PROGRAM else argv + options
		if argv[0] != PROGRAM:		# behind another program, options go in front of the positionals all the same
			at = argv.index(PROGRAM)
			self.argv = argv[:at + 1] + options + argv[at + 1:]
		self.process = subprocess.Popen(self.argv, user=uid, group=uid, extra_groups=[], cwd=cwd,
			stdin=stdin or subprocess.DEVNULL, stdout=self.out_file, stderr=self.err_file,
			pass_fds=keep + give, env=env, preexec_fn=start)
		self.pid = self.process.pid
		for fd in give:
			os.close(fd)
		self.status = None

	def out(self):
		with open(self.output, 'rb') as f:
			return f.read().decode('utf-8', 'replace')

	def err(self):
		with open(self.output + '.err', 'rb') as f:
			return f.read().decode('utf-8', 'replace')

	def read_ready(self, seconds=10.0):
		"""What the ready descriptor gives: b'1', b'' at its end, None if nothing came."""
		if not select.select([self.ready_r], [], [], seconds)[0]:
			return None
		return os.read(self.ready_r, 16)

	def wait_ready(self):
		seen = self.read_ready()
		if seen != b'1':
			raise tap.Failure('not ready, read %r: %s' % (seen, (self.out() + self.err())[-300:]))
		return self

	def is_alive(self):
		return self.status is None and not netlab.pidfd_wait(self.pid, 0)

	def reap(self, seconds=10.0):
		"""Wait for its end; the status as subprocess gives it (negative: signal)."""
		if self.status is None:
			if not netlab.pidfd_wait(self.pid, seconds):
				raise tap.Failure('the helper is still there after %g s' % seconds)
			self.status = self.process.wait()
		return self.status

	def signal(self, number):
		os.kill(self.pid, number)

	def kill(self):
		"""The way Buildah and RootlessKit stop it."""
		if self.status is None:
			self.process.kill()
			self.status = self.process.wait()
		return self.status

	def close_exit(self):
		if self.exit_w is not None:
			os.close(self.exit_w)
			self.exit_w = None

	def all_pids(self):
		return netlab.descendants(self.pid)

	def close(self):
		self.close_exit()
		self.kill()
		if self.ready_r is not None:
			os.close(self.ready_r)
			self.ready_r = None
		self.out_file.close()
		self.err_file.close()


class Lab:
	"""What one test has: guests, helpers and sockets, all gone when it ends."""

	def __init__(self, mode):
		self.mode = mode
		self.spliced = not REFERENCE and mode != SLIRP and DATA_PATH != 'slirp'
		self.uid = 0 if mode == 'root' else USER
		self.guests, self.helpers, self.owned = [], [], []
		self.pause = None
		shutil.rmtree(WORK)
		os.mkdir(WORK)
		os.chown(WORK, self.uid, self.uid)
		netlab.resolv_conf()
		self.n_fds = len(os.listdir('/proc/self/fd'))

	# things that end with the test

	def own(self, thing):
		self.owned.append(thing)
		return thing

	def path(self, name):
		return os.path.join(WORK, name)

	def guest(self, **how):
		inside = None
		if self.mode == ROOTLESS:
			inside = self._pause().pid
		g = Guest(how.pop('owner', self.uid), inside=inside, **how)
		self.guests.append(g)
		return g

	def _pause(self):
		"""The process that holds the user namespace of Podman's user."""
		if self.pause is None:
			self.pause = Guest(self.uid, userns=True)
			self.guests.append(self.pause)
		return self.pause

	def target(self, guest, kind=None):
		"""The words that name @guest on the command line, by the way natural to the mode or by @kind."""
		kind = kind or ('path' if self.mode == ROOTLESS else 'pid')
		if kind == 'pid':
			return [str(guest.pid)]
		words = ['--netns-type=path', guest.path]
		return (['--userns-path=' + guest.userns_path] if self.mode in ('user', SLIRP) else []) + words

	def raw(self, *args, ready=False, exit_fd=False, prefix=(), uid=None, **how):
		"""Start the helper with exactly @args behind -r and -e."""
		argv = list(prefix) + [PROGRAM] + [str(a) for a in args]
		if self.mode == ROOTLESS:
			argv = ['nsenter', '--user', '--preserve-credentials', '--target', str(self._pause().pid)] + argv
		h = Helper(argv, uid=self.uid if uid is None else uid, ready=ready, exit_fd=exit_fd, **how)
		self.helpers.append(h)
		return h

	def start(self, guest, *options, kind=None, link='tap0', configure=True, ready=True, exit_fd=False, **how):
		"""Start it for @guest, and wait until it is ready unless @ready is None."""
		args = (['-c'] if configure else []) + list(options)
		if self.mode == SLIRP or DATA_PATH:
			args.append('--data-path=' + (DATA_PATH or 'slirp'))
		h = self.raw(*args, *self.target(guest, kind), link, ready=ready is not False, exit_fd=exit_fd, **how)
		if ready:
			h.wait_ready()
		return h

	def pair(self, *options, **how):
		"""A guest and its helper, ready."""
		g = self.guest()
		return g, self.start(g, *options, **how)

	def api_pair(self, *options, **how):
		"""A guest, its helper and the path of its API socket."""
		path = self.path('api.sock')
		g, h = self.pair('--api-socket=' + path, *options, **how)
		return g, h, path

	def output_of(self, *args, seconds=3):
		"""Status, stdout, stderr of a helper that is to end by itself."""
		h = self.raw(*args)
		status = h.reap(seconds)
		return status, h.out(), h.err()

	def refused(self, *args, words=(), usage=None):
		"""The helper must end with status 1 and say why on stderr; usage on stdout if and only if @usage."""
		status, out, err = self.output_of(*args)
		tap.same(status, 1, 'status of %s' % ' '.join(str(a) for a in args))
		for word in words:
			tap.has(err, word, 'stderr')
		if not out.strip() and not err.strip():
			tap.fail('it ended without a word')
		if usage is not None:
			tap.same('--netns-type' in out, usage, 'usage on stdout')
		return out, err

	# sockets

	def listen(self, at=HOST, address='127.0.0.1', port=0, **how):
		return self.own(at.listen(address, port, **how))

	def connect(self, at, address, port, **how):
		return self.own(at.connect(address, port, **how))

	def udp(self, at, address=None, port=0):
		return self.own(at.udp(address, port))

	def accept(self, listener):
		s, peer = listener.accept()
		s.settimeout(5)
		return self.own(s), peer

	def through(self, guest, listener, address='10.0.2.2'):
		"""A connection from @guest to @listener: both ends and the peer that the listener saw."""
		c = self.connect(guest, address, listener.getsockname()[1])
		s, peer = self.accept(listener)
		return c, s, peer

	# end

	def report(self):
		lines = []
		for h in self.helpers:
			lines.append('$ %s (status %s)' % (' '.join(h.argv), h.status))
			lines += ['out| ' + l for l in h.out().splitlines()[-2:]]
			lines += ['err| ' + l for l in h.err().splitlines()[-12:]]
		return '\n'.join(lines)

	def close(self, outcome):
		started = [h.pid for h in self.helpers]
		for h in self.helpers:
			h.close()
		for thing in self.owned:
			thing.close()
		for g in self.guests:
			g.close()
		trouble = None
		try:
			tap.until(lambda: not _others(), 'no process of the helper is left', 2.0)
		except tap.Failure as e:
			names = [_name(p) for p in _others()]
			trouble = '%s: %s (started %s)' % (e, names, started)
		netlab.sweep()
		if trouble and outcome == 'pass':
			raise tap.Failure(trouble)


def _others():
	try:
		while os.waitpid(-1, os.WNOHANG)[0]:
			pass
	except ChildProcessError:
		pass
	return [p for p in netlab.processes() if netlab.alive(p)]


def _name(pid):
	try:
		with open('/proc/%d/cmdline' % pid) as f:
			return '%d %s' % (pid, f.read().replace('\0', ' '))
	except OSError:
		return str(pid)


def main(usual=USUAL, both_paths=False):
	"""Run the registered tests in the sandbox.

	@usual       the modes of tests that do not choose
	@both_paths  what they prove has to hold for both data paths of ours
	"""
	both_paths = both_paths and not REFERENCE and not DATA_PATH
	netlab.sandbox()
	tap.main(Lab, ALL + ((SLIRP,) if both_paths else ()), usual, {SLIRP: 'user'},
		'slirp4netns ' + REFERENCE if REFERENCE else None)


# the API

def api_open(path):
	s = socket.socket(socket.AF_UNIX)
	s.connect(path)		# blocking: the reference's backlog of 0 answers anything else with EAGAIN (N-154)
	s.settimeout(5)
	return s


def api_text(path, text, half_close=True):
	"""Send the bytes @text, return all bytes of the answer."""
	with api_open(path) as s:
		s.sendall(text)
		if half_close:
			s.shutdown(socket.SHUT_WR)
		return read_all(s)


def api(path, execute, **arguments):
	"""One request as an object, the answer as an object."""
	request = {'execute': execute}
	if arguments:
		request['arguments'] = arguments
	return json.loads(api_text(path, json.dumps(request).encode()))


def forward(path, host_port, guest_port, proto='tcp', host_addr='0.0.0.0', guest_addr=''):
	"""add_hostfwd with all five members; returns the id."""
	answer = api(path, 'add_hostfwd', proto=proto, host_addr=host_addr, host_port=host_port,
		guest_addr=guest_addr, guest_port=guest_port)
	if 'return' not in answer:
		raise tap.Failure('add_hostfwd: %r' % answer)
	return answer['return']['id']


def read_all(s):
	data = b''
	while True:
		try:
			piece = s.recv(65536)
		except ConnectionResetError:
			return data
		if not piece:
			return data
		data += piece


_given = set()


def free_port(at=HOST, kind=socket.SOCK_STREAM):
	"""A port that nobody has, and that was not given out before: the kernel may choose the same one again."""
	while True:
		with at.socket(kind=kind) as s:
			s.bind(('0.0.0.0', 0))
			port = s.getsockname()[1]
		if port not in _given:
			_given.add(port)
			return port


def connect_error(at, address, port, seconds=5):
	"""The errno name with which connect() fails, 'timeout' if it has not ended, '' if it succeeds."""
	import errno
	try:
		at.connect(address, port, timeout=seconds).close()
	except socket.timeout:
		return 'timeout'
	except OSError as e:
		return errno.errorcode[e.errno]
	return ''


def carried(sender, data, to, receiver, tries=5):
	"""The datagram @data gets from @sender to @receiver at one of @tries: its source there. UDP may lose some on a busy machine."""
	for _ in range(tries):
		sender.sendto(data, to)
		receiver.settimeout(2)
		try:
			while True:
				got, peer = receiver.recvfrom(70000)
				if got == data:
					return peer
		except TimeoutError:
			pass
	raise tap.Failure('none of %d datagrams of %d bytes to %s:%d arrived whole' % (tries, len(data), to[0], to[1]))


def is_listening(port, address='127.0.0.1', at=HOST):
	return connect_error(at, address, port, 2) == ''


def status_field(pid, name):
	with open('/proc/%d/status' % pid) as f:
		for line in f:
			if line.startswith(name + ':'):
				return line.split(':', 1)[1].strip()
	raise tap.Failure('/proc/%d/status has no %s' % (pid, name))


def n_fds(helper):
	"""Open descriptors of the helper, counted once where its processes share one table."""
	counts = []
	for pid in helper.all_pids():
		try:
			counts.append(len(os.listdir('/proc/%d/fd' % pid)))
		except OSError:
			pass
	return max(counts)


def worker(helper):
	"""Pid of the worker: the started process' child."""
	def find():
		for pid in netlab.descendants(helper.pid)[1:]:
			try:
				with open('/proc/%d/cmdline' % pid) as f:
					if ': worker' in f.read() and netlab.alive(pid):
						return pid
			except OSError:
				pass
		return 0
	return tap.until(find, 'there is a worker')


def level(helper):
	"""Open descriptors of the helper at rest: soon after its start it makes some more, when it has nothing else to do."""
	def at_rest():
		before = n_fds(helper)
		netlab.pidfd_wait(helper.pid, 0.06)
		asleep = all(netlab.state(p) == 'S' for p in helper.all_pids())
		return before if asleep and n_fds(helper) == before else 0
	return tap.until(at_rest, 'the helper is at rest')


def cpu_ms(helper):
	"""CPU of all processes of the helper so far."""
	return sum(netlab.cpu_ms(p) for p in helper.all_pids())


def kill_and_reap(helper):
	helper.signal(signal.SIGKILL)
	return helper.reap()
