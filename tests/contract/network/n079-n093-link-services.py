#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-79 to N-93: addresses on the link, ARP, DHCP, router advertisements, ping, TFTP."""
import json
import os
import socket
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import frames
import helperlab
import netlab
import tap
from netlab import HOST, OUTSIDE4
from tap import test

ME = frames.mac('02:00:00:00:00:01')


def silent(t, *options):
	"""A guest that has no address of its own, so that nothing but the test speaks on the link; a packet socket on it."""
	g = t.guest()
	for key in ('net.ipv6.conf.default.disable_ipv6', 'net.ipv4.conf.default.arp_ignore'):
		g.sysctl(key, 1 if 'ipv6' in key else 8)
	t.start(g, *options, configure=False)
	g.ip('link', 'set', 'tap0', 'up')
	# until its queue is there, the kernel drops what a packet socket sends
	tap.until(lambda: 'LOWER_UP' in g.link('tap0')['flags'] and g.link('tap0')['qdisc'] != 'noop', 'the link is up')
	return g, t.own(g.packets('tap0'))


def ask_arp(sock, wanted, src='10.0.2.100', seconds=3.0):
	sock.send(frames.arp_request(ME, src, wanted))
	return frames.receive(sock, lambda p: p.kind == frames.ARP and p.payload[7] == 2 and
		p.payload[14:18] == frames.aton(wanted), seconds)


def ping(guest, address, *options):
	"""Whether an echo request of the guest is answered."""
	with guest:
		return subprocess.run(['busybox', 'ping', '-c', '1', '-W', '2', *options, address], stdout=subprocess.DEVNULL,
			stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL).returncode == 0


@test('N-81 N-83', 'ARP is answered for gateway and DNS, with addresses made from theirs')
def _(t):
	for cidr, gateway, dns in (('10.0.2.0/24', '10.0.2.2', '10.0.2.3'), ('10.41.0.0/16', '10.41.0.2', '10.41.0.3')):
		g, s = silent(t, '--cidr=' + cidr)
		for address in (gateway, dns):
			answer = ask_arp(s, address, gateway[:-1] + '100')
			tap.true(answer, 'no answer for ' + address)
			tap.same(answer.payload[8:14], b'\x52\x55' + frames.aton(address), 'hardware address of ' + address)
			tap.same(answer.dst, ME, 'destination')
		t.helpers[-1].close()


@test('N-83', 'ARP is not answered for any other address of the network')
def _(t):
	g, s = silent(t)
	tap.true(ask_arp(s, '10.0.2.2'), 'no answer for the gateway')
	for last in (1, 4, 15, 50, 254):
		s.send(frames.arp_request(ME, '10.0.2.100', '10.0.2.%d' % last))
	s.send(frames.arp_request(ME, '10.0.2.100', '10.0.2.3'))
	first = frames.receive(s, lambda p: p.kind == frames.ARP and p.payload[7] == 2)
	tap.same(first.payload[14:18], frames.aton('10.0.2.3'), 'first answer')


@test('N-81', 'every IPv4 frame to the guest comes from the gateway\'s MAC')
def _(t):
	g, s = silent(t)
	s.send(frames.ether(frames.GATEWAY_MAC, ME, frames.IPV4, frames.echo4('10.0.2.100', '10.0.2.3', 7, 1)))
	answer = frames.receive(s, lambda p: p.proto == 1 or (p.kind == frames.ARP and p.payload[7] == 1))
	if answer.kind == frames.ARP:	# the stack asks who that was
		reply = frames.ether(answer.src, ME, frames.ARP, answer.payload[:7] + b'\x02' + ME + frames.aton('10.0.2.100') +
			answer.payload[8:18])
		s.send(reply)
		answer = frames.receive(s, lambda p: p.proto == 1)
	tap.same(answer.src, frames.GATEWAY_MAC, 'source')
	tap.same(answer.saddr, '10.0.2.3', 'source address')


