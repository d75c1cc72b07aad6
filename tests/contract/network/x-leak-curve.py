#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""No leak in the long run: many short TCP connections, UDP exchanges, and connections abandoned without a word.

LEAK_COUNT says how many (2000; the figure of record is 200000, about five minutes). Each test prints the curve of descriptors,
resident KiB and listed flows, and asserts that the end is where the beginning was.
"""
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import netlab
import tap
from helperlab import api, n_fds
from netlab import HOST
from tap import test

MORE = 'an addition'
COUNT = int(os.environ.get('LEAK_COUNT', '2000'))
POINTS = 10
TCP_REPAIR = 19		# <linux/tcp.h>: a socket closed in this state is forgotten without a segment
ROOM_KIB = 4096		# what caches may have grown by at the end


def resident_kib(h):
	"""Private and shared pages in use, keeper and worker together."""
	total = 0
	for pid in [h.pid] + list(netlab.descendants(h.pid)):
		with open('/proc/%d/smaps_rollup' % pid) as f:
			for line in f:
				if line.startswith('Pss:'):
					total += int(line.split()[1])
	return total


class Curve:
	def __init__(self, h, path):
		self.h, self.path = h, path
		self.points = []

	def point(self, label):
		now = (n_fds(self.h), resident_kib(self.h), len(api(self.path, 'list')['return']['flows']))
		self.points.append(now)
		print('# %-28s %6d descriptors %8d KiB %6d flows' % ((label,) + now), flush=True)

	def back(self, seconds):
		"""The descriptors of the start again, once all timers are over."""
		start = self.points[0]
		tap.until(lambda: n_fds(self.h) <= start[0] + 2, 'descriptors are back at %d' % start[0], seconds, 0.25)
		tap.until(lambda: not [f for f in api(self.path, 'list')['return']['flows'] if f['proto'] == 'tcp' and f['state'] != 'closed'],
			'no flow is listed', seconds, 0.25)
		tap.until(lambda: resident_kib(self.h) <= start[1] + ROOM_KIB, 'memory is back at %d KiB' % start[1], seconds, 0.25)
		self.point('at the end')


def steps(n):
	"""@n in POINTS parts."""
	return [n // POINTS] * POINTS


@test('N-261', 'short TCP connections', ours=MORE, deadline=900)
def _(t):
	for path in ('slirp', 'splice'):
		g, h, sock = t.api_pair('--data-path=' + path)
		s = t.listen()
		port = s.getsockname()[1]
		curve = Curve(h, sock)
		curve.point('%s, at the start' % path)
		done = 0
		for part in steps(COUNT):
			for _ in range(part):
				with g.connect('10.0.2.2', port) as c:
					p, _ = s.accept()
					with p:
						c.sendall(b'request')
						tap.same(p.recv(10), b'request', 'bytes')
						c.close()	# the guest first: libslirp keeps the others for ten seconds
			done += part
			curve.point('%s, after %d' % (path, done))
		curve.back(30)
		t.helpers[-1].close()


@test('N-113', 'UDP exchanges, in groups of one socket', ours=MORE, deadline=900)
def _(t):
	g, h, sock = t.api_pair('--data-path=slirp')
	u = t.udp(HOST, '127.0.0.1', 0)
	port = u.getsockname()[1]
	curve = Curve(h, sock)
	sockets = [t.udp(g, '0.0.0.0') for _ in range(20)]
	for c in sockets:
		c.sendto(b'q', ('10.0.2.2', port))
		u.sendto(b'a', u.recvfrom(10)[1])
		c.recv(10)
	curve.point('with 20 sessions')
	done = 0
	for part in steps(COUNT):
		for n in range(part):
			c = sockets[n % 20]
			c.sendto(b'q', ('10.0.2.2', port))
			u.sendto(b'a', u.recvfrom(10)[1])
			tap.same(c.recv(10), b'a', 'answer')
		done += part
		curve.point('after %d' % done)
	curve.back(10)


@test('N-261', 'connections that the guest half-closed and then forgot without a word', ours=MORE, deadline=900)
def _(t):
	if COUNT < 20000:
		raise tap.Skip('takes two minutes: set LEAK_COUNT=20000 or more')
	g, h, sock = t.api_pair('--data-path=slirp')
	s = t.listen()
	port = s.getsockname()[1]
	curve = Curve(h, sock)
	curve.point('at the start')
	kept = []
	groups = COUNT // 10 // 5000 or 1
	for group in range(groups):
		begun = time.monotonic()
		for _ in range(5000):
			c = g.connect('10.0.2.2', port)
			p, _ = s.accept()
			c.shutdown(socket.SHUT_WR)
			tap.same(p.recv(10), b'', 'end of stream')
			c.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
			c.close()
			kept.append(p)	# open, and says nothing: only a probe of the guest can end it
		curve.point('%d abandoned' % (5000 * (group + 1)))
		tap.until(lambda: n_fds(h) <= curve.points[0][0] + 2, 'the probes ended them', 150, 0.5)
		curve.point('after %d s' % (time.monotonic() - begun))
		for p in kept:
			p.close()
		kept.clear()
	curve.back(30)


helperlab.main(usual=('root',))
