#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-258, N-261, N-262 and what must hold besides: nothing leaks, nothing spins, limits are bounds.

With TANDEM_LONG=1 also the tests that take long: timers of minutes, tables that have to be filled.
"""
import errno
import os
import resource
import select
import signal
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import frames
import helperlab
import netlab
import tap
from helperlab import api, api_open, connect_error, forward, free_port, level, n_fds
from netlab import HOST, HOST4, OUTSIDE, OUTSIDE4, pidfd_wait
from tap import test

RESET = struct.pack('ii', 1, 0)
STACK_SOCKETS = 16384		# SLIRP_SOCKETS_MAX


def wakeups(h):
	"""Context switches of all processes of the helper so far."""
	total = 0
	for pid in h.all_pids():
		total += int(helperlab.status_field(pid, 'voluntary_ctxt_switches'))
	return total


def quiet(h, seconds, most, what):
	"""At most @most wake-ups within @seconds, after things have calmed down."""
	tap.until(lambda: _calm(h), 'the helper comes to rest after %s' % what, 6)
	before, busy = wakeups(h), helperlab.cpu_ms(h)
	pidfd_wait(h.pid, seconds)
	n, busy = wakeups(h) - before, helperlab.cpu_ms(h) - busy
	tap.true(busy <= 40 * seconds, '%d ms of CPU in %g s after %s' % (busy, seconds, what))
	tap.true(n <= most, '%d wake-ups in %g s after %s' % (n, seconds, what))


def _calm(h):
	before = wakeups(h)
	pidfd_wait(h.pid, 0.5)
	return wakeups(h) - before <= 6


def limited(soft, hard):
	return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@test('N-258', 'an idle helper sleeps: a few wake-ups in three seconds, with everything enabled', modes=['user', helperlab.ROOTLESS])
def _(t):
	g = t.guest()
	path = t.path('api.sock')
	h = t.start(g, '--enable-ipv6', '--enable-sandbox', '--enable-seccomp', '-a', path, exit_fd=True,
		kind='path' if t.mode == helperlab.ROOTLESS else 'pid')
	quiet(h, 3, 12, 'start')


@test('N-258', 'an idle helper with a forward and an idle connection has only its timers')
def _(t):
	g, h, path = t.api_pair()
	forward(path, free_port(), 80)
	c, s, _ = t.through(g, t.listen())
	quiet(h, 3, 24, 'a connection')


@test('N-258 N-155', 'no client of the API makes it spin: silent, half a request, half-closed, gone')
def _(t):
	g, h, path = t.api_pair()
	with api_open(path) as s:
		s.sendall(b'{"execute":"list_hostfwd"}')
		s.shutdown(socket.SHUT_WR)
		helperlab.read_all(s)
	quiet(h, 1, 8, 'a client that half-closed')
	if helperlab.REFERENCE:
		return		# what follows makes it stand still (N-155)
	for text in (b'', b'{"exec'):
		with api_open(path) as s:
			s.sendall(text)
			quiet(h, 1, 12, 'a client that sent %r' % text)


@test('N-258', 'no state of a connection makes it spin: half-closed, reset, full, refused', modes=['user'], deadline=60)
def _(t):
	g, h = t.pair()
	listener = t.listen(OUTSIDE, OUTSIDE4)
	c, s, _ = t.through(g, listener, OUTSIDE4)
	c.shutdown(socket.SHUT_WR)
	quiet(h, 1, 16, 'a half-close by the guest')
	c, s, _ = t.through(g, listener, OUTSIDE4)
	s.shutdown(socket.SHUT_WR)
	quiet(h, 1, 16, 'a half-close by the server')
	c, s, _ = t.through(g, listener, OUTSIDE4)
	s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
	s.close()
	quiet(h, 1, 16, 'a reset by the server')
	c, s, _ = t.through(g, listener, OUTSIDE4)
	c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
	c.close()
	quiet(h, 1, 16, 'a reset by the guest')
	connect_error(g, OUTSIDE4, free_port(OUTSIDE))
	quiet(h, 1, 16, 'a refused connection')
	for reverse in (False, True):
		c, s, _ = t.through(g, listener, OUTSIDE4)
		a = s if reverse else c
		a.setblocking(False)
		try:
			while True:
				a.send(b'x' * 65536)
		except BlockingIOError:
			pass
		# the kernel's own probes of the closed window come to the helper too
		quiet(h, 1, 30, 'a receiver that does not read')


@test('N-261', 'a thousand short connections: descriptors are back at the start level', deadline=60)
def _(t):
	g, h = t.pair()
	s = t.listen()
	port = s.getsockname()[1]
	c, p, _ = t.through(g, s)
	c.close()
	p.close()
	start = level(h)
	for n in range(1000):
		with g.connect('10.0.2.2', port) as c:
			p, _ = s.accept()
			with p:
				c.sendall(b'request')
				p.recv(10)
				p.sendall(b'answer')
				(p if n % 2 else c).shutdown(socket.SHUT_WR)
				tap.same((c if n % 2 else p).recv(100)[-6:], b'answer' if n % 2 else b'', 'bytes')
	tap.until(lambda: n_fds(h) <= start, 'descriptors are back at %d' % start, 15, 0.1)


@test('N-261', 'connections that either side resets, and refused ones, leave no descriptor')
def _(t):
	g, h = t.pair()
	s = t.listen()
	port = s.getsockname()[1]
	closed = free_port()
	start = level(h)
	for n in range(300):
		if n % 3 == 2:
			tap.same(connect_error(g, '10.0.2.2', closed), 'ECONNREFUSED', 'connect')
			continue
		with g.connect('10.0.2.2', port) as c:
			p, _ = s.accept()
			with p:
				(c, p)[n % 3].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
				(c, p)[n % 3].close()
	tap.until(lambda: n_fds(h) <= start, 'descriptors are back at %d' % start, 15, 0.1)


@test('N-179 N-261', 'short connections through a forward leave no descriptor')
def _(t):
	g, h, path = t.api_pair()
	port = free_port()
	forward(path, port, 8080)
	s = t.listen(g, '0.0.0.0', 8080)
	start = level(h)
	for n in range(300):
		with OUTSIDE.connect(HOST4, port) as c:
			p, _ = s.accept()
			with p:
				p.sendall(b'answer')
			tap.same(helperlab.read_all(c), b'answer', 'answer')
	tap.until(lambda: n_fds(h) <= start, 'descriptors are back at %d' % start, 15, 0.1)


@test('N-113', 'two thousand exchanges of one UDP socket use one descriptor')
def _(t):
	g, h = t.pair()
	u = t.udp(OUTSIDE, OUTSIDE4, 0)
	c = t.udp(g, '0.0.0.0')
	start = level(h)
	for n in range(2000):
		c.sendto(b'%d' % n, u.getsockname())
		data, peer = u.recvfrom(100)
		u.sendto(data, peer)
		tap.same(c.recv(100), b'%d' % n, 'answer')
	tap.true(n_fds(h) <= start + 1, '%d descriptors, %d at the start' % (n_fds(h), start))


@test('N-262', 'the soft limit of descriptors is raised to the hard one', ours='the reference does not')
def _(t):
	g = t.guest()
	h = t.start(g, start=limited(64, 1024))
	s = t.listen()
	pairs = [t.through(g, s) for _ in range(150)]
	for c, p, _ in pairs:
		c.sendall(b'x')
		tap.same(p.recv(1), b'x', 'byte')


@test('N-262', 'at the limit new connections fail, waiting clients cost no busy loop, and all is well afterwards',
	ours='the reference spins')
def _(t):
	g = t.guest()
	path = t.path('api.sock')
	h = t.start(g, '-a', path, start=limited(96, 96))
	port = free_port()
	forward(path, port, 8080)
	service = t.listen(g, '0.0.0.0', 8080)
	s = t.listen()
	pairs = []
	for n in range(120):
		try:
			c = t.connect(g, '10.0.2.2', s.getsockname()[1])
		except OSError as e:
			tap.true(helperlab.REFERENCE or e.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH), 'connection %d: %s' % (n, e))
			break
		pairs.append((c, t.accept(s)[0]))
	tap.true(len(pairs) < 120, 'there was no limit')
	waiting = [t.own(HOST.socket()) for _ in range(3)]
	for w in waiting:
		w.setblocking(False)
		w.connect_ex(('127.0.0.1', port))
	client = t.own(api_open(path))
	client.sendall(b'{"execute":"list_hostfwd"}')
	before = helperlab.cpu_ms(h)
	pidfd_wait(h.pid, 1.0)
	used = helperlab.cpu_ms(h) - before
	tap.true(used < 40, '%d ms of CPU in a second' % used)
	tap.true(h.is_alive(), 'the helper ended')
	for c, p in pairs:
		c.close()
		p.close()
	tap.until(lambda: connect_error(g, '10.0.2.2', s.getsockname()[1]) == '', 'connections are possible again', 10, 0.2)
	tap.true(api(path, 'list_hostfwd')['entries'], 'list of forwards')
	lines = [l for l in h.err().splitlines() if 'out of descriptors' in l]
	tap.same(len(lines), 1, 'lines about it on stderr')
	tap.has(lines[0], 'the limit is 96', 'stderr')


@test('N-262 N-113', 'more sessions than the stack takes: the others go on, one line says so', modes=['user'], ours='the reference has no limit', deadline=120)
def _(t):
	if not os.environ.get('TANDEM_LONG'):
		raise tap.Skip('opens %d sessions; set TANDEM_LONG=1' % STACK_SOCKETS)
	if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < STACK_SOCKETS + 1000:
		raise tap.Skip('fewer descriptors than that are allowed here')
	for path in ('splice', 'slirp'):
		g = t.guest()
		h = t.start(g, '--data-path=' + path)
		c, s, _ = t.through(g, t.listen())
		u = t.udp(HOST, '127.0.0.1', 0)
		other = t.udp(HOST, '127.0.0.1', 0)
		first = t.udp(g, '0.0.0.0')
		helperlab.carried(first, b'q', ('10.0.2.2', other.getsockname()[1]), other)
		start, wire = level(h), g.packets('tap0')
		mac = frames.mac(g.link('tap0')['address'])
		flood = [frames.ether(frames.GATEWAY_MAC, mac, frames.IPV4, frames.udp4('10.0.2.100', 10000 + n, '10.0.2.2', u.getsockname()[1], b'x'))
			for n in range(STACK_SOCKETS + 500)]
		while 'more are not possible' not in h.err():	# some get lost on the way
			for n, frame in enumerate(flood):
				wire.send(frame)
		pidfd_wait(h.pid, 0.5)
		tap.true(n_fds(h) <= start + STACK_SOCKETS, '%d descriptors, %d at the start' % (n_fds(h), start))
		tap.same(len([l for l in h.err().splitlines() if 'more are not possible' in l]), 1, 'lines about it on stderr')
		c.sendall(b'still')
		tap.same(s.recv(5), b'still', 'bytes of a connection of before')
		helperlab.carried(first, b'still', ('10.0.2.2', other.getsockname()[1]), other)
		tap.same(connect_error(g, '10.0.2.2', free_port()), 'ECONNREFUSED' if path == 'splice' else 'ENETUNREACH', 'another connection')
		wire.send(frames.dhcp(mac, frames.DISCOVER))
		tap.true(frames.receive(wire, lambda p: p.sport == 67), 'no answer by DHCP')
		t.helpers[-1].close()


def ends(h):
	"""Duplicates of the helper's connected TCP sockets, by the addresses of both ends."""
	found = []
	for pid in netlab.descendants(h.pid)[1:]:
		try:
			pidfd = os.pidfd_open(pid)
			for fd in os.listdir('/proc/%d/fd' % pid):
				if not os.readlink('/proc/%d/fd/%s' % (pid, fd)).startswith('socket:'):
					continue
				s = socket.socket(fileno=netlab.getfd(pidfd, int(fd)))
				try:
					if s.proto == socket.IPPROTO_TCP and s.getpeername():
						found.append(s)
						continue
				except OSError:
					pass
				s.close()
			os.close(pidfd)
		except FileNotFoundError:
			continue
		if found:
			break
	return found