@test('N-82', 'any source address on the link works, several at once')
def _(t):
	g, h = t.pair()
	s = t.listen()
	for last in (50, 51, 200):
		g.ip('addr', 'add', '10.0.2.%d/24' % last, 'dev', 'tap0')
		c = t.connect(g, '10.0.2.2', s.getsockname()[1], source=('10.0.2.%d' % last, 0))
		p, _ = t.accept(s)
		p.sendall(b'x')
		tap.same(c.recv(1), b'x', 'byte')


@test('N-84', 'DISCOVER is offered and REQUEST acknowledged with every field of the table')
def _(t):
	for options, net, mask in (([], '10.0.2.', '255.255.255.0'), (['--cidr=10.41.0.0/16'], '10.41.0.', '255.255.0.0'),
				   (['--disable-dns'], '10.0.2.', '255.255.255.0')):
		g, s = silent(t, *options)
		for kind, wanted in ((frames.DISCOVER, frames.OFFER), (frames.REQUEST, frames.ACK)):
			lease = frames.ask_dhcp(s, frames.dhcp(ME, kind, net + '15' if kind == frames.REQUEST else None))
			tap.true(lease, 'no answer')
			tap.same((lease.kind, lease.yiaddr, lease.siaddr), (wanted, net + '15', net + '2'), 'kind and addresses')
			tap.same({k: lease.options.get(k) for k in (54, 1, 3, 6, 51)}, {54: frames.aton(net + '2'),
				1: frames.aton(mask), 3: frames.aton(net + '2'), 6: frames.aton(net + '3'),
				51: struct.pack('!I', 86400)}, 'options')
			tap.same([k for k in (12, 15, 26, 66, 119) if k in lease.options], [], 'options that must be absent')
			tap.same(lease.bootfile, b'', 'boot file')
			tap.same((lease.packet.daddr, lease.packet.dport), ('255.255.255.255', 68), 'destination')
		t.helpers[-1].close()


@test('N-84', 'a request to the gateway itself is answered too')
def _(t):
	g, s = silent(t)
	lease = frames.ask_dhcp(s, frames.dhcp(ME, frames.DISCOVER, dst='10.0.2.2'))
	tap.true(lease and lease.kind == frames.OFFER, 'no offer')


@test('N-84', 'a BOOTP request without message type is treated as REQUEST')
def _(t):
	g, s = silent(t)
	lease = frames.ask_dhcp(s, frames.dhcp(ME, None))
	tap.true(lease, 'no answer')
	tap.same(lease.yiaddr, '10.0.2.15', 'address')


@test('N-84', 'a lease stays with its MAC, another MAC gets the next, one asked for is given if free')
def _(t):
	g, s = silent(t)
	other, third = frames.mac('02:00:00:00:00:02'), frames.mac('02:00:00:00:00:03')
	ask = lambda who, wanted=None, kind=frames.REQUEST: frames.ask_dhcp(s, frames.dhcp(who, kind, wanted,
		xid=int.from_bytes(os.urandom(4), 'big')))
	tap.same(ask(ME, '10.0.2.15').yiaddr, '10.0.2.15', 'first')
	tap.same(ask(other, kind=frames.DISCOVER).yiaddr, '10.0.2.16', 'second')
	tap.same(ask(third, '10.0.2.20').yiaddr, '10.0.2.20', 'asked for')
	tap.same(ask(ME, '10.0.2.15').yiaddr, '10.0.2.15', 'first again')
	tap.same(ask(ME, kind=frames.DISCOVER).yiaddr, '10.0.2.15', 'first, not saying which')


@test('N-84', 'a REQUEST outside the pool, or for another\'s lease, gets a NAK')
def _(t):
	g, s = silent(t)
	lease = frames.ask_dhcp(s, frames.dhcp(ME, frames.REQUEST, '10.0.2.100'))
	tap.same(lease and lease.kind, frames.NAK, 'kind')


