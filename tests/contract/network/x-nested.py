#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Namespace in namespace, as Podman in a rootless Podman has it: a helper whose host is the guest of another helper.

	inner guest  ═ inner helper ═  outer guest  ═ outer helper ═  host  ─  outside
	(its user namespace is a child of the outer guest's)
"""
import os
import signal
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import netlab
import tap
from helperlab import api, connect_error, forward, free_port, read_all
from netlab import HOST, HOST4, OUTSIDE, OUTSIDE4, USER, Guest, Netns
from tap import test

USERS = ['user']	# everything here is the ordinary user's, from the first namespace on
CONFINED = ['--enable-sandbox', '--enable-seccomp']


class Nest:
	"""Outer and inner guest, their helpers and the API sockets of both."""

	def __init__(self, t, outer_options=(), inner_options=()):
		self.t = t
		self.outer = t.guest()
		self.outer_path, self.inner_path = t.path('outer.sock'), t.path('inner.sock')
		self.outer_helper = t.start(self.outer, '-a', self.outer_path, *outer_options, kind='pid')
		self.into_outer = ['nsenter', '--user', '--net', '--preserve-credentials', '--target', str(self.outer.pid)]
		self.inner = Guest(USER, userns=True, inside=self.outer.pid)
		t.guests.append(self.inner)
		self.inner_helper = t.start(self.inner, '-a', self.inner_path, *inner_options, kind='pid', prefix=self.into_outer)

	def check_world(self):
		"""The inner guest reaches the world by TCP and UDP, with data both ways."""
		t = self.t
		c, s, _ = t.through(self.inner, t.listen(OUTSIDE, OUTSIDE4), OUTSIDE4)
		for a, b in ((c, s), (s, c)):
			data = os.urandom(1 << 20)
			sender = threading.Thread(target=a.sendall, args=(data,))
			sender.start()
			got = bytearray()
			while len(got) < len(data):
				piece = b.recv(65536)
				tap.true(piece, 'end of stream after %d bytes' % len(got))
				got += piece
			sender.join()
			tap.true(got == data, 'bytes differ')
		u = t.udp(OUTSIDE, OUTSIDE4, 0)
		inner = t.udp(self.inner, '0.0.0.0')
		peer = helperlab.carried(inner, b'question', u.getsockname(), u)
		u.sendto(b'answer', peer)
		tap.same(inner.recv(100), b'answer', 'answer by UDP')


@test('N-64 N-101', 'the inner guest has its link, and reaches the world through both helpers', modes=USERS)
def _(t):
	for options in ([], CONFINED):
		nest = Nest(t, options, options)
		tap.same(nest.inner.addresses('tap0'), ['10.0.2.100'], 'address of the inner guest')
		nest.check_world()
		if t.spliced:		# a fall-back would be said
			tap.same((nest.inner_helper.err(), nest.outer_helper.err()), ('', ''), 'stderr of both')
		tap.same(connect_error(nest.inner, OUTSIDE4, free_port(OUTSIDE)), 'ECONNREFUSED', 'connect to a closed port outside')


@test('N-115 N-101', 'the inner gateway is the outer guest\'s loopback, not the host\'s', modes=USERS)
def _(t):
	nest = Nest(t, ['--disable-host-loopback'])
	t.through(nest.inner, t.listen(nest.outer, '127.0.0.1'))
	port = t.listen(HOST, '127.0.0.1').getsockname()[1]
	tap.same(connect_error(nest.inner, '10.0.2.2', port), 'ECONNREFUSED', 'connect to a port of the host\'s loopback')


@test('N-94', 'names are asked of the name server that the outer guest\'s resolv.conf names', modes=USERS)
def _(t):
	nest = Nest(t, inner_options=['--cidr=10.0.9.0/24'])
	netlab.resolv_conf('10.0.2.3')		# as in a container; both guests and the host share this file here
	c = t.udp(nest.inner)
	with nest.outer:
		netlab.run('ip', 'addr', 'add', '10.0.2.3/32', 'dev', 'lo')	# answered here, as the outer helper would ask itself
	server = t.udp(nest.outer, '10.0.2.3', 53)
	helperlab.carried(c, b'query', ('10.0.9.3', 53), server)


@test('N-179', 'a port is published through both, with the client\'s address', modes=USERS)
def _(t):
	nest = Nest(t)
	first, second = free_port(), 9090
	forward(nest.outer_path, first, second)
	forward(nest.inner_path, second, 8080)
	service = t.listen(nest.inner, '0.0.0.0', 8080)
	c = t.connect(OUTSIDE, HOST4, first)
	s, peer = t.accept(service)
	tap.same(peer, c.getsockname(), 'peer that the inner service sees')
	c.sendall(b'request')
	tap.same(s.recv(100), b'request', 'bytes')
	s.sendall(b'answer')
	s.close()
	tap.same(read_all(c), b'answer', 'bytes')


@test('N-6 N-3', 'the inner helper ends without a trace in the outer guest, and the next one takes its place', modes=USERS)
def _(t):
	nest = Nest(t)
	before = nest.outer.links()
	for _ in range(3):
		nest.inner_helper.kill()
		tap.same(nest.inner.link('tap0'), None, 'link of the inner guest')
		tap.same([l['ifname'] for l in nest.outer.links()], [l['ifname'] for l in before], 'links of the outer guest')
		os.unlink(nest.inner_path)
		nest.inner_helper = t.start(nest.inner, '-a', nest.inner_path, kind='pid', prefix=nest.into_outer)
		nest.check_world()


@test('N-6 N-3', 'the worker of either helper is killed: the inner guest goes on', modes=USERS, ours='the reference is one process')
def _(t):
	nest = Nest(t, CONFINED, CONFINED)
	for h in (nest.inner_helper, nest.outer_helper, nest.inner_helper):
		restarts = h.err().count('works again')
		for pid in netlab.descendants(h.pid)[1:]:
			os.kill(pid, signal.SIGKILL)
		tap.until(lambda: h.err().count('works again') > restarts, 'the next worker works', 15)
		nest.check_world()


helperlab.main()
