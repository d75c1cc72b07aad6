#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-115 to N-122: the way to the host's loopback, and the source address of what leaves the host."""
import os
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import frames
import helperlab
import tap
from helperlab import ALL, connect_error, forward, free_port
from netlab import HOST, HOST4, HOST4_SECOND, HOST6, HOST6_SECOND, OUTSIDE, OUTSIDE4, OUTSIDE6
from tap import test


def six(t, *options):
	g = t.guest()
	g.sysctl('net.ipv6.conf.default.accept_dad', 0)
	h = t.start(g, '--enable-ipv6', *options)
	tap.until(lambda: g.addresses('tap0', 'inet6', 'global') and
		[r for r in g.routes('-6') if r['dst'] == 'default'], 'IPv6 in the guest')
	return g, h


def arrives(t, guest, to, at, address, seconds=5):
	"""A datagram to (@to, port) arrives at @address: its source, or None after @seconds."""
	u = t.udp(at, address, 0)
	u.settimeout(seconds)
	t.udp(guest, '::' if ':' in to else '0.0.0.0').sendto(b'x', (to, u.getsockname()[1]))
	try:
		return u.recvfrom(10)[1]
	except TimeoutError:
		return None


@test('N-115', 'the gateway address is the host\'s 127.0.0.1, and the banner warns of it', modes=ALL)
def _(t):
	g, h = t.pair()
	s = t.listen(HOST, '127.0.0.1')
	c, p, peer = t.through(g, s)
	tap.same(peer[0], '127.0.0.1', 'peer that the service sees')
	tap.same(c.getpeername()[0], '10.0.2.2', 'peer that the guest sees')
	tap.true(arrives(t, g, '10.0.2.2', HOST, '127.0.0.1'), 'no datagram')
	h.kill()


@test('N-115 N-203', 'the banner warns of the open host loopback, and not of a closed one')
def _(t):
	for options, warned in (([], True), (['--disable-host-loopback'], False)):
		g = t.guest()
		h = t.start(g, *options, exit_fd=True)
		h.close_exit()
		h.reap()
		tap.same('--disable-host-loopback' in h.out(), warned, 'warning with %r' % options)


@test('N-115', 'the limited broadcast address is the host\'s loopback too')
def _(t):
	g, h = t.pair()
	u = t.udp(HOST, '127.0.0.1', 0)
	c = t.udp(g)
	c.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
	c.sendto(b'x', ('255.255.255.255', u.getsockname()[1]))
	tap.same(u.recv(10), b'x', 'datagram')


@test('N-115', 'over IPv6 fd00::2 is the host\'s ::1')
def _(t):
	g, h = six(t)
	s = t.listen(HOST, '::1')
	c, p, peer = t.through(g, s, 'fd00::2')
	tap.same((peer[0], c.getpeername()[0]), ('::1', 'fd00::2'), 'peers')
	tap.true(arrives(t, g, 'fd00::2', HOST, '::1'), 'no datagram')


@test('N-101 N-115', 'a guest that has or chooses only its link-local address reaches the same, with data both ways', modes=ALL)
def _(t):
	g, h = six(t)
	own = g.addresses('tap0', 'inet6', 'link')[0]
	scope = g.link('tap0')['ifindex']
	for at, listen, to in ((OUTSIDE, OUTSIDE6, OUTSIDE6), (HOST, '::1', 'fd00::2')):
		s = t.listen(at, listen)
		# a guest does so by itself while its other address is still tentative
		c = t.own(g.socket(socket.AF_INET6))
		c.settimeout(5)
		c.bind((own, 0, 0, scope))
		c.connect((to, s.getsockname()[1]))
		p, peer = t.accept(s)
		for a, b in ((c, p), (p, c)):
			data = os.urandom(300000)
			sender = threading.Thread(target=a.sendall, args=(data,))
			sender.start()
			got = b''
			while len(got) < len(data):
				piece = b.recv(65536)
				tap.true(piece, 'end of stream after %d bytes' % len(got))
				got += piece
			sender.join()
			tap.true(got == data, 'bytes differ')
	tap.same(connect_error(g, 'fd00::2', free_port()), 'ECONNREFUSED', 'connect to a closed port')


@test('N-17 N-116', '--disable-host-loopback answers net unreachable at once, by IPv4 and IPv6', modes=ALL)
def _(t):
	g, h = six(t, '--disable-host-loopback')
	port = t.listen(HOST, '127.0.0.1').getsockname()[1]
	tap.same(connect_error(g, '10.0.2.2', port), 'ENETUNREACH', 'connect to the gateway')
	tap.same(connect_error(g, '10.0.2.2', free_port()), 'ENETUNREACH', 'connect to a closed port of it')
	port = t.listen(HOST, '::1').getsockname()[1]
	tap.same(connect_error(g, 'fd00::2', port), 'ENETUNREACH', 'connect to fd00::2')
	tap.same(arrives(t, g, '10.0.2.2', HOST, '127.0.0.1', 0.4), None, 'datagram to the gateway')
	tap.same(arrives(t, g, 'fd00::2', HOST, '::1', 0.4), None, 'datagram to fd00::2')


@test('N-116', 'the text that the tests of the reference look for is what a client prints')
def _(t):
	g, h = t.pair('--disable-host-loopback')
	text = g.run('ncat', '-v', '10.0.2.2', '80', check=False)
	tap.has(text, 'Network is unreachable', 'ncat')