def hurry(h, count):
	"""Both ends of every connection of @h are asked for life signs; from now on after a second, and once."""
	def changed():
		sockets = ends(h)
		for s in sockets:
			tap.true(s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 'no keep-alive on %s' % s)
			tap.true(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) in (1, 300, 600), 'first probe of %s' % s)
			for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
				s.setsockopt(socket.IPPROTO_TCP, option, 1)
			s.close()	# a duplicate would keep it from being closed
		return len(sockets)
	tap.until(lambda: changed() >= count, '%d sockets' % count)


def ends_with_reset(s):
	s.settimeout(20)
	try:
		s.recv(1)
	except TimeoutError:
		pass
	except ConnectionResetError:
		return True
	return False


@test('N-261', 'an idle connection whose end has vanished, in the guest or on the host, is reset: both are probed, also after a kill', modes=['user'],
	ours='the reference keeps it for ever', deadline=120)
def _(t):
	for vanished in ('host', 'guest', 'guest, published'):
		g, h, path = t.api_pair()
		port = free_port()
		forward(path, port, 8080)
		start = level(h)
		if vanished == 'guest, published':
			service = t.listen(g, '0.0.0.0', 8080)
			s = t.connect(OUTSIDE, HOST4, port)
			c, _ = t.accept(service)
		else:
			c, s, _ = t.through(g, t.listen(OUTSIDE, OUTSIDE4), OUTSIDE4)
		if vanished == 'host':
			worker = netlab.descendants(h.pid)[1]
			os.kill(worker, signal.SIGKILL)
			tap.until(lambda: 'works again' in h.err(), 'the next worker works', 15)
		hurry(h, 2)
		gone, address, left = (OUTSIDE, HOST4, c) if vanished == 'host' else (g, OUTSIDE4, s)
		gone.ip('route', 'add', 'blackhole', address)		# its answers are lost from here on
		tap.true(ends_with_reset(left), 'no reset where the %s has vanished' % vanished)
		for end in t.owned[-2:]:
			end.close()
		tap.until(lambda: n_fds(h) <= start, 'descriptors are back at %d' % start, 15, 0.1)
		if vanished == 'host':
			OUTSIDE.ip('route', 'del', 'blackhole', address)
		t.helpers[-1].close()


