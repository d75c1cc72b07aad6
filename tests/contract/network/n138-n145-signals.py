#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-138 to N-145, N-6, N-241 to N-244: signals, SIGKILL as a stop, parent death, guests that vanish."""
import ctypes
import os
import select
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import netlab
import tap
from helperlab import ALL, api, connect_error, forward, free_port
from netlab import HOST, pidfd_wait
from tap import test

PR_SET_PDEATHSIG = 1


def gone(t, g, ports):
	"""Nothing of a helper is left, as seen at this very instant."""
	tap.same(g.link('tap0'), None, 'link')
	for port in ports:
		with HOST.socket() as s:
			s.bind(('0.0.0.0', port))
			s.listen(1)
		with HOST.socket(kind=socket.SOCK_DGRAM) as s:
			s.bind(('0.0.0.0', port))


@test('N-6 N-139 N-243', 'SIGKILL, wait, and at once tap and ports are gone and a new helper starts on them, again and again',
	modes=ALL, deadline=60)
def _(t):
	g = t.guest()
	path = t.path('api.sock')
	ports = [free_port() for _ in range(2)]
	for n in range(50 if t.mode == 'user' else 15):
		h = t.start(g, '--api-socket=' + path)
		for port in ports:
			forward(path, port, 80)
			forward(path, port, 80, 'udp')
		helperlab.kill_and_reap(h)
		if n % 2:
			gone(t, g, ports)
		h.close()
		t.helpers.remove(h)


def state_of(pid):
	with open('/proc/%d/stat' % pid) as f:
		return f.read().rpartition(')')[2].split()[0]


@test('N-6 N-139 N-243', 'SIGKILL when a process of the helper is stopped: it can be waited for all the same, and then nothing is left',
	modes=ALL, ours='it is one process')
def _(t):
	g = t.guest()
	path = t.path('api.sock')
	port = free_port()
	for n in range(5):
		h = t.start(g, '--api-socket=' + path)
		forward(path, port, 80)
		worker = [p for p in netlab.descendants(h.pid)[1:] if ': worker' in helperlab._name(p)][0]
		os.kill(h.pid, signal.SIGSTOP)		# otherwise it would replace the worker at once
		tap.until(lambda: state_of(h.pid) in 'Tt', 'the keeper is stopped')
		os.kill(worker, signal.SIGSTOP)
		tap.until(lambda: state_of(worker) in 'Tt', 'the worker is stopped')
		helperlab.kill_and_reap(h)
		gone(t, g, [port])
		h.close()
		t.helpers.remove(h)


@test('N-6 N-139', 'SIGKILL in the middle of traffic leaves nothing either: 20 times', deadline=60)
def _(t):
	g = t.guest()
	s = t.listen()
	path = t.path('api.sock')
	port = free_port()
	for n in range(20):
		h = t.start(g, '--api-socket=' + path)
		forward(path, port, 80)
		c, p, _ = t.through(g, s)
		c.setblocking(False)
		p.setblocking(False)
		for a in (c, p):
			try:
				a.send(b'z' * 200000)
			except BlockingIOError:
				pass
		helperlab.kill_and_reap(h)
		gone(t, g, [port])
		c.close()
		p.close()
		h.close()
		t.helpers.remove(h)


@test('N-6 N-139 N-243', 'SIGKILL with an attached persistent tap: the next helper attaches at once, 20 times')
def _(t):
	g = t.guest()
	g.ip('tuntap', 'add', 'name', 'tap0', 'mode', 'tap')
	for n in range(20):
		h = t.start(g, configure=False)
		helperlab.kill_and_reap(h)
		h.close()
		t.helpers.remove(h)


@test('N-6 N-136', 'an end by the exit descriptor, and at once a new helper on the same names: 20 times', deadline=40)
def _(t):
	g = t.guest()
	path = t.path('api.sock')
	port = free_port()
	for n in range(20):
		h = t.start(g, '--api-socket=' + path, exit_fd=True)
		forward(path, port, 80)
		h.close_exit()
		tap.same(h.reap(), 0, 'status')
		if n % 2:
			gone(t, g, [port])
		h.close()
		t.helpers.remove(h)


@test('N-138', 'SIGTERM, SIGINT, SIGHUP and SIGQUIT end it, and nothing is left', modes=ALL)
def _(t):
	for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
		for sandbox in ([], ['--enable-sandbox', '--enable-seccomp']):
			g = t.guest()
			h = t.start(g, *sandbox, kind='path' if t.mode == helperlab.ROOTLESS else 'pid', exit_fd=True)
			h.signal(number)
			status = h.reap(3)
			tap.true(status in (-number, 0, 128 + number), 'status %d after signal %d' % (status, number))
			tap.same(g.link('tap0'), None, 'link')