@test('N-116', 'a UDP datagram to the closed loopback is answered by ICMP net unreachable')
def _(t):
	g, h = t.pair('--disable-host-loopback')
	watch = t.own(g.packets('tap0'))
	t.udp(g).sendto(b'x', ('10.0.2.2', 9))
	icmp = frames.receive(watch, lambda p: p.proto == 1)
	tap.same(tuple(icmp.payload[:2]), (3, 0), 'type and code')


@test('N-115 N-116', '127.0.0.1 and ::1 of the host are not reached by any other address of the guest')
def _(t):
	g, h = six(t)
	s = t.listen(HOST, '127.0.0.1')
	port = s.getsockname()[1]
	g.ip('route', 'add', '127.0.0.2/32', 'dev', 'tap0', check=False)
	for address in ('10.0.2.4', '10.0.2.15', '10.0.2.255'):
		tap.true(connect_error(g, address, port, 0.7) != '', 'connected by ' + address)
	s.settimeout(0.1)
	try:
		s.accept()
		tap.fail('a connection arrived')
	except TimeoutError:
		pass


@test('N-117', 'closing the loopback leaves the host\'s other addresses open')
def _(t):
	g, h = t.pair('--disable-host-loopback')
	t.through(g, t.listen(HOST, '0.0.0.0'), HOST4)
	t.through(g, t.listen(HOST, HOST4_SECOND), HOST4_SECOND)


@test('N-118', 'a guest reaches its own forward through the gateway address, as the gateway')
def _(t):
	g, h, path = t.api_pair()
	port = free_port()
	forward(path, port, 8080)
	s = t.listen(g, '0.0.0.0', 8080)
	c = t.connect(g, '10.0.2.2', port)
	p, peer = t.accept(s)
	tap.same(peer[0], '10.0.2.2', 'peer')
	c.sendall(b'round')
	tap.same(p.recv(10), b'round', 'bytes')


@test('N-22 N-119', '--outbound-addr is the source of TCP, UDP and of what goes to the gateway', modes=ALL)
def _(t):
	g, h = t.pair('--outbound-addr=' + HOST4_SECOND)
	_, _, peer = t.through(g, t.listen(OUTSIDE, OUTSIDE4), OUTSIDE4)
	tap.same(peer[0], HOST4_SECOND, 'TCP source')
	tap.same(arrives(t, g, OUTSIDE4, OUTSIDE, OUTSIDE4)[0], HOST4_SECOND, 'UDP source')
	_, _, peer = t.through(g, t.listen(HOST, '127.0.0.1'))
	tap.same(peer[0], HOST4_SECOND, 'source at the host\'s loopback')


@test('N-119', '--outbound-addr is the source of pings')
def _(t):
	g, h = t.pair('--outbound-addr=' + HOST4_SECOND)
	watch = t.own(OUTSIDE.packets('wan'))
	g.run('busybox', 'ping', '-c', '1', '-W', '2', OUTSIDE4)
	echo = frames.receive(watch, lambda p: p.proto == 1 and p.payload[0] == 8)
	tap.same(echo.saddr, HOST4_SECOND, 'source')


@test('N-119', 'forwards do not care for --outbound-addr')
def _(t):
	g, h, path = t.api_pair('--outbound-addr=' + HOST4_SECOND)
	port = free_port()
	forward(path, port, 80)
	s = t.listen(g, '0.0.0.0', 80)
	c = t.connect(OUTSIDE, HOST4, port)
	p, peer = t.accept(s)
	tap.same(peer[0], OUTSIDE4, 'source')


@test('N-120', 'an interface name is taken for its first IPv4 address, once')
def _(t):
	g, h = t.pair('--outbound-addr=wan')
	_, _, peer = t.through(g, t.listen(OUTSIDE, OUTSIDE4), OUTSIDE4)
	tap.same(peer[0], HOST4, 'TCP source')
	g = t.guest()
	t.start(g, '--outbound-addr=lo')
	_, _, peer = t.through(g, t.listen(HOST, '127.0.0.1'))
	tap.same(peer[0], '127.0.0.1', 'source with lo')


@test('N-121', 'an address that the host does not have: starts, connections are unreachable')
def _(t):
	g, h = t.pair('--outbound-addr=203.0.113.9')
	t.listen(OUTSIDE, OUTSIDE4, 80)
	tap.same(connect_error(g, OUTSIDE4, 80), 'ENETUNREACH', 'connect')
	tap.same(arrives(t, g, OUTSIDE4, OUTSIDE, OUTSIDE4, 0.4), None, 'datagram')


@test('N-121', 'an address that the host does not have is said on stderr', ours='the reference says nothing')
def _(t):
	g, h = t.pair('--outbound-addr=203.0.113.9')
	tap.has(h.err(), '203.0.113.9', 'stderr')


@test('N-23 N-122', '--outbound-addr6 is the source of IPv6', modes=ALL)
def _(t):
	g, h = six(t, '--outbound-addr6=' + HOST6_SECOND)
	_, _, peer = t.through(g, t.listen(OUTSIDE, OUTSIDE6), OUTSIDE6)
	tap.same(peer[0], HOST6_SECOND, 'TCP source')
	tap.same(arrives(t, g, OUTSIDE6, OUTSIDE, OUTSIDE6)[0], HOST6_SECOND, 'UDP source')


@test('N-122', '--outbound-addr6 takes an interface name', ours='the reference looks up that of --outbound-addr')
def _(t):
	g, h = six(t, '--outbound-addr6=wan')
	_, _, peer = t.through(g, t.listen(OUTSIDE, OUTSIDE6), OUTSIDE6)
	tap.true(peer[0] in (HOST6, HOST6_SECOND), 'source %s' % peer[0])


helperlab.main(both_paths=True)
