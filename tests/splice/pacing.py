#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Which congestion control the sockets of a spliced connection have where the host's choice paces what it sends.

The host's own for whoever is out in the world; none to speak of where the other end is on this machine.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'contract', 'lib'))
import helperlab
import tap
from helperlab import forward, free_port
from netlab import HOST, HOST4, OUTSIDE, OUTSIDE4
from tap import test

SYSCTL = 'net.ipv4.tcp_congestion_control'


def choose(name):
	HOST.run('sysctl', '-qw', '%s=%s' % (SYSCTL, name))
	return HOST.run('sysctl', '-n', SYSCTL).strip()


def host_chooses_bbr(t):
	before = HOST.run('sysctl', '-n', SYSCTL).strip()
	if HOST.run('sysctl', '-qw', SYSCTL + '=bbr', check=False).strip() or HOST.run('sysctl', '-n', SYSCTL).strip() != 'bbr':
		raise tap.Skip('this kernel has no BBR')
	return before


def algorithm(at, which):
	"""Of the one established socket that the filter of ss(8) fits."""
	lines = at.run('ss', '-tniHO', 'state', 'established', *which.split()).splitlines()
	tap.same(len(lines), 1, 'sockets that fit %r' % which)
	words = lines[0].split()
	found = [w for w in words if w in ('reno', 'cubic') or w.startswith('bbr')]
	return found[0] if found else None


def carry(near, far):
	near.sendall(b'x')
	tap.same(far.recv(1), b'x', 'outwards')
	far.sendall(b'y')
	tap.same(near.recv(1), b'y', 'inwards')


@test('N-102', 'a connection to the host itself is not paced, one to the world is as the host has chosen', modes=['user'])
def outbound(t):
	before = host_chooses_bbr(t)
	try:
		g = t.guest()
		t.start(g, '--data-path=splice')
		for at, address, expected in ((HOST, HOST4, 'reno'), (OUTSIDE, OUTSIDE4, 'bbr')):
			listener = t.listen(at, address)
			port = listener.getsockname()[1]
			c = t.connect(g, address, port)
			carry(c, t.accept(listener)[0])
			tap.same(algorithm(HOST, 'dst %s dport = :%d' % (address, port)), expected, 'the host\'s socket to ' + address)
	finally:
		choose(before)


@test('N-179', 'a client on the host itself is not paced, one out in the world is as the host has chosen', modes=['user'])
def inbound(t):
	before = host_chooses_bbr(t)
	try:
		g, h, api = t.api_pair('--data-path=splice')
		port = free_port()
		forward(api, port, 8080)
		service = t.listen(g, '0.0.0.0', 8080)
		for at, expected in ((HOST, 'reno'), (OUTSIDE, 'bbr')):
			c = t.connect(at, HOST4, port)
			carry(c, t.accept(service)[0])
			tap.same(algorithm(HOST, 'src %s sport = :%d dport = :%d' % (HOST4, port, c.getsockname()[1])), expected,
				'the socket of the published port')
	finally:
		choose(before)


@test('N-72 N-74', 'the guest\'s route overrules an algorithm that paces, and no other', modes=['user'])
def guest_route(t):
	for choice in ('bbr', 'reno'):
		g = t.guest()
		g.sysctl(SYSCTL, 'reno')
		if choice == 'bbr':
			before = host_chooses_bbr(t)
			choose(before)
			g.sysctl(SYSCTL, 'bbr')
		t.start(g, '--data-path=splice')
		text = g.ip('route', 'show', 'default')
		tap.same('congctl reno' in text, choice == 'bbr', 'the route where the guest has %s: %s' % (choice, text.strip()))
		tap.same(g.run('nsenter', '--net=' + g.path, 'sysctl', '-n', SYSCTL).strip(), choice, 'the guest\'s own setting')
		t.helpers[-1].close()


if __name__ == '__main__':
	if helperlab.REFERENCE:
		print('1..0 # SKIP %s has one data path' % helperlab.PROGRAM)
		sys.exit(0)
	helperlab.main()