@test('N-138', 'SIGUSR1, SIGUSR2 and SIGALRM keep their default action')
def _(t):
	for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
		g, h = t.pair()
		h.signal(number)
		tap.same(h.reap(3), -number, 'status')


@test('N-138', 'signals that the caller ignores or blocks stay so only where that does not keep it from ending')
def _(t):
	g, h = t.pair()
	h.signal(0)
	h.signal(signal.SIGCHLD)
	h.signal(signal.SIGWINCH)
	t.through(g, t.listen())


@test('N-138', 'SIGSTOP stops it, SIGCONT lets it go on')
def _(t):
	g, h = t.pair()
	for pid in h.all_pids():
		os.kill(pid, signal.SIGSTOP)
	for pid in h.all_pids():
		os.kill(pid, signal.SIGCONT)
	t.through(g, t.listen())


@test('N-140', 'SIGPIPE is no danger: the peer of a connection, and stderr\'s reader, may go')
def _(t):
	g, h = t.pair()
	s = t.listen()
	for _ in range(20):
		c, p, _ = t.through(g, s)
		p.close()
		try:
			c.sendall(b'x' * 10000)
			c.sendall(b'x' * 10000)
		except (BrokenPipeError, ConnectionResetError):
			pass
	tap.true(h.is_alive(), 'the helper ended')
	t.through(g, s)


@test('N-139 N-141', 'a parent-death signal set before exec stays armed, and its effect is that of N-6')
def _(t):
	for options in ([], ['--enable-sandbox', '--enable-seccomp']):
		g = t.guest()
		r, w = os.pipe()
		middle = os.fork()
		if middle == 0:		# a parent that dies: it starts the helper and waits to be killed
			try:
				os.setgroups([])
				os.setgid(t.uid)
				os.setuid(t.uid)
				netlab.LIBC.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
				child = os.fork()
				if child == 0:
					netlab.LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
					os.set_inheritable(w, True)
					null = os.open('/dev/null', os.O_RDWR)
					os.dup2(null, 1)
					os.dup2(null, 2)
					os.execv(helperlab.PROGRAM, [helperlab.PROGRAM, '-c', '-r', str(w)] + options +
						[str(g.pid), 'tap0'])
				os.close(w)
				signal.pause()
			finally:
				os._exit(1)
		os.close(w)
		tap.true(select.select([r], [], [], 10)[0], 'no ready byte')
		tap.same(os.read(r, 16), b'1', 'ready descriptor')
		pids = netlab.descendants(middle)[1:]
		os.kill(middle, signal.SIGKILL)
		os.waitpid(middle, 0)
		for pid in pids:
			tap.until(lambda: not netlab.alive(pid), 'process %d of the helper is gone with %r' % (pid, options), 3)
		tap.until(lambda: g.link('tap0') is None, 'the link is gone', 2)
		os.close(r)


@test('N-1 N-8', 'the started pid stays a child, in its group and session, and is the only thing the caller sees', modes=ALL)
def _(t):
	g, h = t.pair('--enable-ipv6')
	tap.true(h.is_alive(), 'the helper ended')
	tap.same(os.getpgid(h.pid), os.getpgid(0), 'process group')
	tap.same(os.getsid(h.pid), os.getsid(0), 'session')
	with open('/proc/%d/stat' % h.pid) as f:
		tap.same(int(f.read().rpartition(')')[2].split()[1]), os.getpid(), 'parent')


@test('N-8', 'it works as leader of a process group of its own, and reads nothing from stdin')
def _(t):
	g = t.guest()
	r, w = os.pipe()
	os.write(w, b'not for the helper')
	os.set_blocking(r, False)
	h = t.start(g, start=os.setpgrp, stdin=r)
	tap.same(os.getpgid(h.pid), h.pid, 'process group')
	t.through(g, t.listen())
	tap.same(os.read(r, 100), b'not for the helper', 'stdin')
	os.close(r)
	os.close(w)


def cgroup_root():
	"""A cgroup hierarchy in which groups can be made."""
	for path in ('/sys/fs/cgroup/pids', '/sys/fs/cgroup/unified', '/sys/fs/cgroup'):
		if os.access(path + '/cgroup.procs', os.W_OK):
			return path
	raise tap.Skip('no cgroup hierarchy is writable here')


def cgroup_of(pid):
	with open('/proc/%d/cgroup' % pid) as f:
		return f.read()


