#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-94 to N-100: DNS over UDP and TCP, and whose name server it is."""
import os
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import netlab
import tap
from helperlab import ALL, connect_error
from netlab import HOST, OUTSIDE, OUTSIDE4, OUTSIDE6
from tap import test

DNS4, DNS6 = '10.0.2.3', 'fd00::3'


def query(name=b'example', ident=0x4242):
	return struct.pack('!HHHHHH', ident, 0x0100, 1, 0, 0, 0) + bytes([len(name)]) + name + b'\0' + struct.pack('!HH', 1, 1)


def server(t, at, address):
	"""The two sockets of a resolver on port 53."""
	return t.udp(at, address, 53), t.listen(at, address, 53)


def relayed(t, guest, udp, tcp, dns=DNS4, bytes_=b'any payload at all'):
	"""UDP and TCP to the DNS address arrive at these two sockets, and the answers come from the DNS address."""
	c = t.udp(guest, '::' if ':' in dns else '0.0.0.0', 0)
	c.sendto(bytes_, (dns, 53))
	data, peer = udp.recvfrom(4096)
	tap.same(data, bytes_, 'datagram')
	udp.sendto(b'answer ' + data, peer)
	data, peer = c.recvfrom(4096)
	tap.same((data, peer[:2]), (b'answer ' + bytes_, (dns, 53)), 'answer and its sender')
	c = t.connect(guest, dns, 53)
	s, peer = t.accept(tcp)
	c.sendall(bytes_)
	tap.same(s.recv(4096), bytes_, 'request by TCP')
	s.sendall(b'answer')
	tap.same(c.recv(4096), b'answer', 'answer by TCP')


@test('N-94 N-101', 'UDP and TCP to the DNS address go to the first name server, whatever they say',
	modes=ALL)
def _(t):
	netlab.resolv_conf(OUTSIDE4, '198.51.100.77')
	udp, tcp = server(t, OUTSIDE, OUTSIDE4)
	g, h = t.pair()
	relayed(t, g, udp, tcp)
	relayed(t, g, udp, tcp, bytes_=query())


@test('N-94', 'a large answer by UDP comes through')
def _(t):
	netlab.resolv_conf(OUTSIDE4)
	udp = t.udp(OUTSIDE, OUTSIDE4, 53)
	g, h = t.pair()
	c = t.udp(g)
	c.sendto(b'q', (DNS4, 53))
	_, peer = udp.recvfrom(100)
	answer = os.urandom(4000)
	udp.sendto(answer, peer)
	tap.same(c.recv(65536), answer, 'answer')


@test('N-95 N-117', 'a name server on the host\'s loopback is reached, also with --disable-host-loopback')
def _(t):
	for options in ([], ['--disable-host-loopback']):
		for address in ('127.0.0.1', '127.0.0.53'):
			netlab.resolv_conf(address)
			udp, tcp = server(t, HOST, address)
			g = t.guest()
			h = t.start(g, *options)
			relayed(t, g, udp, tcp)
			h.close()
			udp.close()
			tcp.close()


@test('N-94', 'other ports of the DNS address are unreachable at once')
def _(t):
	netlab.resolv_conf(OUTSIDE4)
	t.listen(OUTSIDE, OUTSIDE4, 54)
	g, h = t.pair()
	tap.same(connect_error(g, DNS4, 54), 'ENETUNREACH', 'connect')


@test('N-94 N-80', 'over IPv6 the first IPv6 name server answers at fd00::3')
def _(t):
	for address, at in ((OUTSIDE6, OUTSIDE), ('::1', HOST)):
		netlab.resolv_conf('127.0.0.1', address)
		udp, tcp = server(t, at, address)
		g = t.guest()
		g.sysctl('net.ipv6.conf.default.accept_dad', 0)
		h = t.start(g, '--enable-ipv6', '--disable-host-loopback')
		tap.until(lambda: g.addresses('tap0', 'inet6', 'global'), 'a global address')
		relayed(t, g, udp, tcp, DNS6)
		h.close()
		udp.close()
		tcp.close()


def changes(t, *options, rename):
	servers = ('127.0.0.1', '127.0.0.2', OUTSIDE4)
	netlab.resolv_conf(servers[0])
	sockets = [t.udp(OUTSIDE if s == OUTSIDE4 else HOST, s, 53) for s in servers]
	g = t.guest()
	t.start(g, *options, kind='pid')
	# each server is told of by a text of another length: the identity that is compared has only whole seconds
	for n, s in enumerate(sockets):
		netlab.resolv_conf(text='# %s\nnameserver %s\n' % ('x' * n, servers[n]), rename=rename)
		s.settimeout(0.25)
		tap.until(lambda: _reaches(t, g, s), 'queries go to %s' % servers[n], 4)


def _reaches(t, guest, server_socket):
	c = t.udp(guest)	# a new one each time: a session keeps the server that it began with
	c.sendto(b'q', (DNS4, 53))
	try:
		server_socket.recv(100)
		return True
	except TimeoutError:
		return False


@test('N-96', 'a resolv.conf replaced by rename is followed')
def _(t):
	changes(t, rename=True)


@test('N-96', 'a resolv.conf written in place is followed')
def _(t):
	changes(t, rename=False)


@test('N-96 N-194', 'a changed resolv.conf is followed inside the sandbox', deadline=30)
def _(t):
	changes(t, '--enable-sandbox', '--enable-seccomp', rename=True)


