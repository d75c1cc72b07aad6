# SPDX-License-Identifier: Apache-2.0
"""Guests behind our network helper, called as Podman calls it, with clients on published ports that never stop."""
import errno
import json
import os
import socket
import struct
import subprocess
import threading
import time

import world
from world import DEADLINE, WORK, netlab, until

LEVEL = 'network'
PORT = 7000
ANSWER = 25.0		# s; a connection made in a gap waits and is served; a worker that hangs is replaced within 12 s
CUT = (errno.ECONNRESET, errno.EPIPE)


class Guest:
	"""A network namespace with a server in it, and its helper."""

	def __init__(self, rig, name, host_port, options):
		self.rig, self.name, self.host_port, self.options = rig, name, host_port, options
		self.api = os.path.join(WORK, name + '.api')
		self.quiet = self.ended = False
		self.guest = netlab.Guest(0)
		self.output = open(os.path.join(WORK, name + '.helper'), 'wb')

	def start(self):
		ready, w = os.pipe2(os.O_CLOEXEC)
		r, self.exit_w = os.pipe2(os.O_CLOEXEC)
		argv = [self.rig.programs.helper, '--mtu=65520', '--enable-sandbox', '--enable-seccomp', '-c', '-e', str(r),
			'-r', str(w), '--api-socket', self.api] + self.options + ['--netns-type=path', self.guest.path, 'tap0']
		self.process = subprocess.Popen(argv, pass_fds=[r, w], stdin=subprocess.DEVNULL, stdout=self.output,
			stderr=self.output, start_new_session=True)
		os.close(w)
		os.close(r)
		self.keeper = self.process.pid
		if os.read(ready, 1) != b'1':
			raise RuntimeError('%s: helper is not ready: %s' % (self.name, open(self.output.name).read()[-600:]))
		self.ready_at = time.monotonic()
		os.close(ready)
		self.guest.ip('link', 'set', 'lo', 'up')
		self.server = self.guest.popen(self.rig.programs.load, 'run', 'port=%d' % PORT, stdin=subprocess.DEVNULL,
			stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
		until(self.is_listening, 'the server listens')
		for proto in ('tcp', 'udp'):
			self.request({'execute': 'add_hostfwd', 'arguments': {'proto': proto, 'host_addr': '0.0.0.0',
				'host_port': self.host_port, 'guest_addr': '', 'guest_port': PORT}})
		self.addresses = self.guest.addresses('tap0')
		self.splices = self.sees_splice()
		return self

	def is_listening(self):
		with self.guest:
			with socket.socket() as s:
				return s.connect_ex(('127.0.0.1', PORT)) == 0

	def sees_splice(self):
		"""Whether established connections are the kernel's and must outlive the worker."""
		link = self.guest.run('ip', '-d', 'link', 'show', 'tap0')
		return ' veth' in link

	def request(self, what):
		with socket.socket(socket.AF_UNIX) as s:
			s.settimeout(DEADLINE)
			s.connect(self.api)
			s.sendall(json.dumps(what).encode() + b'\n')
			s.shutdown(socket.SHUT_WR)
			answer = json.loads(s.recv(65536))
		if 'error' in answer:
			raise RuntimeError('%s: %r' % (self.name, answer))
		return answer

	def processes(self):
		return [p for p, st in world.running(self.rig.programs.helper).items() if st[3] == self.keeper]

	def stop(self):
		"""Close the exit descriptor, as conmon's end does; everything goes."""
		book = self.rig.book
		if self.server.poll() is not None:
			book.breach('containers disturbed', '%s: the server in the guest ended' % self.name)
		os.close(self.exit_w)
		try:
			until(lambda: not self.processes(), 'helper of %s ends with its exit descriptor' % self.name)
		except TimeoutError as e:
			book.breach('left over', '%s: %s' % (e, [world.cmdline(p)[:60] for p in self.processes()]))
			for p in self.processes():
				world.kill(p)
		self.process.wait()
		self.check_gone()
		self.server.kill()
		self.server.wait()
		self.guest.close()
		self.output.close()

	def is_gone(self):
		with socket.socket() as s:
			return not self.guest.link('tap0') and s.connect_ex(('127.0.0.1', self.host_port)) != 0

	def check_gone(self):
		"""The last process has ended; what it held goes with it. (Its API path is out of reach of a sandbox, N-147.)"""
		try:
			until(self.is_gone, 'tap and port of %s are gone' % self.name, 5)
		except TimeoutError as e:
			self.rig.book.breach('left over', str(e))


class Rig:
	level = LEVEL
	ENDS = ('TCP clients', 'UDP client', 'long connection', 'outbound client', 'API client')

	def __init__(self, programs, book, threads, journal, rng, may_kill=True):
		self.programs, self.book, self.threads, self.journal = programs, book, threads, journal
		self.may_kill, self.stopping = may_kill, False
		self.guests, self.outbounds = [], []

	def start(self):
		self.outside = netlab.HOST.listen('127.0.0.1')
		self.threads.start(self.serve_outside)
		kinds = [[], []] if self.programs.reference else [['--data-path=slirp'], []]
		for i, options in enumerate(kinds):
			guest = Guest(self, 'guest%d' % i, 8100 + i, options).start()
			for address in ('127.0.0.1', netlab.HOST4):	# the guest's neighbours are known from here on
				until(lambda: self.is_answered(guest, address), '%s answers' % guest.name)
			guest.fds = self.settled_fds(guest)
			self.guests.append(guest)
			self.threads.start(self.tcp, guest, '127.0.0.1')
			self.threads.start(self.tcp, guest, netlab.HOST4)
			self.threads.start(self.udp, guest)
			self.threads.start(self.long, guest)
			self.outbounds.append(self.threads.start(self.outbound, guest))
			self.threads.start(self.use_api, guest)

	def is_answered(self, guest, address):
		try:
			with socket.create_connection((address, guest.host_port), 2) as s:
				s.settimeout(1)
				self.exchange(s, b'first')
				return True
		except (OSError, EOFError):
			return False

	# --- clients ---

	def tcp(self, guest, address):
		"""One connection after the other; each must be made and answered."""
		n = 0
		while not self.stopping and not guest.ended:
			n += 1
			try:
				with socket.create_connection((address, guest.host_port), ANSWER) as s:
					s.settimeout(ANSWER)
					self.exchange(s, struct.pack('!QQ', n, id(guest)))
				self.book.count('TCP connections through published ports')
			except ConnectionRefusedError:
				self.book.breach('refused connections', '%s: connect to %s' % (guest.name, address))
			except (TimeoutError, socket.timeout):
				self.book.breach('connections left hanging', '%s: %s connection %d' % (guest.name, address, n))
			except (EOFError, OSError) as e:
				self.cut(guest, e)
			time.sleep(0.01)

	@staticmethod
	def exchange(s, data):
		s.sendall(data)
		got = b''
		while len(got) < len(data):
			piece = s.recv(len(data) - len(got))
			if not piece:
				raise EOFError('connection ended after %d of %d bytes' % (len(got), len(data)))
			got += piece
		if got != data:
			raise RuntimeError('echo differs')

	def cut(self, guest, error):
		"""A connection of libslirp's goes with the worker, at once; a spliced one stays."""
		if guest.splices:
			self.book.breach('spliced connections cut', '%s: %s' % (guest.name, error))
		else:
			self.book.count('connections inside libslirp that were reset')

	def long(self, guest):
		"""A connection that goes on for ever, numbered."""
		s = None
		n = 0
		while not self.stopping and not guest.ended:
			try:
				if s is None:
					s = socket.create_connection(('127.0.0.1', guest.host_port), ANSWER)
					s.settimeout(ANSWER)
				n += 1
				self.exchange(s, struct.pack('!Q', n) * 2000)
				self.book.count('bytes through long connections', 16000)
			except ConnectionRefusedError:
				self.book.breach('refused connections', '%s: long connection' % guest.name)
				s = None
			except (TimeoutError, socket.timeout):
				self.book.breach('connections left hanging', '%s: long connection' % guest.name)
				s = None
			except (EOFError, OSError) as e:
				self.cut(guest, e)
				s = None
			time.sleep(0.02)
		if s:
			s.close()

	def udp(self, guest, address='127.0.0.1'):
		"""Datagrams may be lost, the port may not: no refusal, and answers go on."""
		s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		s.connect((address, guest.host_port))
		s.settimeout(0.25)
		n, silent_since = 0, None
		while not self.stopping and not guest.ended:
			n += 1
			try:
				s.send(struct.pack('!Q', n))
				while s.recv(64) != struct.pack('!Q', n):
					pass
				self.book.count('UDP datagrams answered')
				silent_since = None
			except ConnectionRefusedError:
				self.book.breach('refused connections', '%s: UDP' % guest.name)
			except (TimeoutError, socket.timeout):
				self.book.count('UDP datagrams lost')
				silent_since = silent_since or time.monotonic()
				if time.monotonic() - silent_since > ANSWER:
					self.book.breach('connections left hanging', '%s: UDP silent' % guest.name)
					silent_since = None
			time.sleep(0.01)
		s.close()

	def serve_outside(self):
		"""A server on the host, for the guests: as long as one of them may be waiting for it."""
		self.outside.settimeout(0.5)
		while not self.stopping or any(t.is_alive() for t in self.outbounds):
			try:
				s, _ = self.outside.accept()
			except (TimeoutError, socket.timeout):
				continue
			threading.Thread(target=self.serve_one, args=(s,), daemon=True).start()

	def serve_one(self, s):
		with s:
			s.settimeout(ANSWER)
			try:
				s.sendall(s.recv(64))
			except (TimeoutError, socket.timeout):
				self.book.count('connections that reached the server without their guest')
			except OSError:
				pass

	def outbound(self, guest):
		"""The guest's own connections to the host; with the gap of a kill in between they may take longer."""
		while not self.stopping:
			try:
				with guest.guest.connect('10.0.2.2', self.outside.getsockname()[1], timeout=ANSWER) as s:
					self.exchange(s, b'from the guest')
				self.book.count('TCP connections out of guests')
			except ConnectionRefusedError:
				self.book.breach('refused connections', '%s: outbound' % guest.name)
			except (TimeoutError, socket.timeout):
				self.book.breach('connections left hanging', '%s: outbound' % guest.name)
			except (EOFError, OSError) as e:
				self.cut(guest, e)
			time.sleep(0.02)

	def use_api(self, guest):
		"""The API answers, rules stay, ids go on. An answer may be cut short by a kill, then it is asked again."""
		last = 2
		while not self.stopping:
			try:
				answer = guest.request({'execute': 'list_hostfwd'})
				entries = answer.get('return', answer)['entries']
				if [e['id'] for e in entries if e['host_port'] == guest.host_port] != [1, 2]:
					self.book.breach('refused connections', '%s: forwards are %r' % (guest.name, entries))
				port = guest.host_port + 1000
				new = guest.request({'execute': 'add_hostfwd', 'arguments': {'proto': 'tcp', 'host_addr': '127.0.0.1',
					'host_port': port, 'guest_port': PORT}})['return']['id']
				if new <= last:
					self.book.breach('refused connections', '%s: id %d after %d' % (guest.name, new, last))
				last = new
				guest.request({'execute': 'remove_hostfwd', 'arguments': {'id': new}})
				self.book.count('API requests', 3)
			except (RuntimeError, OSError, ValueError) as e:
				self.api_failed(guest, e)
			time.sleep(0.1)

	def api_failed(self, guest, error):
		"""A kill between a request and its answer leaves the asker not knowing: clean up, go on."""
		self.book.count('API requests without an answer')
		if isinstance(error, ConnectionRefusedError):
			self.book.breach('refused connections', '%s: API' % guest.name)
		try:
			for e in guest.request({'execute': 'list_hostfwd'})['entries']:
				if e['host_port'] == guest.host_port + 1000:
					guest.request({'execute': 'remove_hostfwd', 'arguments': {'id': e['id']}})
		except (RuntimeError, OSError, ValueError):
			pass

	# --- kills and end ---

	@staticmethod
	def role(guest, pid):
		line = world.cmdline(pid)
		return 'worker' if ': worker' in line else 'janitor' if ': janitor' in line else 'keeper'

	@staticmethod
	def allows(roles, n):
		return True

	def groups(self):
		return [(LEVEL, g, g.processes()) for g in self.guests if not g.quiet] if self.may_kill else []

	@staticmethod
	def fds(guest):
		pids = guest.processes()
		return world.describe_fds(pids[0]) if pids else {}

	def settled_fds(self, guest):
		"""What an idle helper has open: the same for a second."""
		before, end = None, time.monotonic() + 10
		while time.monotonic() < end:
			now = self.fds(guest)
			if now == before:
				break
			before = now
			time.sleep(1)
		return self.fds(guest)

	def stop(self):
		self.stopping = True

	def finish(self):
		for guest in self.guests:
			guest.quiet = True
			if self.may_kill:
				self.check(guest)
			guest.stop()
		self.outside.close()
		for p in world.running(self.programs.helper):
			self.book.breach('left over', 'process %d %s' % (p, world.cmdline(p)[:120]))
			world.kill(p)

	def check(self, guest):
		"""The clients have gone: as many descriptors as at the beginning, the same addresses."""
		if guest.guest.addresses('tap0') != guest.addresses:
			self.book.breach('containers disturbed', '%s: addresses %r' % (guest.name, guest.guest.addresses('tap0')))
		if guest.server.poll() is not None:
			return
		def more():
			now = self.fds(guest)
			return {k: n - guest.fds.get(k, 0) for k, n in now.items() if n > guest.fds.get(k, 0)}
		try:
			until(lambda: sum(more().values()) <= 2, 'descriptors of %s as at the beginning' % guest.name)
		except TimeoutError as e:
			self.book.breach('left over', '%s: more: %r: %s' % (e, more(), world.describe_sockets(guest.processes()[0])))
