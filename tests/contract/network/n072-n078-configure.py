#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-72 to N-78: what --configure does to the guest, and what it leaves alone."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import tap
from helperlab import ALL
from tap import test


@test('N-72 N-247', 'at the ready byte lo, link, MTU, address and route are there', modes=ALL)
def _(t):
	g, h = t.pair('--mtu=4000')
	tap.true({'UP', 'LOOPBACK'} <= set(g.link('lo')['flags']), 'lo is not up')
	tap.has(g.addresses('lo'), '127.0.0.1', 'addresses of lo')
	tap.has(g.addresses('lo', 'inet6'), '::1', 'addresses of lo')
	link = g.link('tap0')
	tap.true({'UP', 'LOWER_UP', 'BROADCAST'} <= set(link['flags']), 'flags %r' % link['flags'])
	tap.same(link['mtu'], 4000, 'mtu')
	v4 = [a for a in link['addr_info'] if a['family'] == 'inet']
	tap.same([(a['local'], a['prefixlen'], a['broadcast'], a['scope']) for a in v4],
		[('10.0.2.100', 24, '10.0.2.255', 'global')], 'IPv4 addresses')
	default = [r for r in g.routes() if r['dst'] == 'default']
	tap.same([(r['gateway'], r['dev'], r.get('metric', 0)) for r in default], [('10.0.2.2', 'tap0', 0)], 'default routes')


@test('N-72 N-79', 'address, mask, broadcast and route follow the CIDR')
def _(t):
	for cidr, address, length, last, gateway in (
			('10.0.0.0/8', '10.0.0.100', 8, '10.255.255.255', '10.0.0.2'),
			('192.168.77.128/25', '192.168.77.228', 25, '192.168.77.255', '192.168.77.130'),
			('10.41.0.0/16', '10.41.0.100', 16, '10.41.255.255', '10.41.0.2')):
		g = t.guest()
		h = t.start(g, '--cidr=' + cidr)
		v4 = [a for a in g.link('tap0')['addr_info'] if a['family'] == 'inet']
		tap.same([(a['local'], a['prefixlen'], a['broadcast']) for a in v4], [(address, length, last)], cidr)
		tap.same([r['gateway'] for r in g.routes() if r['dst'] == 'default'], [gateway], 'route with ' + cidr)
		h.close()


@test('N-72', 'a step that fails ends it: status 1, no ready byte, link gone')
def _(t):
	g = t.guest()
	h = t.raw('-c', '--macaddress=01:00:00:00:00:01', *t.target(g), 'tap0', ready=True)
	tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor')
	tap.true(h.err().strip(), 'no word on stderr')
	tap.same(g.link('tap0'), None, 'link')


@test('N-72', 'a route that is taken ends it: status 1, no ready byte, link gone')
def _(t):
	g = t.guest()
	g.ip('link', 'add', 'other', 'type', 'bridge')
	g.ip('addr', 'add', '10.0.2.7/24', 'dev', 'other')
	g.ip('link', 'set', 'other', 'up')
	g.ip('route', 'add', 'default', 'dev', 'other')
	h = t.raw('-c', *t.target(g), 'tap0', ready=True)
	seen = h.read_ready()
	if seen == b'1':		# the other default route is through another device: N-73
		tap.same(len([r for r in g.routes() if r['dst'] == 'default']), 2, 'default routes')
	else:
		tap.same((h.reap(), seen), (1, b''), 'status and ready descriptor')
		tap.same(g.link('tap0'), None, 'link')


@test('N-73 N-228', 'it succeeds on a namespace in use, with lo up and a default route through another device')
def _(t):
	g = t.guest()
	g.ip('link', 'set', 'lo', 'up')
	g.ip('link', 'add', 'podman0', 'type', 'bridge')
	g.ip('addr', 'add', '10.88.0.1/16', 'dev', 'podman0')
	g.ip('link', 'set', 'podman0', 'up')
	g.ip('route', 'add', 'default', 'via', '10.88.0.9', 'metric', '50')
	h = t.start(g)
	tap.same(g.addresses('podman0'), ['10.88.0.1'], 'addresses of the bridge')
	tap.same(sorted(r['dev'] for r in g.routes() if r['dst'] == 'default'), ['podman0', 'tap0'], 'default routes')
	h.kill()
	t.start(g)
	tap.same(g.addresses('tap0'), ['10.0.2.100'], 'address after a second start')


