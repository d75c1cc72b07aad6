#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""No leak in the long run: many short TCP connections, UDP exchanges, and connections abandoned without a word.

LEAK_COUNT says how many (2000; the figures of record in docs/leak-curve.md are of 200000), LEAK_PATHS by which data paths
(both). Each test prints the curve of descriptors, resident KiB and listed flows, and asserts that the end is where the beginning was.
"""
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import netlab
import tap
from helperlab import api, level, n_fds
from netlab import HOST
from tap import test

MORE = 'an addition'
COUNT = int(os.environ.get('LEAK_COUNT', '2000'))
POINTS = 10
PATHS = os.environ.get('LEAK_PATHS', 'slirp splice').split()
SERVERS = 16		# so many destinations that no source port is wanted again within its TIME_WAIT
GROUP = 5000		# abandoned at a time
DEADLINE = 60 + COUNT // 50
TCP_REPAIR = 19		# <linux/tcp.h>: a socket closed in this state is forgotten without a segment
FIN_WAIT2 = 5		# tcpi_state of <netinet/tcp.h>
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
		now = (n_fds(self.h) if self.points else level(self.h), resident_kib(self.h), len(api(self.path, 'list')['return']['flows']))
		self.points.append(now)
		print('# %-28s %6d descriptors %8d KiB %6d flows' % ((label,) + now), flush=True)

	def back(self, seconds):
		"""The descriptors of the start again, once all timers are over."""
		start = self.points[0]
		tap.until(lambda: n_fds(self.h) <= start[0] + 2, 'descriptors are back at %d' % start[0], seconds, 0.25)
		tap.until(lambda: len(api(self.path, 'list')['return']['flows']) <= start[2], 'flows are back at %d' % start[2], seconds, 0.25)
		tap.until(lambda: resident_kib(self.h) <= start[1] + ROOM_KIB, 'memory is back at %d KiB' % start[1], seconds, 0.25)
		self.point('at the end')


def steps(n):
	"""@n in POINTS parts."""
	return [n // POINTS] * POINTS


@test('N-261', 'short TCP connections', ours=MORE, deadline=DEADLINE)
def _(t):
	for path in PATHS:
		g, h, sock = t.api_pair('--data-path=' + path)
		servers = [t.listen() for _ in range(SERVERS)]
		ports = [s.getsockname()[1] for s in servers]
		curve = Curve(h, sock)
		curve.point('%s, at the start' % path)
		done = 0
		for part in steps(COUNT):
			for n in range(part):
				with g.connect('10.0.2.2', ports[n % SERVERS]) as c:
					p, _ = servers[n % SERVERS].accept()
					with p:
						c.sendall(b'request')
						tap.same(p.recv(10), b'request', 'bytes')
						c.close()	# the guest first: libslirp keeps the others for ten seconds
			done += part
			curve.point('%s, after %d' % (path, done))
		curve.back(60)
		t.helpers[-1].close()


@test('N-113', 'UDP exchanges, in groups of one socket', ours=MORE, deadline=DEADLINE)
def _(t):
	for path in PATHS:
		g, h, sock = t.api_pair('--data-path=' + path)
		u = t.udp(HOST, '127.0.0.1', 0)
		port = u.getsockname()[1]
		curve = Curve(h, sock)
		sockets = [t.udp(g, '0.0.0.0') for _ in range(20)]
		for c in sockets:
			helperlab.carried(c, b'q', ('10.0.2.2', port), u)
		curve.point('%s, with 20 sessions' % path)
		done = 0
		for part in steps(COUNT):
			for n in range(part):
				c = sockets[n % 20]
				c.sendto(b'q', ('10.0.2.2', port))
				u.sendto(b'a', u.recvfrom(10)[1])
				tap.same(c.recv(10), b'a', 'answer')
			done += part
			curve.point('%s, after %d' % (path, done))
		curve.back(10)
		t.helpers[-1].close()


def abandon(g, servers, n):
	"""A connection that the guest half-closes and then forgets without a word; the server's end, which says nothing."""
	s = servers[n % SERVERS]
	c = g.connect('10.0.2.2', s.getsockname()[1])
	p, _ = s.accept()
	c.shutdown(socket.SHUT_WR)
	tap.same(p.recv(10), b'', 'end of stream')
	if n % 10 == 0:		# otherwise most are ended by the guest's answer to the last acknowledgement, where that comes late
		tap.until(lambda: c.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == FIN_WAIT2, 'the end is acknowledged', pause=0.001)
	c.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
	c.close()
	return p


@test('N-261', 'connections that the guest half-closed and then forgot without a word', ours=MORE, deadline=120 + COUNT // 10 // GROUP * 800)
def _(t):
	if COUNT < 10 * GROUP:
		raise tap.Skip('takes minutes: set LEAK_COUNT=%d or more' % (10 * GROUP))
	for path in PATHS:
		g, h, sock = t.api_pair('--data-path=' + path)
		servers = [t.listen() for _ in range(SERVERS)]
		curve = Curve(h, sock)
		curve.point('%s, at the start' % path)
		for group in range(COUNT // 10 // GROUP):
			begun = time.monotonic()
			kept = [abandon(g, servers, n) for n in range(GROUP)]	# only a probe of the guest can end them
			curve.point('%s, %d abandoned' % (path, GROUP * (group + 1)))
			tap.until(lambda: n_fds(h) <= curve.points[0][0] + 2, 'the probes ended them', 400, 0.5)
			curve.point('%s, after %d s' % (path, time.monotonic() - begun))
			for p in kept:
				p.close()
		curve.back(60)
		t.helpers[-1].close()


helperlab.main(usual=('root',))