@test('N-84', 'sixteen MACs get leases .15 to .30, the seventeenth no answer')
def _(t):
	g, s = silent(t)
	got = []
	for n in range(17):
		who = frames.mac('02:00:00:00:01:%02x' % n)
		offer = frames.ask_dhcp(s, frames.dhcp(who, frames.DISCOVER, xid=1000 + n), 3.0 if n < 16 else 0.5)
		if n < 16:
			tap.true(offer, 'no offer for MAC %d' % n)
			frames.ask_dhcp(s, frames.dhcp(who, frames.REQUEST, offer.yiaddr, xid=2000 + n))
			got.append(offer.yiaddr)
		else:
			tap.same(offer, None, 'offer for the seventeenth')
	tap.same(got, ['10.0.2.%d' % n for n in range(15, 31)], 'leases')


@test('N-84', 'other DHCP message types are ignored')
def _(t):
	g, s = silent(t)
	for kind in (4, 7, 8):
		tap.same(frames.ask_dhcp(s, frames.dhcp(ME, kind, xid=kind), 0.3), None, 'answer to type %d' % kind)
	tap.true(frames.ask_dhcp(s, frames.dhcp(ME, frames.DISCOVER, xid=99)), 'no offer afterwards')


@test('N-84 N-85', 'udhcpc gets .15, router, mask, name server and a day')
def _(t):
	g, h = t.pair()
	script, out = t.path('script'), t.path('lease')
	with open(script, 'w') as f:
		f.write('#!/bin/sh\n[ "$1" = bound ] && echo "$ip $router $subnet $dns $lease $serverid" > %s\nexit 0\n' % out)
	os.chmod(script, 0o755)
	g.run('udhcpc', '-i', 'tap0', '-n', '-q', '-f', '-t', '5', '-T', '1', '-s', script)
	with open(out) as f:
		tap.same(f.read().strip(), '10.0.2.15 10.0.2.2 255.255.255.0 10.0.2.3 86400 10.0.2.2', 'lease')


@test('N-86', 'a router solicitation is answered at once as the clause says')
def _(t):
	for servers, rdnss in ((['127.0.0.1'], False), (['2001:db8:51::2'], True)):
		netlab.resolv_conf(*servers)
		g, s = silent(t, '--enable-ipv6')
		s.send(frames.router_solicitation(ME))
		ra = frames.receive(s, lambda p: p.kind == frames.IPV6 and p.proto == 58 and p.payload[0] == 134)
		tap.true(ra, 'no advertisement')
		tap.same((ra.saddr, ra.ttl, ra.src), ('fe80::2', 255, frames.mac('52:56:00:00:00:02')), 'source')
		hops, flags, lifetime = struct.unpack('!BBH', ra.payload[4:8])
		tap.same((hops, flags, lifetime), (64, 0, 1800), 'hop limit, flags, lifetime')
		options, at = {}, 16
		while at < len(ra.payload):
			options[ra.payload[at]] = ra.payload[at:at + 8 * ra.payload[at + 1]]
			at += 8 * ra.payload[at + 1]
		tap.same(options[1][2:8], frames.mac('52:56:00:00:00:02'), 'source link-layer address')
		prefix = options[3]
		tap.same((prefix[2], prefix[3], struct.unpack('!II', prefix[4:12]), prefix[16:32]),
			(64, 0xc0, (86400, 14400), frames.aton('fd00::')), 'prefix')
		tap.same(25 in options, rdnss, 'RDNSS with name servers %r' % servers)
		if rdnss:
			tap.same(options[25][8:24], frames.aton('fd00::3'), 'RDNSS')
		tap.same(5 in options, False, 'MTU option')
		t.helpers[-1].close()


