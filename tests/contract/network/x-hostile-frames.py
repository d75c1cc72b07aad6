#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A guest writes frames by hand: nothing of it ends a worker, on either data path.

The reference dies of SIGBUS by the second one of 'fragments' (libslirp 4.7), so this is for ours only.
"""
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'lib'))
import frames
import helperlab
import tap
from netlab import OUTSIDE, OUTSIDE4
from tap import test

CORPUS = os.path.join(HERE, '..', '..', 'fuzz', 'corpus-frame')


def frames_of(name):
	with open(os.path.join(CORPUS, name), 'rb') as f:
		data = f.read()
	while len(data) >= 2:
		size = struct.unpack('!H', data[:2])[0]
		yield data[2:2 + size]
		data = data[2 + size:]


def exchange(guest, listener):
	"""A connection of the guest works."""
	with guest.connect(OUTSIDE4, listener.getsockname()[1]) as c:
		p, _ = listener.accept()
		with p:
			c.sendall(b'x')
			tap.same(p.recv(1), b'x', 'byte')


ME = '02:00:00:00:00:05'


def announce(s):
	"""
	What a guest's kernel does now and then: ask for the gateway, by which the stack learns its address. Some inputs say that another
	MAC has it, and the stack rightly believes that until it hears better.
	"""
	s.send(frames.arp_request(frames.mac(ME), '10.0.2.100', '10.0.2.2'))


@test('N-92', 'every frame of the fuzzing corpus, by a packet socket of the guest', ours='libslirp dies of some', deadline=120)
def _(t):
	names = sorted(os.listdir(CORPUS))
	tap.true(len(names) >= 10, 'corpus at %s' % CORPUS)
	for path in ('slirp', 'splice'):
		g, h = t.pair('--data-path=' + path, '--enable-ipv6', '--macaddress=' + ME)
		s = t.own(g.packets('tap0'))
		listener = t.listen(OUTSIDE, OUTSIDE4)
		for name in names:
			for frame in frames_of(name):
				try:
					s.send(frame)
				except OSError:
					pass	# too short or too long for the link: the guest's own kernel refuses
			announce(s)
			try:
				exchange(g, listener)
			except OSError as e:
				tap.fail('%s after %s on the %s path: %s' % (e, name, path, h.err()[-300:]))
			tap.lacks(h.err(), 'died', 'stderr after %s on the %s path' % (name, path))
		t.helpers[-1].close()


@test('N-113', 'a fragmented datagram of the largest size arrives whole', ours='with the corpus')
def _(t):
	for path in ('slirp', 'splice'):
		g, h = t.pair('--data-path=' + path)
		u = t.udp(OUTSIDE, OUTSIDE4, 0)
		c = t.udp(g, '0.0.0.0')
		data = os.urandom(65507)
		c.sendto(data, u.getsockname())
		tap.same(u.recv(70000) == data, True, 'bytes on the %s path' % path)
		t.helpers[-1].close()


helperlab.main()
