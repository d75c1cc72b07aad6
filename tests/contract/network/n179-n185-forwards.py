#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-179 to N-185: what goes through forwarded ports."""
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import tap
from helperlab import ALL, api, carried, connect_error, forward, free_port, read_all
from netlab import HOST, HOST4, OUTSIDE, OUTSIDE4
from tap import test


def published(t, *options, proto='tcp', **how):
	"""A guest with a service and a forward to it: guest, service, host port, API path."""
	g, h, path = t.api_pair(*options)
	port = free_port()
	forward(path, port, 8080, proto, **how)
	service = t.listen(g, '0.0.0.0', 8080) if proto == 'tcp' else t.udp(g, '0.0.0.0', 8080)
	return g, service, port, path


@test('N-179', 'TCP: a client from another machine is seen with its address and port', modes=ALL)
def _(t):
	g, s, port, _ = published(t)
	for n in range(3):
		c = t.connect(OUTSIDE, HOST4, port)
		p, peer = t.accept(s)
		tap.same(peer, c.getsockname(), 'peer')
		c.sendall(b'request')
		tap.same(p.recv(100), b'request', 'bytes')
		p.sendall(b'answer')
		tap.same(c.recv(100), b'answer', 'bytes')


@test('N-179', 'TCP: a client of the host\'s own address is seen with that address')
def _(t):
	g, s, port, _ = published(t)
	c = t.connect(HOST, HOST4, port)
	p, peer = t.accept(s)
	tap.same(peer, c.getsockname(), 'peer')


@test('N-179', 'TCP: a client from the host\'s loopback is seen as the gateway', modes=ALL)
def _(t):
	for cidr, gateway in (('10.0.2.0/24', '10.0.2.2'), ('10.41.0.0/16', '10.41.0.2')):
		g, s, port, _ = published(t, '--cidr=' + cidr)
		for address in ('127.0.0.1', '127.0.0.9'):
			c = t.connect(HOST, address, port)
			p, peer = t.accept(s)
			tap.same(peer[0], gateway, 'peer')
			p.sendall(b'x')
			tap.same(c.recv(1), b'x', 'byte')
		t.helpers[-1].close()


@test('N-179', 'forwards do not care for --disable-host-loopback')
def _(t):
	g, s, port, _ = published(t, '--disable-host-loopback')
	c = t.connect(HOST, '127.0.0.1', port)
	p, peer = t.accept(s)
	tap.same(peer[0], '10.0.2.2', 'peer')


@test('N-179 N-184', 'UDP: clients are seen with their address, and told apart in the answers', modes=ALL)
def _(t):
	for at, address, seen in ((OUTSIDE, HOST4, OUTSIDE4), (HOST, '127.0.0.1', '10.0.2.2')):
		g, u, port, _ = published(t, proto='udp')
		told_apart(t, u, [(t.udp(at, '0.0.0.0'), (address, port), seen) for _ in range(3)])
		t.helpers[-1].close()


@test('N-179 N-184', 'UDP: clients on the loopback and elsewhere may take turns',
	ours='libslirp 4.7 loses what comes from the loopback after an answer elsewhere')
def _(t):
	g, u, port, _ = published(t, proto='udp')
	elsewhere, local = ((t.udp(OUTSIDE, '0.0.0.0'), (HOST4, port), OUTSIDE4),
		(t.udp(HOST, '0.0.0.0'), ('127.0.0.1', port), '10.0.2.2'))
	told_apart(t, u, [elsewhere, local])
	told_apart(t, u, [local, elsewhere])


def told_apart(t, service, clients):
	"""Each of @clients (socket, where to send, how it is seen) has an exchange; answers in the order of requests."""
	peers = []
	for n, (c, to, seen) in enumerate(clients):
		peer = carried(c, b'from %d' % n, to, service)
		tap.same(peer[0], seen, 'source')
		peers.append(peer)
		tap.same(carried(service, b'early', peer, c), to, 'source of the answer')
	for n, peer in enumerate(peers):
		tap.same(carried(service, b'to %d' % n, peer, clients[n][0]), clients[n][1], 'source of the answer')


@test('N-180', 'a service on the guest\'s own loopback is not reached')
def _(t):
	g, h, path = t.api_pair()
	port = free_port()
	forward(path, port, 8080)
	s = t.listen(g, '127.0.0.1', 8080)
	s.settimeout(0.5)
	try:
		c = t.connect(HOST, '127.0.0.1', port)
		c.sendall(b'x')
		tap.true(read_all(c) == b'', 'an answer')
	except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
		pass
	try:
		s.accept()
		tap.fail('the service was reached')
	except TimeoutError:
		pass