@test('N-96 N-191', 'a resolv.conf that is a link into /run is followed inside the sandbox')
def _(t):
	path = '/run/resolver/stub.conf'
	os.makedirs('/run/resolver', exist_ok=True)
	with open(path, 'w') as f:
		f.write('nameserver 127.0.0.1\n')
	os.unlink('/etc/resolv.conf')
	os.symlink('../run/resolver/stub.conf', '/etc/resolv.conf')
	first, second = t.udp(HOST, '127.0.0.1', 53), t.udp(HOST, '127.0.0.2', 53)
	g = t.guest()
	t.start(g, '--enable-sandbox', kind='pid')
	for s, address in ((first, '127.0.0.1'), (second, '127.0.0.2')):
		with open(path + '.new', 'w') as f:
			f.write('# %s\nnameserver %s\n' % (address * 2 if s is second else '', address))
		os.rename(path + '.new', path)
		s.settimeout(0.25)
		tap.until(lambda: _reaches(t, g, s), 'queries go to ' + address, 4)


@test('N-97', 'only lines that begin with the word, and only the first of a family')
def _(t):
	good = t.udp(HOST, '127.0.0.2', 53)
	bad = t.udp(HOST, '127.0.0.1', 53)
	for text in ('# nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.1\n',
		     ' nameserver 127.0.0.1\nnameserver \t 127.0.0.2\n', 'search a b\noptions ndots:3\nnameserver 127.0.0.2\n',
		     'nameserver ::1\nnameserver 127.0.0.2\n', ';nameserver 127.0.0.1\nnameserver\t127.0.0.2'):
		netlab.resolv_conf(text=text)
		g = t.guest()
		h = t.start(g)
		t.udp(g).sendto(b'q', (DNS4, 53))
		tap.same(good.recv(100), b'q', 'query with %r' % text)
		bad.setblocking(False)
		try:
			bad.recv(100)
			tap.fail('a query went to the wrong server with %r' % text)
		except BlockingIOError:
			pass
		h.close()


@test('N-97', 'there is no second choice when the first name server does not answer')
def _(t):
	netlab.resolv_conf('127.0.0.1', '127.0.0.2')
	second = t.udp(HOST, '127.0.0.2', 53)
	second.settimeout(0.5)
	g, h = t.pair()
	c = t.udp(g)
	for _ in range(3):
		c.sendto(b'q', (DNS4, 53))
	try:
		second.recv(100)
		tap.fail('the second server was asked')
	except TimeoutError:
		pass


@test('N-98', 'without a name server the helper starts, and TCP to the DNS address is unreachable')
def _(t):
	for text in ('', '# nothing\n', 'nameserver fd00:1::1\n'):
		netlab.resolv_conf(text=text)
		g = t.guest()
		h = t.start(g)
		tap.same(connect_error(g, DNS4, 53), 'ENETUNREACH', 'connect with %r' % text)
		h.close()


@test('N-98', 'without a resolv.conf the helper starts and serves everything else')
def _(t):
	os.unlink('/etc/resolv.conf')
	g, h = t.pair()
	tap.same(connect_error(g, DNS4, 53), 'ENETUNREACH', 'connect')
	t.through(g, t.listen())


@test('N-96 N-98', 'a name server that appears later is used')
def _(t):
	netlab.resolv_conf()
	s = t.udp(HOST, '127.0.0.1', 53)
	g, h = t.pair()
	t.udp(g).sendto(b'q', (DNS4, 53))
	netlab.resolv_conf('127.0.0.1')
	s.settimeout(0.25)
	tap.until(lambda: _reaches(t, g, s), 'queries go to the new server', 4)


@test('N-99 N-24', '--disable-dns makes the DNS address an ordinary one')
def _(t):
	netlab.resolv_conf('127.0.0.1')
	udp, tcp = server(t, HOST, '127.0.0.1')
	g, h = t.pair('--disable-dns')
	udp.settimeout(0.3)
	t.udp(g).sendto(b'q', (DNS4, 53))
	try:
		udp.recv(100)
		tap.fail('a query was relayed')
	except TimeoutError:
		pass
	tap.same(connect_error(g, DNS4, 53, 1), 'timeout', 'connect: the real 10.0.2.3 does not answer')
	OUTSIDE.ip('addr', 'add', '10.0.2.3/32', 'dev', 'lo')
	try:
		real = t.listen(OUTSIDE, '10.0.2.3', 53)
		c = t.connect(g, '10.0.2.3', 53)
		t.accept(real)
	finally:
		OUTSIDE.ip('addr', 'del', '10.0.2.3/32', 'dev', 'lo')


@test('N-100', 'a UDP session to port 53 ends after the reply, another one stays', modes=['user'], deadline=40)
def _(t):
	netlab.resolv_conf('127.0.0.1')
	udp = t.udp(HOST, '127.0.0.1', 53)
	other = t.udp(HOST, '127.0.0.1', 5353)
	g, h = t.pair()
	start = helperlab.level(h)
	for n in range(20):
		c = t.udp(g)
		c.sendto(b'q', (DNS4, 53))
		_, peer = udp.recvfrom(100)
		udp.sendto(b'a', peer)
		c.recv(100)
	c = t.udp(g)
	c.sendto(b'q', ('10.0.2.2', 5353))
	_, peer = other.recvfrom(100)
	other.sendto(b'a', peer)
	c.recv(100)
	tap.until(lambda: helperlab.n_fds(h) <= start + 2, 'the twenty sessions are closed', 25, 0.25)
	other.sendto(b'late', peer)
	tap.same(c.recv(100), b'late', 'datagram of the other session')


helperlab.main()