@test('N-74', 'no sysctl, IPv6 address, route, qdisc or firewall rule of the guest is made')
def _(t):
	g = t.guest()
	g.ip('link', 'add', 'probe', 'type', 'bridge')
	seen = lambda: (g.run('sysctl', '-a', '--pattern', r'^net\.(ipv4|ipv6)\.(conf\.(all|default)|ip_forward|tcp_)'),
		g.run('nft', 'list', 'ruleset'), g.run('tc', 'qdisc', 'show', 'dev', 'probe'))
	before = seen()
	t.start(g)
	tap.same(seen(), before, 'sysctls, firewall, qdisc')
	tap.same(g.addresses('tap0', 'inet6', 'global'), [], 'global IPv6 addresses')
	tap.same([r for r in g.routes('-6') if r['dst'] == 'default'], [], 'IPv6 default routes')


@test('N-75', 'the link keeps MULTICAST', ours='the reference replaces the flags')
def _(t):
	g, h = t.pair()
	tap.true('MULTICAST' in g.link('tap0')['flags'], 'no MULTICAST')


@test('N-25 N-76', 'the MAC asked for is the link\'s', modes=ALL)
def _(t):
	g, h = t.pair('--macaddress=0E:D4:18:d9:38:FB')
	tap.has(g.ip('addr', 'show', 'tap0'), 'link/ether 0e:d4:18:d9:38:fb', 'ip addr')


@test('N-76', 'the link-local address is made from the MAC asked for', ours='the reference sets the link up first')
def _(t):
	g = t.guest()
	g.sysctl('net.ipv6.conf.default.accept_dad', 0)
	t.start(g, '--macaddress=02:11:22:33:44:55')
	tap.same(tap.until(lambda: g.addresses('tap0', 'inet6', 'link'), 'a link-local address'),
		['fe80::11:22ff:fe33:4455'], 'link-local address')


@test('N-76', 'without --macaddress two links have different MACs')
def _(t):
	macs = set()
	for _ in range(2):
		g, h = t.pair()
		macs.add(g.link('tap0')['address'])
	tap.same(len(macs), 2, 'different MACs')


@test('N-77', 'without -c the MTU is the stack\'s alone: it sends no larger frame')
def _(t):
	g = t.guest()
	g.ip('tuntap', 'add', 'name', 'tap0', 'mode', 'tap')
	t.start(g, '--mtu=600', configure=False)
	g.ip('link', 'set', 'tap0', 'up')
	g.ip('addr', 'add', '10.0.2.100/24', 'dev', 'tap0')
	tap.same(g.link('tap0')['mtu'], 1500, 'mtu of the link')
	watch = t.own(g.packets('tap0'))
	c, s, _ = t.through(g, t.listen())
	s.sendall(b'x' * 20000)
	got = 0
	while got < 20000:
		got += len(c.recv(65536))
	watch.setblocking(False)
	sizes = []
	try:
		while True:
			frame, where = watch.recvfrom(65536)
			if where[2] != 4:	# not PACKET_OUTGOING: what came from the helper
				sizes.append(len(frame))
	except BlockingIOError:
		pass
	tap.true(sizes and max(sizes) <= 614, 'frame sizes up to %r' % max(sizes or [0]))


@test('N-78', 'the MTUs of the engines work: 1500, 9000, 65520, and the largest, 65521')
def _(t):
	for mtu in (1500, 9000, 65520, 65521):
		g = t.guest()
		h = t.start(g, '--mtu=%d' % mtu)
		tap.same(g.link('tap0')['mtu'], mtu, 'mtu')
		c, s, _ = t.through(g, t.listen())
		for a, b in ((c, s), (s, c)):
			_pump(a, b, 300000)
		h.close()


def _pump(a, b, size):
	"""Send @size bytes from @a to @b without blocking on either."""
	a.setblocking(False)
	sent = got = 0
	block = bytes(range(256)) * 256
	while got < size:
		try:
			if sent < size:
				sent += a.send(block[:size - sent])
		except BlockingIOError:
			pass
		b.settimeout(0.05 if sent < size else 5)
		try:
			piece = b.recv(65536)
		except TimeoutError:
			continue
		tap.true(piece, 'the connection ended after %d bytes' % got)
		got += len(piece)
	a.settimeout(5)


helperlab.main(ALL)