@test('N-86', 'a stateless DHCPv6 information request is answered with the DNS address')
def _(t):
	netlab.resolv_conf('2001:db8:51::2')
	g, s = silent(t, '--enable-ipv6')
	body = b'\x0b\x11\x22\x33' + struct.pack('!HHHH', 6, 4, 23, 24)
	s.send(frames.ether(frames.mac('33:33:00:01:00:02'), ME, frames.IPV6,
		frames.udp6('fe80::1234', 546, 'ff02::1:2', 547, body)))
	# libslirp 4.7 sends it from port 547 in the wrong byte order: the source port is not looked at
	wanted = lambda p: (p.proto == 17 and p.dport == 546) or (p.proto == 58 and p.payload[0] == 135)
	answer = frames.receive(s, wanted)
	if answer and answer.proto == 58:	# the stack asks for our address first
		na = struct.pack('!BBHI', 136, 0, 0, 0x60000000) + frames.aton('fe80::1234') + b'\x02\x01' + ME
		s.send(frames.ether(answer.src, ME, frames.IPV6, frames.icmp6('fe80::1234', answer.saddr, na)))
		answer = frames.receive(s, lambda p: p.proto == 17 and p.dport == 546)
	tap.true(answer, 'no answer')
	tap.same(answer.payload[:4], b'\x07\x11\x22\x33', 'reply and transaction')
	tap.has(answer.payload, struct.pack('!HH', 23, 16) + frames.aton('fd00::3'), 'options')


@test('N-87 N-223', 'with accept_dad=0 the global IPv6 address is there at once')
def _(t):
	for _ in range(5):
		g = t.guest()
		g.sysctl('net.ipv6.conf.default.accept_dad', 0)
		h = t.start(g, '--enable-ipv6', '--mtu=65520')
		g.sysctl('net.ipv6.conf.default.accept_dad', 1)
		address = tap.until(lambda: g.addresses('tap0', 'inet6', 'global'), 'a global address', 0.5, 0.005)
		tap.true(address[0].startswith('fd00::'), 'address %r' % address)
		tap.true(tap.until(lambda: [r for r in g.routes('-6') if r['dst'] == 'default'], 'a default route', 0.5)[0]
			['gateway'] == 'fe80::2', 'default route')
		h.close()


@test('N-86', 'with duplicate address detection on, the global address comes too')
def _(t):
	g, h = t.pair('--enable-ipv6')
	tap.until(lambda: g.addresses('tap0', 'inet6', 'global'), 'a global address', 8)


@test('N-88', 'without --enable-ipv6 every IPv6 frame is dropped silently')
def _(t):
	g, s = silent(t)
	s.send(frames.router_solicitation(ME))
	s.send(frames.neighbour_solicitation(ME, 'fe80::1234', 'fe80::2'))
	s.send(frames.arp_request(ME, '10.0.2.100', '10.0.2.2'))
	first = frames.receive(s, lambda p: p.kind == frames.IPV6 or p.kind == frames.ARP)
	tap.same(first.kind, frames.ARP, 'first answer')
	# nor does the helper's side say anything by itself: a kernel with an address there would announce it within two seconds
	tap.same(frames.receive(s, lambda p: p.kind == frames.IPV6, 2.5), None, 'IPv6 frame from the helper')
	h = t.helpers[-1]
	h.kill()
	tap.lacks(h.err().lower(), 'ipv6', 'stderr')


@test('N-80 N-81', 'neighbour discovery answers for fd00::2, fd00::3 and fe80::2')
def _(t):
	g, s = silent(t, '--enable-ipv6', '--cidr=10.9.0.0/24')
	for address in ('fd00::2', 'fd00::3', 'fe80::2'):
		s.send(frames.neighbour_solicitation(ME, 'fe80::1234', address))
		na = frames.receive(s, lambda p: p.proto == 58 and p.payload[0] == 136 and p.payload[8:24] == frames.aton(address))
		tap.true(na, 'no advertisement of ' + address)
		tap.has(na.payload, b'\x02\x01\x52\x56' + frames.aton(address)[12:], 'advertisement')


@test('N-89', 'ping to gateway and DNS is answered by the stack, whatever is disabled')
def _(t):
	for options in ([], ['--disable-host-loopback', '--disable-dns']):
		g = t.guest()
		t.start(g, *options)
		tap.true(ping(g, '10.0.2.2'), 'no answer from the gateway')
		tap.true(ping(g, '10.0.2.3'), 'no answer from the DNS address')