@test('N-170 N-180', 'a rule reaches the guest address that it names')
def _(t):
	g, h, path = t.api_pair()
	g.ip('addr', 'add', '10.0.2.50/24', 'dev', 'tap0')
	port = free_port()
	forward(path, port, 8080, guest_addr='10.0.2.50')
	s = t.listen(g, '10.0.2.50', 8080)
	c = t.connect(HOST, '127.0.0.1', port)
	p, _ = t.accept(s)


@test('N-181', 'without a listener in the guest the client is refused or sees an end at once')
def _(t):
	g, h, path = t.api_pair()
	port = free_port()
	forward(path, port, 8080)
	try:
		c = t.connect(HOST, '127.0.0.1', port)
		tap.same(read_all(c), b'', 'bytes')
	except (ConnectionRefusedError, ConnectionResetError):
		pass


@test('N-182', 'while a rule holds 0.0.0.0 nobody else can bind the port, on any address')
def _(t):
	g, h, path = t.api_pair()
	port = free_port()
	forward(path, port, 8080)
	for address in ('0.0.0.0', '127.0.0.1', HOST4):
		try:
			t.listen(HOST, address, port)
			tap.fail('bound on ' + address)
		except OSError:
			pass


@test('N-182', 'the port can be bound again at once although connections of it are in TIME_WAIT')
def _(t):
	g, s, port, path = published(t)
	for _ in range(5):
		c = t.connect(HOST, '127.0.0.1', port)
		p, _ = t.accept(s)
		p.close()
		tap.same(c.recv(1), b'', 'end')
		c.close()
	t.helpers[-1].kill()
	t.start(g, '--api-socket=' + path)
	forward(path, port, 8080)


@test('N-183', 'sixty simultaneous connects all succeed without waiting for a retransmission',
	ours='the reference has a backlog of 1')
def _(t):
	import select
	g, s, port, _ = published(t)
	clients = []
	for _ in range(60):
		c = t.own(OUTSIDE.socket())
		c.setblocking(False)
		c.connect_ex((HOST4, port))
		clients.append(c)
	ready = set()
	tap.until(lambda: ready.update(select.select([], clients, [], 0.05)[1]) or len(ready) == 60, 'all are connected', 0.9)
	for _ in clients:
		t.accept(s)


@test('N-184', 'UDP: datagrams up to 60 KB, both ways')
def _(t):
	g, u, port, _ = published(t, '--mtu=1500', proto='udp')
	c = t.udp(OUTSIDE, '0.0.0.0')
	for size in (1, 1472, 1473, 20000, 60000):
		data = os.urandom(size)
		peer = carried(c, data, (HOST4, port), u)
		tap.same(carried(u, data, peer, c), (HOST4, port), 'source of %d bytes outwards' % size)


@test('N-185', 'a privileged port needs real root, also in the sandbox', modes=ALL)
def _(t):
	g = t.guest()
	path = t.path('api.sock')
	t.start(g, '--api-socket=' + path, '--enable-sandbox', '--enable-seccomp',
		kind='path' if t.mode == helperlab.ROOTLESS else 'pid')
	answer = api(path, 'add_hostfwd', proto='tcp', host_port=81, guest_port=80)
	tap.same('return' in answer, t.mode == 'root', 'success')
	if t.mode == 'root':
		s = t.listen(g, '0.0.0.0', 80)
		t.connect(HOST, '127.0.0.1', 81)
		t.accept(s)


@test('N-108 N-179', 'half-closes pass through a forward in both directions')
def _(t):
	for guest_first in (True, False):
		g, s, port, _ = published(t)
		c = t.connect(OUTSIDE, HOST4, port)
		p, _ = t.accept(s)
		a, b = (p, c) if guest_first else (c, p)
		a.sendall(b'last words')
		a.shutdown(socket.SHUT_WR)
		tap.same(read_all(b), b'last words', 'bytes to the end')
		b.sendall(b'answer')
		b.close()
		tap.same(read_all(a), b'answer', 'answer to the end')
		t.helpers[-1].close()


@test('N-109 N-179', 'a client that resets is seen to be gone by the service')
def _(t):
	g, s, port, _ = published(t)
	c = t.connect(OUTSIDE, HOST4, port)
	p, _ = t.accept(s)
	c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
	c.close()
	tap.same(read_all(p), b'', 'bytes')


@test('N-179', 'bulk data passes a forward whole, both ways')
def _(t):
	import threading
	g, s, port, _ = published(t, '--mtu=65520')
	c = t.connect(OUTSIDE, HOST4, port)
	p, _ = t.accept(s)
	data = os.urandom(4 << 20)
	for a, b in ((c, p), (p, c)):
		sender = threading.Thread(target=lambda: (a.sendall(data), a.shutdown(socket.SHUT_WR)))
		sender.start()
		tap.same(read_all(b) == data, True, 'the same bytes')
		sender.join()


helperlab.main(both_paths=True)