@test('N-261', 'a connection that the guest has abandoned half-closed is ended in bounded time', modes=['user'],
	ours='the reference keeps it for ever', deadline=260)
def _(t):
	if not os.environ.get('TANDEM_LONG'):
		raise tap.Skip('waits for timers of minutes; set TANDEM_LONG=1')
	g, h = t.pair()
	g.sysctl('net.ipv4.tcp_fin_timeout', 2)
	s = t.listen()
	start = level(h)
	kept = []
	for _ in range(50):
		c, p, _ = t.through(g, s)
		c.close()		# the server neither closes nor sends
		kept.append(p)
	tap.until(lambda: n_fds(h) <= start, 'descriptors are back at %d' % start, 30 if helperlab.REFERENCE else 240, 1)


@test('N-113 N-261', 'sessions of UDP end when their time is over', modes=['user'], deadline=320)
def _(t):
	if not os.environ.get('TANDEM_LONG'):
		raise tap.Skip('waits for timers of minutes; set TANDEM_LONG=1')
	g, h = t.pair()
	u = t.udp(OUTSIDE, OUTSIDE4, 0)
	start = level(h)
	for n in range(300):
		with g.udp('0.0.0.0') as c:
			c.sendto(b'x', u.getsockname())
			u.recv(10)
	tap.true(n_fds(h) > start, 'no session was seen')
	tap.until(lambda: n_fds(h) <= start, 'descriptors are back at %d' % start, 300, 1)


helperlab.main()
