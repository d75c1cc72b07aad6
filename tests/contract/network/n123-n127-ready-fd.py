#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-123 to N-127: the ready descriptor."""
import os
import select
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import netlab
import tap
from helperlab import ALL
from tap import test


@test('N-12 N-123', 'exactly one byte 1 is written, then the descriptor is closed', modes=ALL)
def _(t):
	for options in ([], ['--enable-sandbox', '--enable-seccomp', '--enable-ipv6']):
		g = t.guest()
		h = t.start(g, *options, kind='path' if t.mode == helperlab.ROOTLESS else 'pid')
		tap.same(h.read_ready(2), b'', 'what follows the byte with %r' % options)
		tap.true(h.is_alive(), 'the helper ended')
		h.close()


@test('N-124', 'at the byte the link is configured and the API answers', modes=ALL)
def _(t):
	for _ in range(5):
		g = t.guest()
		path = t.path('api.sock')
		h = t.start(g, '--api-socket=' + path)
		with helperlab.api_open(path) as s:
			s.sendall(b'{"execute":"list_hostfwd"}\n')
			tap.has(s.recv(2048), b'"entries":[]', 'answer')
		tap.same(g.addresses('tap0'), ['10.0.2.100'], 'address')
		tap.true('UP' in g.link('tap0')['flags'], 'the link is down')
		h.close()


@test('N-124', 'at the byte the sandbox and the filter are in force')
def _(t):
	g = t.guest()
	h = t.start(g, '--enable-sandbox', '--enable-seccomp', kind='pid')
	tap.same(helperlab.status_field(h.pid, 'Seccomp'), '2', 'seccomp mode')
	tap.same(helperlab.status_field(h.pid, 'NoNewPrivs'), '1', 'no_new_privs')
	tap.same(sorted(os.listdir('/proc/%d/root' % h.pid)), ['etc', 'run'], 'root directory')


@test('N-123', 'nothing is written in case of failure, and the descriptor is closed')
def _(t):
	long = t.path('x' * 110)
	for options in (['--macaddress=01:00:00:00:00:00'], ['--api-socket=' + long], ['--api-socket=/no/such/dir/s']):
		g = t.guest()
		h = t.start(g, *options, ready=None)
		tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor with %r' % options)


@test('N-125', 'it may be a regular file: the byte is appended to what is there')
def _(t):
	g = t.guest()
	path = t.path('configured')
	fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
	try:
		h = t.raw('-c', '-r', fd, *t.target(g), 'tap0', extra_fds=[fd])
	finally:
		os.close(fd)
	tap.until(lambda: os.path.getsize(path) > 0, 'the file has content')
	with open(path, 'rb') as f:
		tap.same(f.read(), b'1', 'content')


@test('N-125', 'it may be a socket, and the shell\'s high numbers')
def _(t):
	g = t.guest()
	ours, theirs = socket.socketpair()
	high = os.dup2(theirs.fileno(), 99, inheritable=True)
	theirs.close()
	h = t.raw('-c', '-r', high, *t.target(g), 'tap0', extra_fds=[high])
	os.close(high)
	ours.settimeout(5)
	tap.same(ours.recv(16), b'1', 'byte')
	ours.settimeout(2)
	tap.same(ours.recv(16), b'', 'end')
	ours.close()


@test('N-126', 'a reader that has gone, or a number that is not open, is ignored')
def _(t):
	path = t.path('api.sock')
	for number in ('77', None):
		g = t.guest()
		keep = []
		if number is None:
			r, w = os.pipe()
			os.close(r)
			keep = [w]
		h = t.raw('-c', '-a', path, '-r', number or keep[0], *t.target(g), 'tap0', extra_fds=keep)
		for fd in keep:
			os.close(fd)
		tap.until(lambda: os.path.exists(path) and helperlab.api(path, 'list_hostfwd'), 'the API answers')
		tap.true(h.is_alive(), 'the helper ended')
		h.close()
		os.unlink(path)


@test('N-7 N-127', 'after the byte no process of the helper has the ready descriptor open')
def _(t):
	g, h = t.pair()
	tap.same(h.read_ready(2), b'', 'end of the pipe')


@test('N-7', 'descriptors that were inherited by accident do no harm, and -e and -r may have any numbers')
def _(t):
	g = t.guest()
	extra = [os.open('/dev/null', os.O_RDONLY | os.O_CLOEXEC) for _ in range(5)]
	leaked_r, leaked_w = os.pipe()
	s = t.listen()
	h = t.start(g, exit_fd=True, extra_fds=extra + [leaked_w])
	os.close(leaked_w)
	t.through(g, s)
	h.close_exit()
	tap.same(h.reap(), 0, 'status')
	os.close(leaked_r)
	for fd in extra:
		os.close(fd)


@test('N-217 N-218', 'descriptors 3 and 4 in either order are those that the command line says')
def _(t):
	for order in ('-e 3 -r 4', '-r 3 -e 4'):
		g = t.guest()
		ready_r, ready_w = os.pipe()
		exit_r, exit_w = os.pipe()
		three, four = (exit_r, ready_w) if order.startswith('-e') else (ready_w, exit_r)
		high = [os.dup2(three, 60), os.dup2(four, 61)]
		h = t.raw('-c', *order.split(), *t.target(g), 'tap0', extra_fds=[60, 61],
			prefix=['bash', '-c', 'exec 3>&60 4>&61 60>&- 61>&-; exec "$@"', 'bash'])
		for fd in [exit_r, ready_w] + high:
			os.close(fd)
		tap.same(os.read(ready_r, 16), b'1', 'byte with ' + order)
		tap.true(select.select([ready_r], [], [], 2)[0], 'no end of the pipe with ' + order)
		tap.same(os.read(ready_r, 16), b'', 'end with ' + order)
		tap.true(h.is_alive(), 'the helper ended')
		os.close(exit_w)
		tap.same(h.reap(), 0, 'status with ' + order)
		os.close(ready_r)


helperlab.main()
