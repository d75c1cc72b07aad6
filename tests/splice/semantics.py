#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What an application notices of a TCP connection, as a table: each case over the host's own network, the stack and the fast path.

A case is a function that gets two connected ends, or a way to connect, and returns what was seen. What the host's network
gives is the right answer; the fast path must give the same, and the stack too, except where its row says otherwise.
Every case of two ends is run outwards (the guest connects), the other way round, and through a published port.
"""
import errno
import os
import select
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'contract', 'lib'))
import helperlab
import netlab
import tap
from helperlab import forward, free_port
from netlab import HOST, HOST4, HOST6, OUTSIDE, OUTSIDE4, OUTSIDE6
from tap import test

LINGER_RESET = struct.pack('ii', 1, 0)
TIMEOUT = 5

ends = []	# (title, function(near, far), ways in which the stack differs)
attempts = []	# (title, function(netns, lab), what the stack gives if that differs)


def case(title, stack_differs=()):
	def add(f):
		ends.append((title, f, stack_differs))
		return f
	return add


def attempt(title, stack=None):
	def add(f):
		attempts.append((title, f, stack))
		return f
	return add


def outcome(f):
	"""What f() gives, an error by its name."""
	try:
		return f()
	except socket.timeout:
		return 'timeout'
	except OSError as e:
		return errno.errorcode.get(e.errno, str(e))


def drain(s):
	"""All bytes until the end: how many, and how it ended."""
	n = 0
	while True:
		try:
			piece = s.recv(65536)
		except ConnectionResetError:
			return n, 'ECONNRESET'
		if not piece:
			return n, 'end'
		n += len(piece)


def fill(s):
	"""Write until nothing more is taken for a while; how many bytes."""
	s.setblocking(False)
	n = 0
	try:
		while select.select([], [s], [], 0.5)[1]:
			n += s.send(bytes(65536))
	except BlockingIOError:
		pass
	s.settimeout(TIMEOUT)
	return n


# --- two ends

@case('half-close: the other direction goes on')
def _(near, far):
	near.sendall(b'question')
	near.shutdown(socket.SHUT_WR)
	seen = [drain(far)]
	far.sendall(b'x' * 100000)
	far.close()
	return seen + [drain(near)]


@case('half-close first, then nothing for a while, then an answer')
def _(near, far):
	near.shutdown(socket.SHUT_WR)
	seen = [drain(far)]
	select.select([near], [], [], 0.3)
	far.sendall(b'late')
	far.close()
	return seen + [drain(near)]


@case('both ends close at the same time')
def _(near, far):
	near.shutdown(socket.SHUT_WR)
	far.shutdown(socket.SHUT_WR)
	return drain(near), drain(far)


@case('reset by the one that connected', stack_differs=('out',))
def _(near, far):
	near.sendall(b'abc')
	seen = far.recv(3)
	near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
	near.close()
	return seen, drain(far)


@case('reset by the one that accepted', stack_differs=('in',))
def _(near, far):
	far.sendall(b'abc')
	seen = near.recv(3)
	far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
	far.close()
	return seen, drain(near)


@case('a reset behind the end of the stream, seen by one that neither reads nor writes', stack_differs=('out', 'in'))
def _(near, far):
	near.shutdown(socket.SHUT_WR)
	seen = drain(far)
	near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
	near.close()
	waiter = select.poll()
	waiter.register(far, 0)		# errors and hang-up only
	return seen, bool(waiter.poll(TIMEOUT * 1000))


@case('end of the stream and reset in one go, with bytes before', stack_differs=('out', 'in'))
def _(near, far):
	near.sendall(b'x' * 100000)
	near.shutdown(socket.SHUT_WR)
	near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
	near.close()
	waiter = select.poll()
	waiter.register(far, 0)
	return bool(waiter.poll(TIMEOUT * 1000))


@case('an answer and a reset right behind it: the answer is not lost', stack_differs=('out', 'in'))
def _(near, far):
	near.sendall(b'question that nobody reads')
	select.select([far], [], [], TIMEOUT)
	far.sendall(b'answer')
	near.settimeout(TIMEOUT)
	seen = near.recv(6)
	far.close()	# with unread bytes: a reset
	return seen, drain(near)


@case('the reader stops: the writer is stopped, and every byte comes when the reader goes on')
def _(near, far):
	sent = fill(near)
	blocked = not select.select([], [near], [], 0)[1]
	near.shutdown(socket.SHUT_WR)
	got, how = drain(far)
	return blocked, got == sent, how


@case('the reader stops for good and goes: the writer is told', stack_differs=('out', 'in'))
def _(near, far):
	fill(near)
	far.close()
	def write():
		while True:
			near.sendall(bytes(65536))
	return outcome(write) in ('ECONNRESET', 'EPIPE')


@case('urgent data: in its place, and announced')
def _(near, far):
	near.sendall(b'before')
	seen = [far.recv(6)]
	near.send(b'!', socket.MSG_OOB)
	seen.append(bool(select.select([], [], [far], TIMEOUT)[2]))
	seen.append(tap.until(lambda: urgent(far), 'the urgent byte is there'))
	near.sendall(b'after')
	seen.append(far.recv(5))
	near.close()
	return seen + [drain(far)]


def urgent(s):
	s.setblocking(False)	# with a timeout it would wait for ordinary data
	try:
		return s.recv(1, socket.MSG_OOB)
	except OSError:
		return b''
	finally:
		s.settimeout(TIMEOUT)


@case('urgent data both ways, bytes around it at once')
def _(near, far):
	seen = []
	for a, b in ((near, far), (far, near)):
		b.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
		a.sendall(b'one')
		a.send(b'!', socket.MSG_OOB)
		a.sendall(b'two')
		data = b''
		while len(data) < 7:
			data += b.recv(7 - len(data))
		seen.append(data)
	return seen


@case('writing after the other end has closed', stack_differs=('out', 'in'))
def _(near, far):
	far.close()
	seen = [drain(near)]
	def write():
		for _ in range(100):
			near.sendall(b'x')
			select.select([], [], [near], 0.05)
	return seen + [outcome(write) in ('EPIPE', 'ECONNRESET')]


@case('small writes arrive without delay, each before the next is made')
def _(near, far):
	for n in range(200):
		near.sendall(bytes([n]))
		if far.recv(1) != bytes([n]):
			return n
		far.sendall(b'.')
		near.recv(1)
	return 'all'


@case('a connection that is idle stays')
def _(near, far):
	select.select([near, far], [], [], 1.5)
	near.sendall(b'still')
	return far.recv(5)


# --- attempts

def listener_at(lab, netns, address, **how):
	return lab.listen(netns, address, **how).getsockname()[1]


@attempt('a port that nobody listens on')
def _(netns, lab):
	port = free_port(OUTSIDE)
	return outcome(lambda: netns.connect(OUTSIDE4, port, timeout=TIMEOUT))


@attempt('the same over IPv6')
def _(netns, lab):
	return outcome(lambda: netns.connect(OUTSIDE6, 9, timeout=TIMEOUT))


@attempt('a network without a route')
def _(netns, lab):
	HOST.ip('route', 'add', 'unreachable', '203.0.113.0/24', 'metric', '1', check=False)
	return outcome(lambda: netns.connect('203.0.113.7', 9, timeout=TIMEOUT)) in ('EHOSTUNREACH', 'ENETUNREACH')


@attempt('a router that says that there is no such host', stack='any')
def _(netns, lab):
	OUTSIDE.ip('route', 'add', 'unreachable', '203.0.114.0/24', check=False)
	return outcome(lambda: netns.connect('203.0.114.7', 9, timeout=TIMEOUT))


@attempt('a host that is silent')
def _(netns, lab):
	OUTSIDE.ip('route', 'add', 'blackhole', '203.0.115.0/24', check=False)
	return outcome(lambda: netns.connect('203.0.115.7', 9, timeout=2))


@attempt('a listener that accepts late: connect() and the first bytes do not wait for it')
def _(netns, lab):
	listener = lab.listen(OUTSIDE, OUTSIDE4)
	c = lab.own(netns.connect(OUTSIDE4, listener.getsockname()[1]))
	c.sendall(b'early')
	select.select([c], [], [], 0.3)
	s, _ = lab.accept(listener)
	return s.recv(5)


@attempt('a listener whose queue is full: connect() waits')
def _(netns, lab):
	listener = lab.listen(OUTSIDE, OUTSIDE4, backlog=0)
	port = listener.getsockname()[1]
	lab.own(OUTSIDE.connect(OUTSIDE4, port))
	return outcome(lambda: netns.connect(OUTSIDE4, port, timeout=1.5))


@attempt('happy eyeballs: IPv6 has no route, IPv4 is tried at once')
def _(netns, lab):
	HOST.ip('-6', 'route', 'add', 'unreachable', '2001:db8:dead::/48', check=False)
	listener = lab.listen(OUTSIDE, OUTSIDE4)
	first = outcome(lambda: netns.connect('2001:db8:dead::1', 80, timeout=TIMEOUT))
	c = lab.own(netns.connect(OUTSIDE4, listener.getsockname()[1]))
	return first in ('ENETUNREACH', 'EHOSTUNREACH', 'EACCES'), bool(lab.accept(listener)) and bool(c)


@attempt('non-blocking connect() to nobody: the error is in SO_ERROR')
def _(netns, lab):
	s = lab.own(netns.socket())
	s.setblocking(False)
	s.connect_ex((OUTSIDE4, 9))
	select.select([], [s], [], TIMEOUT)
	return errno.errorcode.get(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


@attempt('the same source port again for another destination, and for the same one after a close')
def _(netns, lab):
	one, two = lab.listen(OUTSIDE, OUTSIDE4), lab.listen(OUTSIDE, OUTSIDE4)
	seen = []
	for listener in (one, two, one):
		s = netns.socket()
		s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
		s.bind(('0.0.0.0', 40000))
		s.settimeout(TIMEOUT)
		s.connect((OUTSIDE4, listener.getsockname()[1]))
		p, _ = lab.accept(listener)
		s.sendall(b'x')
		seen.append(p.recv(1))
		s.close()
		drain(p)
	return seen


# --- running them

def ways(lab, path):
	"""How two ends are made: name and function that gives (the one that connects, the one that accepts)."""
	if path == 'host':
		def over_host():
			listener = lab.listen(OUTSIDE, OUTSIDE4)
			c = lab.connect(HOST, OUTSIDE4, listener.getsockname()[1])
			return c, lab.accept(listener)[0]
		return {'out': over_host, 'in': over_host, 'out6': over_host}
	g = lab.guest()
	api = lab.path('api.%s' % path)
	lab.start(g, '--data-path=' + path, '--enable-ipv6', '--api-socket=' + api)
	wait_for_ipv6(g)
	port = free_port()
	forward(api, port, 8080)
	service = lab.listen(g, '0.0.0.0', 8080)

	def out():
		listener = lab.listen(OUTSIDE, OUTSIDE4)
		c = lab.connect(g, OUTSIDE4, listener.getsockname()[1])
		return c, lab.accept(listener)[0]

	def out6():
		listener = lab.listen(OUTSIDE, OUTSIDE6)
		c = lab.connect(g, OUTSIDE6, listener.getsockname()[1])
		return c, lab.accept(listener)[0]

	def inward():
		c = lab.connect(OUTSIDE, HOST4, port)
		return c, lab.accept(service)[0]
	return {'out': out, 'in': inward, 'out6': out6, 'guest': g}


def wait_for_ipv6(g):
	tap.until(lambda: g.addresses('tap0', 'inet6', 'global') and not g.links('tentative'), 'the guest has an IPv6 address', 10)


def run_case(title, f, stack_differs):
	def run(t):
		host = f(*ways(t, 'host')['out']())
		for path in ('splice', 'slirp'):
			made = ways(t, path)
			for way in ('out', 'in', 'out6'):
				seen = f(*made[way]())
				if path == 'slirp' and way.rstrip('6') in stack_differs:
					continue
				tap.same(seen, host, '%s, %s' % (path, way))
			t.helpers[-1].close()
	test('N-102 N-108 N-109 N-111', title, modes=['user'], deadline=60)(run)


def run_attempt(title, f, stack):
	def run(t):
		host = f(HOST, t)
		for path in ('splice', 'slirp'):
			seen = f(ways(t, path)['guest'], t)
			if path == 'slirp' and stack == 'any':
				continue
			tap.same(seen, host, path)
			t.helpers[-1].close()
	test('N-102 N-103 N-104 N-105 N-106 N-107', title, modes=['user'], deadline=60)(run)


for row in ends:
	run_case(*row)
for row in attempts:
	run_attempt(*row)

if __name__ == '__main__':
	if helperlab.REFERENCE:
		print('1..0 # SKIP %s has one data path' % helperlab.PROGRAM)
		sys.exit(0)
	helperlab.main()
