#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-101 to N-114: TCP and UDP from the guest outwards, as an application in the guest sees it.

NETNS_DATA_PATH chooses our data path: every clause here holds for both.
"""
import errno
import os
import select
import socket
import struct
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import frames
import helperlab
import netlab
import tap
from helperlab import ALL, carried, connect_error
from netlab import HOST, HOST4, OUTSIDE, OUTSIDE4, OUTSIDE6
from tap import test

TCP_REPAIR = 19		# <linux/tcp.h>

LINGER_RESET = struct.pack('ii', 1, 0)


def guest6(t, *options):
	g = t.guest()
	g.sysctl('net.ipv6.conf.default.accept_dad', 0)
	h = t.start(g, '--enable-ipv6', *options)
	tap.until(lambda: g.addresses('tap0', 'inet6', 'global') and
		[r for r in g.routes('-6') if r['dst'] == 'default'], 'IPv6 in the guest')
	return g, h


def pair(t, address=OUTSIDE4, at=OUTSIDE, options=()):
	"""A connection through the helper: guest's end, server's end, guest."""
	six = ':' in address
	g, h = guest6(t, *options) if six else t.pair(*options)
	c, s, _ = t.through(g, t.listen(at, address), address)
	return c, s, g


def resets(sock):
	"""True if reading ends in a reset, False if in an ordinary end."""
	try:
		while sock.recv(65536):
			pass
		return False
	except ConnectionResetError:
		return True


def urgent(sock):
	"""The urgent byte, or None while only its announcement has come."""
	sock.setblocking(False)
	try:
		return sock.recv(1, socket.MSG_OOB)
	except BlockingIOError:
		return None
	finally:
		sock.settimeout(5)


@test('N-102', 'what accepts is connected, and bytes go both ways', modes=ALL)
def _(t):
	c, s, g = pair(t)
	c.sendall(b'to the server')
	tap.same(s.recv(100), b'to the server', 'bytes')
	s.sendall(b'to the guest')
	tap.same(c.recv(100), b'to the guest', 'bytes')


@test('N-102 N-86', 'IPv6 too', modes=ALL)
def _(t):
	c, s, g = pair(t, OUTSIDE6)
	c.sendall(b'to the server')
	tap.same(s.recv(100), b'to the server', 'bytes')
	s.sendall(b'to the guest')
	tap.same(c.recv(100), b'to the guest', 'bytes')


@test('N-102', 'connect() in the guest ends only when the real one has')
def _(t):
	g, h = t.pair()
	OUTSIDE.run('nft', 'add table ip gate; add chain ip gate input { type filter hook input priority 0; }; '
		'add rule ip gate input tcp dport 7777 drop')
	try:
		t.listen(OUTSIDE, OUTSIDE4, 7777)
		tap.same(connect_error(g, OUTSIDE4, 7777, 1.5), 'timeout', 'connect while the server is silent')
		c = t.own(g.socket())
		c.setblocking(False)
		c.connect_ex((OUTSIDE4, 7777))
		OUTSIDE.run('nft', 'delete', 'table', 'ip', 'gate')
		tap.true(select.select([], [c], [], 6)[1], 'not connected after the server answers')
		tap.same(c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0, 'error')
	finally:
		OUTSIDE.run('nft', 'delete', 'table', 'ip', 'gate', check=False)


@test('N-101', 'the host\'s own addresses and servers on 0.0.0.0 are reached by their real address')
def _(t):
	g, h = t.pair('--disable-host-loopback')
	s = t.listen(HOST, '0.0.0.0')
	c, p, peer = t.through(g, s, HOST4)
	tap.same((peer[0], p.getsockname()[0]), (HOST4, HOST4), 'addresses that the server sees')


@test('N-103', 'what refuses is refused at once', modes=ALL)
def _(t):
	g, h = guest6(t)
	port = helperlab.free_port(OUTSIDE)
	tap.same(connect_error(g, OUTSIDE4, port), 'ECONNREFUSED', 'another machine')
	tap.same(connect_error(g, '10.0.2.2', port), 'ECONNREFUSED', 'the host\'s loopback')
	tap.same(connect_error(g, OUTSIDE6, port), 'ECONNREFUSED', 'another machine by IPv6')


@test('N-104', 'no route on the host is ENETUNREACH at once')
def _(t):
	g, h = t.pair()
	HOST.ip('route', 'add', 'unreachable', '203.0.113.0/24', 'metric', '1')	# gives EHOSTUNREACH, see N-105
	HOST.ip('route', 'add', 'throw', '192.0.2.0/24')
	HOST.ip('route', 'del', 'default')
	try:
		tap.same(connect_error(g, '192.0.2.1', 80), 'ENETUNREACH', 'connect')
	finally:
		HOST.ip('route', 'del', 'unreachable', '203.0.113.0/24')
		HOST.ip('route', 'del', 'throw', '192.0.2.0/24')
		HOST.ip('route', 'add', 'default', 'via', OUTSIDE4)


@test('N-104', 'EPERM and EACCES of the host\'s connect are ENETUNREACH at once')
def _(t):
	g, h = t.pair()
	HOST.ip('route', 'add', 'prohibit', '203.0.113.0/24')
	HOST.run('nft', 'add table ip gate; add chain ip gate output { type filter hook output priority 0; }; '
		'add rule ip gate output tcp dport 7777 drop')
	try:
		tap.same(connect_error(g, '203.0.113.1', 80), 'ENETUNREACH', 'a prohibited route (EACCES)')
	finally:
		HOST.ip('route', 'del', 'prohibit', '203.0.113.0/24')
		HOST.run('nft', 'delete', 'table', 'ip', 'gate')


@test('N-105', 'EHOSTUNREACH of the host is EHOSTUNREACH at once')
def _(t):
	g, h = t.pair()
	HOST.ip('route', 'add', 'unreachable', '203.0.113.0/24')
	try:
		tap.same(connect_error(g, '203.0.113.1', 80), 'EHOSTUNREACH', 'connect')
	finally:
		HOST.ip('route', 'del', 'unreachable', '203.0.113.0/24')


@test('N-104 N-105', 'IPv6 without a route is unreachable at once')
def _(t):
	g, h = guest6(t)
	HOST.ip('-6', 'route', 'add', 'unreachable', '2001:db8:99::/64')
	try:
		tap.has(('ENETUNREACH', 'EHOSTUNREACH'), connect_error(g, '2001:db8:99::1', 80), 'connect')
	finally:
		HOST.ip('-6', 'route', 'del', 'unreachable', '2001:db8:99::/64')


@test('N-106', 'a failure that comes later is EHOSTUNREACH', ours='the stack sends a FIN, and the guest times out')
def _(t):
	g, h = t.pair()
	tap.same(connect_error(g, '198.51.100.200', 80, 5), 'EHOSTUNREACH', 'connect to where no neighbour answers')


@test('N-107', 'a silent peer is silence, no reset within the first six seconds', modes=['user'])
def _(t):
	g, h = t.pair()
	OUTSIDE.run('nft', 'add table ip gate; add chain ip gate input { type filter hook input priority 0; }; '
		'add rule ip gate input tcp dport 7777 drop')
	try:
		tap.same(connect_error(g, OUTSIDE4, 7777, 6), 'timeout', 'connect')
	finally:
		OUTSIDE.run('nft', 'delete', 'table', 'ip', 'gate')


@test('N-108', 'a half-close by the guest is a half-close, and the other direction goes on', modes=ALL)
def _(t):
	c, s, g = pair(t)
	c.sendall(b'request')
	c.shutdown(socket.SHUT_WR)
	tap.same(helperlab.read_all(s), b'request', 'request to its end')
	answer = os.urandom(300000)
	sender = threading.Thread(target=lambda: (s.sendall(answer), s.close()))
	sender.start()
	tap.same(helperlab.read_all(c) == answer, True, 'the whole answer')
	sender.join()


@test('N-108', 'a half-close by the server is a half-close, and the other direction goes on', modes=ALL)
def _(t):
	c, s, g = pair(t)
	s.sendall(b'greeting')
	s.shutdown(socket.SHUT_WR)
	tap.same(helperlab.read_all(c), b'greeting', 'greeting to its end')
	answer = os.urandom(300000)
	sender = threading.Thread(target=lambda: (c.sendall(answer), c.close()))
	sender.start()
	tap.same(helperlab.read_all(s) == answer, True, 'the whole answer')
	sender.join()


@test('N-108', 'simultaneous half-closes end the connection on both sides')
def _(t):
	c, s, g = pair(t)
	c.shutdown(socket.SHUT_WR)
	s.shutdown(socket.SHUT_WR)
	tap.same((c.recv(1), s.recv(1)), (b'', b''), 'ends')


@test('N-109', 'a reset of an established connection is ECONNRESET in the guest')
def _(t):
	c, s, g = pair(t)
	c.sendall(b'x')
	s.recv(1)
	s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
	s.close()
	tap.true(resets(c), 'an ordinary end')


@test('N-110', 'a reset by the guest reaches the server: as the end of the stream through the stack, as a reset where kernels talk')
def _(t):
	c, s, g = pair(t)
	c.sendall(b'x')
	s.recv(1)
	c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
	c.close()
	tap.same(resets(s), t.spliced, 'reset')


@test('N-111', 'urgent data passes both ways')
def _(t):
	c, s, g = pair(t)
	for a, b in ((c, s), (s, c)):
		a.sendall(b'before')
		tap.same(b.recv(6), b'before', 'bytes before')
		a.send(b'!', socket.MSG_OOB)
		tap.true(select.select([], [], [b], 3)[2], 'no urgent data')
		tap.same(tap.until(lambda: urgent(b), 'the urgent byte is there'), b'!', 'urgent byte')
		a.sendall(b'after')
		tap.same(b.recv(5), b'after', 'bytes after')


@test('N-112', 'the server sees no delay: small writes are sent at once', modes=['user'])
def _(t):
	c, s, g = pair(t)
	for n in range(50):
		c.sendall(b'a')
		tap.same(s.recv(1), b'a', 'request')
		s.sendall(b'b')
		tap.same(c.recv(1), b'b', 'answer')


@test('N-112', 'a receiver that stops stops the sender, and nothing is lost when it goes on')
def _(t):
	for reverse in (False, True):
		c, s, g = pair(t)
		a, b = (s, c) if reverse else (c, s)
		a.setblocking(False)
		sent = 0
		block = os.urandom(1 << 20)
		while sent < 64 << 20:
			try:
				sent += a.send(block[sent % len(block):])
			except BlockingIOError:
				if not select.select([], [a], [], 0.5)[1]:
					break
		tap.true(sent < 64 << 20, 'there is no bound on what the helper takes')
		a.setblocking(True)
		a.shutdown(socket.SHUT_WR)
		got = helperlab.read_all(b)
		tap.same(len(got), sent, 'bytes')
		tap.true(got == (block * (sent // len(block) + 1))[:sent], 'other bytes')


@test('N-112', 'a hundred connections at once all carry their own bytes')
def _(t):
	g, h = t.pair()
	s = t.listen(OUTSIDE, OUTSIDE4)
	ends = []
	for n in range(100):
		ends.append(t.connect(g, OUTSIDE4, s.getsockname()[1]))
	for n, c in enumerate(ends):
		c.sendall(b'number %d\n' % n)
		c.shutdown(socket.SHUT_WR)
	seen = set()
	for _ in ends:
		p, peer = t.accept(s)
		text = helperlab.read_all(p)
		p.sendall(text.upper())
		p.close()
		seen.add(text)
	tap.same(len(seen), 100, 'different texts')
	for n, c in enumerate(ends):
		tap.same(helperlab.read_all(c), b'NUMBER %d\n' % n, 'answer')


@test('N-113', 'UDP: one host port for every destination of a guest\'s socket, and anyone may answer it')
def _(t):
	g, h = t.pair()
	first, second, third = (t.udp(OUTSIDE, OUTSIDE4, 0) for _ in range(3))
	c = t.udp(g, '0.0.0.0')
	peers = set()
	for u in (first, second):
		c.sendto(b'q', u.getsockname())
		data, peer = u.recvfrom(100)
		peers.add(peer)
	tap.same(len(peers), 1, 'host addresses and ports used')
	third.sendto(b'from a stranger', peers.pop())
	tap.same(c.recvfrom(100), (b'from a stranger', third.getsockname()), 'datagram and source')


@test('N-113', 'UDP: replies of the loopback alias come from the gateway')
def _(t):
	g, h = t.pair()
	u = t.udp(HOST, '127.0.0.1', 0)
	c = t.udp(g, '0.0.0.0')
	c.sendto(b'q', ('10.0.2.2', u.getsockname()[1]))
	_, peer = u.recvfrom(100)
	u.sendto(b'a', peer)
	tap.same(c.recvfrom(100), (b'a', ('10.0.2.2', u.getsockname()[1])), 'datagram and source')


@test('N-113', 'UDP: datagrams from empty to large, whole, both ways, at MTU 1500 and 65520')
def _(t):
	for mtu in (1500, 65520):
		g = t.guest()
		h = t.start(g, '--mtu=%d' % mtu)
		u = t.udp(OUTSIDE, OUTSIDE4, 0)
		c = t.udp(g, '0.0.0.0')
		for size in (1, 1472, 1473, 9000, 30000, 60000):
			data = os.urandom(size)
			peer = carried(c, data, u.getsockname(), u)
			tap.same(carried(u, data, peer, c), u.getsockname(), 'source of %d bytes inwards at MTU %d' % (size, mtu))
		h.close()


@test('N-113 N-263', 'UDP: an empty datagram does no harm')
def _(t):
	g, h = t.pair()
	u = t.udp(OUTSIDE, OUTSIDE4, 0)
	c = t.udp(g, '0.0.0.0')
	c.connect(u.getsockname())
	c.send(b'')
	c.send(b'next')
	tap.until(lambda: u.recv(100) == b'next', 'the next datagram')


@test('N-113', 'UDP over IPv6')
def _(t):
	g, h = guest6(t)
	u = t.udp(OUTSIDE, OUTSIDE6, 0)
	c = t.udp(g, '::')
	c.sendto(b'q' * 1000, u.getsockname()[:2])
	data, peer = u.recvfrom(4000)
	u.sendto(data, peer)
	data, peer = c.recvfrom(4000)
	tap.same((data, peer[:2]), (b'q' * 1000, u.getsockname()[:2]), 'answer and its source')


@test('N-114', 'a UDP send error becomes net unreachable')
def _(t):
	g, h = t.pair()
	HOST.ip('route', 'add', 'unreachable', '203.0.113.0/24')
	try:
		watch = t.own(g.packets('tap0'))
		c = t.udp(g)
		c.sendto(b'x', ('203.0.113.1', 9))
		icmp = frames.receive(watch, lambda p: p.proto == 1)
		tap.true(icmp, 'no ICMP')
		tap.same(tuple(icmp.payload[:2]), (3, 0), 'type and code')
	finally:
		HOST.ip('route', 'del', 'unreachable', '203.0.113.0/24')


@test('N-101', 'other IP protocols are dropped')
def _(t):
	g, h = t.pair()
	watch = t.own(OUTSIDE.packets('wan'))
	raw = t.own(g.socket(socket.AF_INET, socket.SOCK_RAW, 132))
	raw.sendto(b'not for the world', (OUTSIDE4, 0))
	c = t.udp(g)
	c.sendto(b'afterwards', (OUTSIDE4, 9))
	first = frames.receive(watch, lambda p: p.kind == frames.IPV4)
	tap.same(first.proto, 17, 'protocol of the first packet outside')


@test('N-144', 'the link goes down and up again, and connections go on', deadline=30)
def _(t):
	c, s, g = pair(t)
	g.ip('link', 'set', 'tap0', 'down')
	s.sendall(b'while it was down')
	g.ip('link', 'set', 'tap0', 'up')
	g.ip('route', 'replace', 'default', 'via', '10.0.2.2')
	c.settimeout(12)
	c.sendall(b'from the guest')
	s.settimeout(12)
	tap.same(s.recv(100), b'from the guest', 'bytes')
	tap.same(c.recv(100), b'while it was down', 'bytes')
	c2 = t.through(g, t.listen(OUTSIDE, OUTSIDE4), OUTSIDE4)


def again(t, g, listener, port):
	"""A connection from this very port of the guest."""
	if not t.spliced:
		raise tap.Skip('libslirp refuses the first segment of the second connection')
	c = t.own(g.connect(OUTSIDE4, listener.getsockname()[1], source=('0.0.0.0', port)))
	p, _ = t.accept(listener)
	c.sendall(b'new')
	tap.same(p.recv(10), b'new', 'bytes of the next connection')
	return c, p


@test('N-101 N-110', 'the guest uses its ports again for a connection that it has forgotten half-closed: what it had said arrives')
def _(t):
	g, h = t.pair()
	listener = t.listen(OUTSIDE, OUTSIDE4)
	for n in range(20):
		port = 20000 + n
		c, p = again(t, g, listener, port)
		c.sendall(b'last words')
		c.shutdown(socket.SHUT_WR)
		c.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)		# closed so, it is forgotten without a segment
		c.close()
		again(t, g, listener, port)
		tap.same(p.recv(20), b'last words', 'bytes of the first connection')


@test('N-101 N-110', 'the guest uses its ports again at once after an end in good order')
def _(t):
	g, h = t.pair()
	listener = t.listen(OUTSIDE, OUTSIDE4)
	for _ in range(200):
		c, p = again(t, g, listener, 20000)
		p.shutdown(socket.SHUT_WR)		# first: the guest has no TIME_WAIT
		tap.same(c.recv(10), b'', 'end of stream')
		c.sendall(b'last words')
		c.close()
		got = b''
		while len(got) < 10:
			piece = p.recv(20)
			tap.true(piece, 'end of stream after %r' % got)
			got += piece
		tap.same((got, p.recv(10)), (b'last words', b''), 'bytes and end')
		p.close()


helperlab.main(both_paths=True)
