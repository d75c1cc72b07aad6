#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The worker is killed again and again while bytes are under way: none may be lost, doubled or changed.

Fifty connections, half of them of the guest and half to a published port, carry numbered bytes in both directions at
once; every byte is compared. Then connections are opened while the worker is killed: none may fail.

SPLICE_SURVIVAL_MB (default 192; 10240 for the long run) is what is moved in all, SPLICE_SURVIVAL_KILLS (default 15) how often.
"""
import os
import select
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'contract', 'lib'))
import helperlab
import netlab
import tap
from helperlab import forward, free_port, level, n_fds, worker
from netlab import HOST
from tap import test

MB = int(os.environ.get('SPLICE_SURVIVAL_MB', '192'))
KILLS = int(os.environ.get('SPLICE_SURVIVAL_KILLS', '15'))
PAIRS = 50
CHUNK = 256 << 10
PERIOD = 1048573	# bytes after which the pattern repeats: a prime, so that nothing shifted by a buffer's size fits
PATTERN = memoryview(os.urandom(PERIOD) * 2)


class Stream:
	"""One direction of one connection. What is sent at an offset follows from the offset alone."""

	def __init__(self, source, sink, size, salt):
		self.source, self.sink, self.size, self.salt = source, sink, size, salt
		self.sent = self.received = 0
		self.ended = False

	def at(self, offset, n):
		begin = (offset + self.salt * 7919) % PERIOD
		return PATTERN[begin:begin + min(n, PERIOD)]

	def send(self):
		while self.sent < self.size:
			try:
				self.sent += self.source.send(self.at(self.sent, min(CHUNK, self.size - self.sent)))
			except BlockingIOError:
				return
		self.source.shutdown(socket.SHUT_WR)

	def receive(self):
		data = self.sink.recv(CHUNK)
		if not data:
			tap.same(self.received, self.size, 'bytes before the end of stream %d' % self.salt)
			self.ended = True
			return 0
		if data != self.at(self.received, len(data)):
			tap.fail('stream %d: wrong bytes in %d to %d' % (self.salt, self.received, self.received + len(data)))
		self.received += len(data)
		return len(data)


def kill_worker(h):
	pid = worker(h)
	os.kill(pid, signal.SIGKILL)
	tap.until(lambda: not netlab.alive(pid), 'it is dead')


def connections(t, g, h, path):
	"""PAIRS connected pairs (guest end, host end)."""
	listener = t.listen(HOST, '127.0.0.1', backlog=256)
	port = free_port()
	forward(path, port, 8080)
	service = t.listen(g, '0.0.0.0', 8080, backlog=256)
	pairs = []
	for i in range(PAIRS):
		if i % 2:
			c = t.connect(g, '10.0.2.2', listener.getsockname()[1])
			s, _ = t.accept(listener)
			pairs.append((c, s))
		else:
			c = t.connect(HOST, '127.0.0.1', port)
			s, _ = t.accept(service)
			pairs.append((s, c))
	return pairs


def run_streams(h, streams, total):
	"""Move everything; kill the worker each time that another share of the bytes has arrived."""
	moved, kills = 0, 0
	poll = select.epoll()
	by_fd = {}
	for s in streams:
		for fd, flag, what in ((s.source.fileno(), select.EPOLLOUT, 'send'), (s.sink.fileno(), select.EPOLLIN, 'receive')):
			by_fd.setdefault(fd, {})[flag] = (s, what)
	for fd, roles in by_fd.items():
		poll.register(fd, sum(roles))
	left = len(streams)
	while left:
		events = poll.poll(20)
		tap.true(events, 'nothing moved for 20 s; %d of %d bytes, %d kills' % (moved, total, kills))
		for fd, event in events:
			roles = by_fd[fd]
			if event & select.EPOLLOUT and select.EPOLLOUT in roles:
				s = roles[select.EPOLLOUT][0]
				s.send()
				if s.sent == s.size:
					del roles[select.EPOLLOUT]
			if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and select.EPOLLIN in roles:
				s = roles[select.EPOLLIN][0]
				moved += s.receive()
				if s.ended:
					left -= 1
					del roles[select.EPOLLIN]
			poll.modify(fd, sum(roles))
			if kills < KILLS and moved > (kills + 1) * total // (KILLS + 2):
				kill_worker(h)
				kills += 1
	return kills


@test('N-243 N-179', 'fifty connections go on through every SIGKILL of the worker, with every byte once', modes=['user'],
	deadline=max(120, MB))
def _(t):
	g, h, path = t.api_pair('--mtu=65520')
	size = MB * (1 << 20) // PAIRS // 2
	streams = []
	start = level(h)
	for i, (a, b) in enumerate(connections(t, g, h, path)):
		a.setblocking(False)
		b.setblocking(False)
		streams += [Stream(a, b, size, 2 * i), Stream(b, a, size, 2 * i + 1)]
	kills = run_streams(h, streams, 2 * PAIRS * size)
	tap.same(kills, KILLS, 'kills')
	print('# %d MB through %d connections, %d kills' % (2 * PAIRS * size >> 20, PAIRS, kills))
	for s in streams:
		s.source.close()
	tap.until(lambda: n_fds(h) <= start + 4, 'the descriptors of the connections are closed', 10, 0.05)


@test('N-243', 'connections that begin while the worker is being replaced all succeed', modes=['user'], deadline=90)
def _(t):
	g, h, path = t.api_pair()
	listener = t.listen(HOST, '127.0.0.1', backlog=256)
	port = free_port()
	forward(path, port, 8080)
	service = t.listen(g, '0.0.0.0', 8080, backlog=256)
	for n in range(KILLS):
		pid = worker(h)
		out, inward = g.socket(), HOST.socket()
		for s in (out, inward):
			t.own(s)
			s.setblocking(False)
		out.connect_ex(('10.0.2.2', listener.getsockname()[1]))
		if n % 3 == 0:
			os.kill(pid, signal.SIGKILL)
		inward.connect_ex(('127.0.0.1', port))
		if n % 3 == 1:
			os.kill(pid, signal.SIGKILL)
		# While it is being answered: the instant differs each time.
		if n % 3 == 2:
			time.sleep(0.0001 * n)
			os.kill(pid, signal.SIGKILL)
		for end, server in ((out, listener), (inward, service)):
			end.settimeout(10)
			end.setblocking(True)
			select.select([], [end], [], 10)
			tap.same(end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0, 'connect() number %d' % n)
			s, _ = t.accept(server)
			end.sendall(b'question')
			tap.same(s.recv(8), b'question', 'bytes')
			s.sendall(b'answer')
			tap.same(end.recv(6), b'answer', 'bytes')
		tap.until(lambda: not netlab.alive(pid), 'it is dead')


@test('N-243 N-108 N-109', 'ends and resets that happen without a worker are passed on by the next one', modes=['user'])
def _(t):
	g, h, path = t.api_pair()
	listener = t.listen(HOST, '127.0.0.1')
	for how in ('end', 'reset'):
		for from_guest in (True, False):
			c, s, _ = t.through(g, listener)
			near, far = (c, s) if from_guest else (s, c)
			near.sendall(b'first')
			tap.same(far.recv(5), b'first', 'bytes')
			os.kill(h.pid, signal.SIGSTOP)	# the keeper: nobody replaces the worker for now
			kill_worker(h)
			near.sendall(b'last')
			if how == 'reset':
				near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
				near.close()
			else:
				near.shutdown(socket.SHUT_WR)
			os.kill(h.pid, signal.SIGCONT)
			if how == 'end':
				tap.same(far.recv(100), b'last', 'bytes')
				tap.same(far.recv(100), b'', 'end of the stream')
				far.sendall(b'still')
				tap.same(near.recv(100), b'still', 'the other direction')
				continue
			try:
				while far.recv(100):
					pass
				tap.fail('an ordinary end instead of a reset (from the guest: %s)' % from_guest)
			except ConnectionResetError:
				pass


@test('N-243', 'a worker that keeps crashing is started with less, and in the end without the fast path: TCP goes on through the stack',
	modes=['user'], deadline=60)
def _(t):
	g, h, path = t.api_pair('--mtu=65520')
	listener = t.listen(HOST, '127.0.0.1')
	port = free_port()
	forward(path, port, 8080)
	service = t.listen(g, '0.0.0.0', 8080)
	c, s, _ = t.through(g, listener)
	for words in ('without the connections', 'without the fast path'):
		while words not in h.err():
			pid = worker(h)
			os.kill(pid, signal.SIGSEGV)
			tap.until(lambda: not netlab.alive(pid), 'it is dead')
			tap.until(lambda: worker(h) != pid, 'there is another one', 10)
		tap.until(lambda: not netlab.descendants(h.pid)[1:] or worker(h), 'it runs')
	try:
		tap.same(s.recv(1), b'', 'the connection of before')
	except ConnectionResetError:
		pass
	def answers():
		try:
			return t.through(g, listener)
		except OSError:
			return None
	c, s, _ = tap.until(answers, 'the guest can connect', 15, 0.1)
	c.sendall(bytes(300000))
	c.shutdown(socket.SHUT_WR)
	tap.same(len(helperlab.read_all(s)), 300000, 'bytes')
	c = t.connect(HOST, '127.0.0.1', port)
	s, peer = t.accept(service)
	tap.same(peer[0], '10.0.2.2', 'peer')
	s.sendall(b'answer')
	tap.same(c.recv(6), b'answer', 'bytes')


if __name__ == '__main__':
	if helperlab.REFERENCE:
		print('1..0 # SKIP %s has no worker' % helperlab.PROGRAM)
		sys.exit(0)
	helperlab.main()