@test('N-230 N-244', 'the started pid is moved to another cgroup: what serves the network follows, and it goes on', deadline=40)
def _(t):
	group = '%s/netlab-%s' % (cgroup_root(), os.urandom(6).hex())
	os.mkdir(group)
	try:
		g = t.guest()
		path = t.path('api.sock')
		h = t.start(g, '-a', path, '--enable-sandbox', '--enable-seccomp', kind='pid')
		port = free_port()
		forward(path, port, 8080)
		with open(group + '/cgroup.procs', 'w') as f:
			f.write(str(h.pid))
		wanted = cgroup_of(h.pid)
		tap.has(wanted, os.path.basename(group), 'cgroup of the started pid')
		tap.until(lambda: all(cgroup_of(p) == wanted for p in h.all_pids()), 'all of the helper is in that cgroup', 10, 0.1)
		s = t.listen(g, '0.0.0.0', 8080)
		tap.until(lambda: connect_error(HOST, '127.0.0.1', port, 3) == '', 'the forward serves', 10, 0.1)
		t.accept(s)
		t.through(g, t.listen())
	finally:
		for h in t.helpers:
			h.kill()
		tap.until(lambda: not open(group + '/cgroup.procs').read(), 'the cgroup is empty', 5)
		os.rmdir(group)


@test('N-142', 'the end of every process of the guest ends nothing while -e is open or the target is a path')
def _(t):
	for kind, exit_fd in (('pid', True), ('path', True), ('path', False)):
		g = t.guest()
		path = t.path('netns')
		open(path, 'w').close()
		netlab.run('mount', '--bind', g.path, path)
		words = ['--userns-path=' + g.userns_path] if t.mode == 'user' else []
		words = words + ['--netns-type=path', path] if kind == 'path' else [str(g.pid)]
		h = t.raw('-c', *words, 'tap0', ready=True, exit_fd=exit_fd)
		h.wait_ready()
		g.end()
		tap.true(not pidfd_wait(h.pid, 0.3), 'the helper ended (%s, -e %s)' % (kind, exit_fd))
		t.through(g, t.listen())
		h.close()
		netlab.run('umount', path)


def deleted(t, *options):
	"""A helper whose link has been deleted in the guest, and how much CPU it takes then, in milliseconds per second."""
	path = t.path('api.sock')
	g, h = t.pair('--api-socket=' + path, *options, exit_fd=True)
	g.ip('link', 'del', 'tap0')
	pidfd_wait(h.pid, 0.2)
	before = helperlab.cpu_ms(h)
	size = len(h.err())
	pidfd_wait(h.pid, 1.0)
	used = helperlab.cpu_ms(h) - before
	return g, h, path, used, len(h.err()) - size


@test('N-143', 'the deleted link costs no busy loop and no flood of messages', ours='the reference spins and floods')
def _(t):
	g, h, path, used, written = deleted(t)
	tap.true(used < 40, '%d ms of CPU in a second' % used)
	tap.true(written < 1000, '%d bytes on stderr in a second' % written)


@test('N-143', 'after the link was deleted the API, the exit descriptor and signals are served',
	ours='the reference answers too, but is given no chance here: it spins', modes=['user'])
def _(t):
	g, h, path, used, written = deleted(t)
	tap.true(used < 40, '%d ms of CPU in a second' % used)
	tap.same(api(path, 'list_hostfwd').get('entries'), [], 'answer of the API')
	h.close_exit()
	tap.same(h.reap(3), 0, 'status')


@test('N-143', 'after the link was deleted the exit descriptor still ends it')
def _(t):
	g, h = t.pair(exit_fd=True)
	g.ip('link', 'del', 'tap0')
	h.close_exit()
	tap.same(h.reap(5), 0, 'status')


@test('N-143 N-228', 'a link that was deleted frees its name for the next helper')
def _(t):
	g, h = t.pair()
	g.ip('link', 'del', 'tap0')
	h.kill()
	t.start(g)
	t.through(g, t.listen())


@test('N-145', 'frames that the kernel does not take are dropped without a message for each',
	ours='the reference logs a critical message for each')
def _(t):
	g, h = t.pair()
	c, s, _ = t.through(g, t.listen())
	u = t.udp(HOST, '127.0.0.1')
	c = t.udp(g)
	c.sendto(b'x', ('10.0.2.2', u.getsockname()[1]))
	_, peer = u.recvfrom(10)
	g.ip('link', 'set', 'tap0', 'down')
	before = len(h.err().splitlines())
	for n in range(300):
		u.sendto(b'to a link that is down', peer)
	tap.true(not pidfd_wait(h.pid, 0.3), 'the helper ended')
	written = len(h.err().splitlines()) - before
	tap.true(written < 20, '%d lines on stderr' % written)
	g.ip('link', 'set', 'tap0', 'up')
	g.ip('route', 'replace', 'default', 'via', '10.0.2.2')
	t.through(g, t.listen())


helperlab.main()
