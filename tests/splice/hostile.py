#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Root of the guest writes frames by hand, redirects, and races. It must not reach the host's loopback or any address that the rules forbid.

Each test has a service that must not be reached, tries, and then proves with an allowed connection that the helper still works.
"""
import os
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'contract', 'lib'))
import helperlab
import netlab
import tap
from helperlab import connect_error
from netlab import HOST, HOST4, OUTSIDE, OUTSIDE4
from tap import test

GATEWAY, DNS, GUEST = '10.0.2.2', '10.0.2.3', '10.0.2.100'
GATEWAY6, DNS6 = 'fd00::2', 'fd00::3'
GATEWAY_MAC = bytes.fromhex('52550a000202')
SYN, RST, ACK, PSH, FIN = 2, 4, 16, 8, 1


def sum16(data):
	if len(data) % 2:
		data += b'\0'
	total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
	while total >> 16:
		total = (total & 0xffff) + (total >> 16)
	return ~total & 0xffff


def segment(src, sport, dst, dport, flags, seq=1000, ack=0, payload=b'', mac=b'\2\0\0\0\0\1', fragment=0, family=None):
	"""An Ethernet frame with one TCP segment."""
	v6 = ':' in dst if family is None else family == 6
	kind = socket.AF_INET6 if v6 else socket.AF_INET
	a, b = socket.inet_pton(kind, src), socket.inet_pton(kind, dst)
	tcp = struct.pack('!HHIIBBHHH', sport, dport, seq, ack, 5 << 4, flags, 65535, 0, 0) + payload
	pseudo = a + b + struct.pack('!IHBB' if v6 else '!HBBH', *((len(tcp), 0, 0, 6) if v6 else (0, 0, 6, len(tcp))))
	if not v6:
		pseudo = a + b + struct.pack('!BBH', 0, 6, len(tcp))
	tcp = tcp[:16] + struct.pack('!H', sum16(pseudo + tcp)) + tcp[18:]
	if v6:
		ip = struct.pack('!IHBB', 6 << 28, len(tcp), 6, 64) + a + b
	else:
		ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(tcp), 7, fragment, 64, 6, 0) + a + b
		ip = ip[:10] + struct.pack('!H', sum16(ip)) + ip[12:]
	return GATEWAY_MAC + mac + struct.pack('!H', 0x86dd if v6 else 0x800) + ip + tcp


class Trap:
	"""A service that must not be reached."""

	def __init__(self, t, at, address, port=0):
		self.listener = t.listen(at, address, port)
		self.port = self.listener.getsockname()[1]
		self.what = '%s port %d' % (address, self.port)

	def check(self):
		self.listener.setblocking(False)
		try:
			_, peer = self.listener.accept()
		except BlockingIOError:
			return
		tap.fail('%s was reached, by %s' % (self.what, peer))


def allowed(t, g, address=None):
	"""A connection that must work, now and after everything that was sent before it: the worker takes frames in order."""
	listener = t.listen(HOST, HOST4)
	c = t.connect(g, HOST4, listener.getsockname()[1])
	s, _ = t.accept(listener)
	c.sendall(b'x')
	tap.same(s.recv(1), b'x', 'byte')


@test('N-115 N-116', 'first segments written by hand to forbidden addresses open nothing', modes=['user'])
def _(t):
	g, h = t.pair('--disable-host-loopback', '--enable-ipv6')
	traps = [Trap(t, HOST, '127.0.0.1')]
	port = traps[0].port
	traps += [Trap(t, HOST, '::1', port), Trap(t, HOST, '127.0.0.9', port)]
	wire = g.packets('tap0')
	for dst in ('127.0.0.1', '127.0.0.9', '0.0.0.0', GATEWAY, DNS, '255.255.255.255', '224.0.0.1', '127.255.255.254'):
		for src in (GUEST, '127.0.0.1', GATEWAY, '0.0.0.0', HOST4):
			wire.send(segment(src, 4444, dst, port, SYN))
	for dst in ('::1', '::', '::ffff:127.0.0.1', '::127.0.0.1', GATEWAY6, DNS6, 'fe80::2', 'fd00::1234', 'ff02::1',
		    '::ffff:10.0.2.2'):
		for src in ('fd00::100', '::1', '::ffff:127.0.0.1'):
			wire.send(segment(src, 4444, dst, port, SYN, family=6))
	allowed(t, g)
	for trap in traps:
		trap.check()


def datagram(src, dst, dport, payload):
	v6 = ':' in dst
	kind = socket.AF_INET6 if v6 else socket.AF_INET
	a, b = socket.inet_pton(kind, src), socket.inet_pton(kind, dst)
	udp = struct.pack('!HHHH', 4444, dport, 8 + len(payload), 0) + payload
	if v6:
		total = sum16(a + b + struct.pack('!II', len(udp), 17) + udp)
		udp = udp[:6] + struct.pack('!H', total) + udp[8:]
		ip = struct.pack('!IHBB', 6 << 28, len(udp), 17, 64) + a + b
	else:
		ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(udp), 7, 0, 64, 17, 0) + a + b
		ip = ip[:10] + struct.pack('!H', sum16(ip)) + ip[12:]
	return GATEWAY_MAC + b'\2\0\0\0\0\1' + struct.pack('!H', 0x86dd if v6 else 0x800) + ip + udp


@test('N-115 N-116', 'the same by datagrams, and by both through the stack alone', modes=['user'])
def _(t):
	for path in ('splice', 'slirp'):
		g = t.guest()
		t.start(g, '--disable-host-loopback', '--enable-ipv6', '--data-path=' + path)
		traps = [Trap(t, HOST, '127.0.0.1')]
		port = traps[0].port
		traps.append(Trap(t, HOST, '::1', port))
		four, six = t.udp(HOST, '127.0.0.1', port), t.udp(HOST, '::1', port)
		wire = g.packets('tap0')
		for dst in ('127.0.0.1', '0.0.0.0', GATEWAY, DNS, '255.255.255.255'):
			wire.send(datagram(GUEST, dst, port, b'evil'))
			wire.send(segment(GUEST, 4444, dst, port, SYN))
		for dst in ('::1', '::', '::ffff:127.0.0.1', '::127.0.0.1', GATEWAY6, DNS6, 'fe80::2'):
			wire.send(datagram('fd00::100', dst, port, b'evil'))
			wire.send(segment('fd00::100', 4444, dst, port, SYN, family=6))
		wire.send(hop_by_hop(segment('fd00::100', 4445, '::ffff:127.0.0.1', port, SYN, family=6)))
		allowed(t, g)
		for trap in traps:
			trap.check()
		for s in (four, six):
			s.setblocking(False)
			try:
				tap.fail('%r came through from %r on %s' % (*s.recvfrom(100), path))
			except BlockingIOError:
				pass
		t.helpers[-1].close()


def hop_by_hop(frame):
	"""The same with an extension header in front of TCP."""
	ip = frame[14:54]
	ip = ip[:4] + struct.pack('!H', len(frame) - 54 + 8) + b'\0' + ip[7:]
	return frame[:14] + ip + bytes([6, 0, 1, 4, 0, 0, 0, 0]) + frame[54:]


@test('N-95 N-116', 'a name server on the loopback is reached at port 53 of the DNS address only', modes=['user'])
def _(t):
	netlab.resolv_conf('127.0.0.1')
	server = t.listen(HOST, '127.0.0.1', 53)
	trap = Trap(t, HOST, '127.0.0.1')
	g, h = t.pair('--disable-host-loopback')
	tap.same(connect_error(g, DNS, trap.port), 'ENETUNREACH', 'another port')
	tap.same(connect_error(g, GATEWAY, 53), 'ENETUNREACH', 'port 53 of the gateway')
	c = t.connect(g, DNS, 53)
	s, _ = t.accept(server)
	c.sendall(b'query')
	tap.same(s.recv(5), b'query', 'bytes')
	trap.check()


@test('N-116', 'a guest that rewrites the destination behind its own connect() ends where the packet says, not where it asked',
	modes=['user'])
def _(t):
	g, h = t.pair('--disable-host-loopback')
	trap = Trap(t, HOST, '127.0.0.1')
	shadow = t.listen(HOST, HOST4, trap.port)
	rules = '''table ip t { chain out { type nat hook output priority -100;
		ip daddr %s tcp dport %d dnat to %s; ip daddr %s tcp dport %d dnat to 127.0.0.1; }; }'''
	g.run('nft', rules % (HOST4, trap.port, GATEWAY, OUTSIDE4, trap.port))
	tap.same(connect_error(g, HOST4, trap.port), 'ENETUNREACH', 'dnat to the gateway')
	connect_error(g, OUTSIDE4, trap.port, 1)
	g.run('nft', 'delete table ip t')
	trap.check()
	c = t.connect(g, HOST4, trap.port)
	s, peer = t.accept(shadow)
	tap.same(peer[0], HOST4, 'peer')


@test('N-102 N-116', 'an approved first segment gives nothing to another destination: handshakes are completed by hand for both',
	modes=['user'])
def _(t):
	g, h = t.pair('--disable-host-loopback')
	trap = Trap(t, HOST, '127.0.0.1')
	allowed_one = t.listen(HOST, HOST4, trap.port)
	# The guest's kernel must not answer for the address that the frames come from.
	g.run('nft', 'table ip t { chain out { type filter hook output priority 0; tcp flags rst drop; }; }')
	wire = g.packets('tap0')
	mac = bytes.fromhex(g.link('tap0')['address'].replace(':', ''))
	for n, target in enumerate((GATEWAY, '127.0.0.1', DNS)):
		sport = 5000 + n
		wire.send(segment(GUEST, sport, HOST4, trap.port, SYN, mac=mac))
		wire.send(segment(GUEST, sport, target, trap.port, SYN, mac=mac))
		answer = tap.until(lambda: syn_ack(wire, sport), 'the allowed one is answered')
		for dst in (target, HOST4):
			wire.send(segment(GUEST, sport, dst, trap.port, ACK, 1001, answer + 1, mac=mac))
			wire.send(segment(GUEST, sport, dst, trap.port, ACK | PSH, 1001, answer + 1, b'evil', mac=mac))
		s, _ = t.accept(allowed_one)
		tap.same(s.recv(10), b'evil', 'bytes')
	allowed(t, g)
	trap.check()


def syn_ack(wire, sport):
	"""Sequence number of the next SYN/ACK to @sport, None for any other frame."""
	frame = wire.recv(2000)
	if frame[12:14] != b'\x08\0' or frame[23] != 6 or frame[47] & 0x3f != SYN | ACK:
		return None
	return struct.unpack('!I', frame[38:42])[0] if struct.unpack('!H', frame[36:38])[0] == sport else None


@test('N-102', 'segments without a connection, fragments of first segments and odd flags open nothing', modes=['user'])
def _(t):
	g, h = t.pair()
	trap = Trap(t, HOST, HOST4)
	wire = g.packets('tap0')
	whole = segment(GUEST, 6000, HOST4, trap.port, SYN)
	for flags in (0, ACK, FIN, ACK | PSH, SYN | ACK, FIN | PSH, 0x29):
		for seq in (0, 1000):
			wire.send(segment(GUEST, 6001, HOST4, trap.port, flags, seq, 1, b'evil'))
	# the first segment in two fragments: eight bytes, then the rest
	for offset, body, more in ((0, whole[34:42], 1), (1, whole[42:], 0)):
		ip = whole[14:16] + struct.pack('!HHH', 20 + len(body), 99, more << 13 | offset) + whole[22:24] + b'\0\0' + whole[26:34]
		ip = ip[:10] + struct.pack('!H', sum16(ip)) + ip[12:]
		wire.send(whole[:14] + ip + body)
	for cut in range(14, len(whole)):
		wire.send(whole[:cut])
	t.own(allowed(t, g) or t.udp(g))
	trap.check()


@test('N-101', 'what the guest does to its own end of the link is its own loss', modes=['user'])
def _(t):
	g, h = t.pair()
	trap = Trap(t, HOST, '127.0.0.1')
	wire = g.packets('tap0')
	# flood of first segments from many forged sources: each costs an attempt, none may stop the others
	for n in range(3000):
		wire.send(segment('10.0.2.%d' % (n % 50 + 150), 1024 + n, OUTSIDE4, 9, SYN))
	allowed(t, g)
	g.ip('link', 'set', 'tap0', 'mtu', '68')
	g.ip('link', 'set', 'tap0', 'mtu', '65535')
	allowed(t, g)
	g.ip('link', 'set', 'tap0', 'down')
	g.ip('link', 'set', 'tap0', 'up')
	g.ip('route', 'add', 'default', 'via', GATEWAY)
	allowed(t, g)
	trap.check()


@test('N-101', 'the gateway\'s namespace, reached by its number on the link, gives the guest nothing', modes=['user'])
def _(t):
	"""With rights over the owning user namespace the guest can make interfaces in there; they lead nowhere."""
	g, h = t.pair('--disable-host-loopback')
	trap = Trap(t, HOST, '127.0.0.1')
	pid = t.guests[0].pid
	nsid = g.link('tap0').get('link_netnsid')
	inside = ['nsenter', '--user', '--net', '--preserve-credentials', '--target', str(pid)]
	netlab.run(*inside, 'ip', 'link', 'add', 'spy0', 'type', 'veth', 'peer', 'name', 'spy1', check=False)
	netlab.run(*inside, 'ip', 'link', 'set', 'spy1', 'netns', str(nsid), check=False)
	netlab.run(*inside, 'ip', 'addr', 'add', '10.9.9.1/24', 'dev', 'spy0', check=False)
	netlab.run(*inside, 'ip', 'link', 'set', 'spy0', 'up', check=False)
	wire = g.packets('spy0') if g.link('spy0') else None
	if wire:
		for dst in (GATEWAY, '127.0.0.1', '10.9.9.2'):
			for port in (1, 2, trap.port):
				try:
					wire.send(segment('10.9.9.1', 4444, dst, port, SYN))
				except OSError:
					pass	# its peer is down: that is as good
	allowed(t, g)
	trap.check()


if __name__ == '__main__':
	if helperlab.REFERENCE:
		print('1..0 # SKIP these are about the fast path')
		sys.exit(0)
	helperlab.main()