@test('N-90', 'ping beyond the link is answered by the real host')
def _(t):
	g, h = t.pair()
	tap.true(ping(g, OUTSIDE4), 'no answer')
	tap.true(ping(g, netlab.HOST4), 'no answer from the host itself')


@test('N-90', 'the reply\'s ICMP id and data are the request\'s')
def _(t):
	g, h = t.pair()
	raw = t.own(g.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
	raw.settimeout(3)
	for ident in (1, 0x1234, 0xffff):
		body = struct.pack('!BBHHH', 8, 0, 0, ident, 7) + b'some data %d' % ident
		raw.sendto(body[:2] + struct.pack('!H', frames.checksum(body)) + body[4:], (OUTSIDE4, 0))
		answer = raw.recv(1000)[20:]
		tap.same((answer[0], answer[4:]), (0, body[4:]), 'echo reply')


@test('N-90', 'without the right to any ICMP socket there is no answer, and no harm', modes=['user'])
def _(t):
	with open('/proc/sys/net/ipv4/ping_group_range', 'w') as f:
		f.write('1 0')
	try:
		g, h = t.pair()
		tap.true(not ping(g, OUTSIDE4, '-W', '1'), 'an answer')
		tap.true(ping(g, '10.0.2.2'), 'no answer from the gateway')
	finally:
		with open('/proc/sys/net/ipv4/ping_group_range', 'w') as f:
			f.write('0 2147483647')


@test('N-91', 'ping6 to fd00::2, fd00::3 and fe80::2 is answered')
def _(t):
	g = t.guest()
	g.sysctl('net.ipv6.conf.default.accept_dad', 0)
	t.start(g, '--enable-ipv6')
	tap.until(lambda: g.addresses('tap0', 'inet6', 'global'), 'a global address')
	for address in ('fd00::2', 'fd00::3', 'fe80::2%tap0'):
		tap.true(ping(g, address, '-6'), 'no answer from ' + address)


@test('N-91 N-205', 'a guest\'s ping6 outwards does not flood the log', ours='the reference logs a critical line for each')
def _(t):
	g = t.guest()
	g.sysctl('net.ipv6.conf.default.accept_dad', 0)
	h = t.start(g, '--enable-ipv6')
	tap.until(lambda: g.addresses('tap0', 'inet6', 'global'), 'a global address')
	raw = t.own(g.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6))
	for n in range(300):
		raw.sendto(struct.pack('!BBHHH', 128, 0, 0, 1, n) + b'x', ('2001:db8:77::1', 0))
	tap.true(ping(g, 'fd00::2', '-6'), 'no answer from the gateway afterwards')
	h.kill()
	lines = len(h.err().splitlines())
	tap.true(lines < 60, '%d lines on stderr' % lines)


@test('N-92', 'an ICMP error received for UDP is passed on with the offender\'s address')
def _(t):
	g, h = t.pair()
	u = t.udp(g)
	u.setsockopt(socket.IPPROTO_IP, 11, 1)		# IP_RECVERR
	port = helperlab.free_port(netlab.OUTSIDE, socket.SOCK_DGRAM)
	u.connect((OUTSIDE4, port))
	u.send(b'x')
	try:
		u.recv(16)
		tap.fail('an answer')
	except ConnectionRefusedError:
		pass
	except TimeoutError:
		tap.fail('no error')


@test('N-93', 'TFTP at the gateway serves nothing, and is not passed to the host')
def _(t):
	service = t.udp(HOST, '127.0.0.1', 69)
	service.settimeout(0.3)
	g, h = t.pair()
	u = t.udp(g)
	u.connect(('10.0.2.2', 69))
	u.send(b'\0\x01/etc/passwd\0octet\0')
	try:
		tap.same(u.recv(1000)[:2], b'\0\x05', 'TFTP opcode')	# an error, if anything
	except (TimeoutError, ConnectionRefusedError):
		pass
	try:
		service.recv(100)
		tap.fail('the request reached the host')
	except TimeoutError:
		pass


helperlab.main()
