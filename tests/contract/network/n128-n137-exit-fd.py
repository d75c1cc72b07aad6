#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-128 to N-137: the exit descriptor, whatever it is."""
import fcntl
import os
import pty
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import tap
from helperlab import ALL, connect_error, forward, free_port
from netlab import pidfd_wait
from tap import test


def with_exit(t, fd, *options):
	"""A ready helper whose -e is @fd, which stays ours as well."""
	g = t.guest()
	return g, t.start(g, '-e', str(fd), *options, extra_fds=[fd])


def stays(h, why):
	"""It serves still after an event that must not end it. The wait only gives a wrong implementation the time to be wrong."""
	tap.true(not pidfd_wait(h.pid, 0.3), 'the helper ended: ' + why)


@test('N-11 N-128 N-129', 'a pipe whose last writer closes ends it with status 0', modes=ALL)
def _(t):
	for options in ([], ['--enable-sandbox', '--enable-seccomp', '--enable-ipv6']):
		g = t.guest()
		h = t.start(g, *options, kind='path' if t.mode == helperlab.ROOTLESS else 'pid', exit_fd=True)
		h.close_exit()
		tap.same(h.reap(), 0, 'status with %r' % options)
		tap.same(g.link('tap0'), None, 'link')


@test('N-128 N-130', 'data in the pipe neither ends it nor is read')
def _(t):
	r, w = os.pipe()
	g, h = with_exit(t, r)
	os.write(w, b'twelve bytes')
	stays(h, 'data came')
	os.close(w)
	tap.same(h.reap(), 0, 'status')
	tap.same(os.read(r, 100), b'twelve bytes', 'what is left in the pipe')
	os.close(r)


@test('N-130', 'data that nobody reads costs no busy loop')
def _(t):
	r, w = os.pipe()
	g, h = with_exit(t, r)
	os.write(w, b'x')
	stays(h, 'data came')
	before = helperlab.cpu_ms(h)
	stays(h, 'data came')
	stays(h, 'data came')
	used = helperlab.cpu_ms(h) - before
	tap.true(used < 30, '%d ms of CPU in 0.6 s' % used)
	os.close(w)
	os.close(r)


@test('N-131', 'the write end of a pipe: the last reader closes')
def _(t):
	r, w = os.pipe()
	g, h = with_exit(t, w)
	os.close(w)
	stays(h, 'a reader is there')
	os.close(r)
	tap.same(h.reap(), 0, 'status')


@test('N-132', 'a stream socket: a full close ends it, a half-close does not')
def _(t):
	ours, theirs = socket.socketpair()
	g, h = with_exit(t, theirs.fileno())
	theirs.close()
	ours.shutdown(socket.SHUT_WR)
	stays(h, 'the peer has half-closed')
	ours.close()
	tap.same(h.reap(), 0, 'status')


@test('N-133', 'a regular file and a terminal never end it')
def _(t):
	path = t.path('file')
	fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
	g, h = with_exit(t, fd)
	os.close(fd)
	os.unlink(path)
	stays(h, 'a regular file')
	h.signal(signal.SIGTERM)	# SIGKILL would not be a stop while an exit descriptor is open (N-242)
	h.reap(3)
	master, slave = pty.openpty()
	g, h = with_exit(t, slave)
	os.close(slave)
	os.write(master, b'line\n')
	stays(h, 'a terminal')
	os.close(master)
	tap.same(h.reap(), 0, 'status after the terminal has hung up')


@test('N-134', 'a number that is not open ends it right after the ready byte')
def _(t):
	g = t.guest()
	h = t.raw('-c', '-e', 88, *t.target(g), 'tap0', ready=True)
	tap.same(h.read_ready(), b'1', 'ready descriptor')
	tap.same(h.reap(), 0, 'status')
	tap.same(g.link('tap0'), None, 'link')


@test('N-135', 'a pipe that has already hung up: ready first, then the end')
def _(t):
	r, w = os.pipe()
	os.close(w)
	g = t.guest()
	h = t.raw('-c', '-e', r, *t.target(g), 'tap0', ready=True, extra_fds=[r])
	os.close(r)
	tap.same(h.read_ready(), b'1', 'ready descriptor')
	tap.same(h.reap(), 0, 'status')


@test('N-136 N-6', 'at the end link, ports and API path are gone, and stderr has a line', modes=ALL)
def _(t):
	g, h, path = t.api_pair(exit_fd=True)
	port = free_port()
	forward(path, port, 80)
	forward(path, port, 80, 'udp')
	lines = len(h.err().splitlines())
	h.close_exit()
	tap.same(h.reap(), 0, 'status')
	tap.same(g.link('tap0'), None, 'link')
	tap.same(connect_error(helperlab.HOST, '127.0.0.1', port), 'ECONNREFUSED', 'connect to the forwarded port')
	t.udp(helperlab.HOST, '0.0.0.0', port)		# binds
	tap.true(not os.path.exists(path), 'the API path is still there')
	tap.true(len(h.err().splitlines()) > lines, 'no word on stderr')


@test('N-136', 'it does not wait for open connections')
def _(t):
	g, h = t.pair(exit_fd=True)
	c, s, _ = t.through(g, t.listen())
	c.sendall(b'x' * 1000)
	h.close_exit()
	tap.same(h.reap(3), 0, 'status')
	try:
		while s.recv(4096):
			pass
	except ConnectionResetError:
		pass


@test('N-137 N-155', 'a silent client of the API does not delay the end', ours='the reference waits for the client')
def _(t):
	g, h, path = t.api_pair(exit_fd=True)
	with helperlab.api_open(path):
		tap.same(helperlab.api(path, 'list_hostfwd').get('entries'), [], 'answer beside the silent client')
		h.close_exit()
		tap.same(h.reap(2), 0, 'status')


@test('N-7 N-245', 'the exit descriptor is left open and as it was in the helper: flags, data, owner')
def _(t):
	r, w = os.pipe()
	flags = fcntl.fcntl(r, fcntl.F_GETFL)
	g, h = with_exit(t, r)
	os.write(w, b'x')
	stays(h, 'data came')
	tap.same(fcntl.fcntl(r, fcntl.F_GETFL), flags, 'flags of the open file')
	tap.true(any(os.readlink('/proc/%d/fd/%s' % (h.pid, n)) == os.readlink('/proc/self/fd/%d' % r)
		for n in os.listdir('/proc/%d/fd' % h.pid)), 'the started pid does not hold it')
	os.close(w)
	os.close(r)
	tap.same(h.reap(), 0, 'status')


@test('N-245', 'no process of the helper keeps the writer of the exit pipe')
def _(t):
	g, h = t.pair(exit_fd=True)
	pipe = os.readlink('/proc/self/fd/%d' % h.exit_w)
	for pid in h.all_pids():
		for n in os.listdir('/proc/%d/fd' % pid):
			if os.readlink('/proc/%d/fd/%s' % (pid, n)) == pipe:
				with open('/proc/%d/fdinfo/%s' % (pid, n)) as f:
					flags = [int(l.split()[1], 8) for l in f if l.startswith('flags')][0]
				tap.same(flags & os.O_ACCMODE, os.O_RDONLY, 'mode of the end that pid %d has' % pid)


helperlab.main()
