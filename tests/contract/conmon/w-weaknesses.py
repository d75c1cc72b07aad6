#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Weaknesses of the reference that must not be imitated, as far as no clause's own file has them (W-1 to W-33)."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402


def gated(t, script, *extra, **how):
	b = t.bundle(script, **{k: how.pop(k) for k in ('terminal',) if k in how})
	gate = b.fifo()
	r = t.create(b, *extra, **how)
	b.start()
	return r, b, lambda: os.write(gate, b'go\n')


@test('C-120 W-1', 'a container that closes its stdin while input waits: the input is dropped, nothing spins', race='W-1: 100 % CPU, sometimes')
def _(t):
	r, b, go = gated(t, 'read x < /shared/go; exec 0<&-; touch /shared/closed; read x < /shared/go; echo over; exit 3', '-i')
	c = t.attach(b)
	for _n in range(4):		# more than the pipe holds
		c.send(b'z' * 32768)
	go()
	b.wait_file('closed')
	used = r.cpu_while(0.6)
	tap.true(used < 300, '%d ms of CPU' % used)
	go()
	tap.same(c.read_end(), b'over\n')
	tap.same(r.end(), 3)


@test('C-121 W-2', 'a client that stops reading stops neither the log, other clients, control, reaping nor the exit',
	ours='W-2: everything waits for it', modes=BOTH)
def _(t):
	r, b, go = gated(t, 'read x < /shared/go; seq 100000; touch /shared/written; read x < /shared/go; echo over; exit 3')
	r.settle()
	stalled, reader = t.attach(b), t.attach(b)
	r.serving(2)
	go()
	wanted = b''.join(b'%d\n' % i for i in range(1, 100001))
	tap.true(reader.read_size(len(wanted)) == wanted, 'the other client gets everything')
	b.wait_file('written')
	t.wait_logged(b'100000\n')
	t.ctl(b, '2 0 0\n')
	go()
	tap.same(t.exit_file(b, 15), '3')
	tap.has(reader.read_end(), b'over\n')
	tap.true(not stalled.ended, 'the stalled one never read')
	stalled.close()
	tap.same(r.end(), 3)


@test('C-121 W-2', 'a terminal\'s resize works while a client does not read', ours='W-2: everything waits for it')
def _(t):
	r, b, go = gated(t, 'stty -echo; read x < /shared/go; seq 60000; touch /shared/written; read x < /shared/go; stty size > /shared/size; exit 3',
		terminal=True)
	r.settle()
	stalled = t.attach(b)
	r.serving(1)
	go()
	b.wait_file('written', 15)
	t.ctl(b, '1 31 41\n')
	tap.until(lambda: sizes(b) == b'31 41', 'the size is set')
	go()
	tap.same(t.exit_file(b, 15), '3')
	stalled.close()
	tap.same(r.end(), 3)
	tap.same(b.wait_file('size'), b'31 41\n')


def sizes(b):
	"""The size of the container's terminal, seen from outside."""
	import fcntl
	import struct
	import termios
	fd = os.open('/proc/%d/fd/1' % b.pid, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
	try:
		rows, columns, _x, _y = struct.unpack('HHHH', fcntl.ioctl(fd, termios.TIOCGWINSZ, b'\0' * 8))
		return b'%d %d' % (rows, columns)
	finally:
		os.close(fd)


@test('W-25 C-65', 'a TMPDIR too long for a socket address is no silent cut: it works or is told')
def _(t):
	long = t.path('/'.join(['tmp' * 30] * 2))
	os.makedirs(long)
	b = t.bundle('echo x; exit 3', terminal=True)
	r = t.start_conmon(b, env={'TMPDIR': long})
	m = r.message()
	tap.true(m is not None, 'a message')
	if m['data'] > 0:
		b.start()
		tap.same(r.end(), 3)
		tap.same(os.listdir(long), [])
	else:
		tap.true(m.get('message'), 'words')
		tap.true(r.end() != 0, 'status')


@test('W-25', 'the console socket\'s path is never without its socket until the terminal has arrived')
def _(t):
	b = t.plain()
	b.terminal = True
	rt = t.runtime("import stat\np = opt('--console-socket')\nassert stat.S_ISSOCK(os.stat(p).st_mode)\n"
		"assert os.stat(p).st_mode & 0o777 == 0o700\npid, _ = terminal('exit 3'); write_pid(pid)")
	r = t.create(b, runtime=rt)
	tap.same(r.end(), 3)


@test('W-30 C-108', 'a runtime that cannot be executed does not take a living container\'s symlink away',
	ours='W-30: the child runs the parent\'s exit handlers')
def _(t):
	g = t.path('gate')
	os.mkfifo(g)
	gate = t.own_fd(os.open(g, os.O_RDWR))
	bad = t.path('bad')
	with open(bad, 'w') as f:
		f.write('\0')
	os.chmod(bad, 0o755)
	b = t.plain()
	script = t.path('exit')
	with open(script, 'w') as f:
		f.write('#!/bin/sh\nls %s > %s; read x < %s\n' % (t.sockets, t.path('links'), g))
	os.chmod(script, 0o755)
	r = t.start_conmon(b, '--exit-command', script, runtime=bad, full=False)
	m = r.message()
	tap.same(m and m['data'], -1)
	os.write(gate, b'go\n')
	r.end()
	tap.same(os.listdir(t.sockets), [])


@test('C-48 W-33', 'SIGHUP does not end the monitor silently: the container\'s end is still told', ours='W-33: it dies')
def _(t):
	r, b, go = gated(t, 'read x < /shared/go; exit 3')
	r.front_status()
	os.kill(r.monitor, signal.SIGHUP)
	os.kill(r.monitor, signal.SIGUSR2)
	if not processes.is_alive(b.pid):
		tap.same(t.exit_file(b), '129')		# forwarded
	else:
		go()
		tap.true(t.exit_file(b) in ('3', '129', '140'), 'exit file')
	r.end()


@test('W-31 C-121', 'a client that is full is waited for without spinning', race='W-31: EAGAIN in a tight loop, if not blocked (W-2)')
def _(t):
	r, b, go = gated(t, 'read x < /shared/go; seq 100000; touch /shared/written; read x < /shared/go; exit 3')
	c = t.attach(b)
	go()
	c.receive()
	used = r.cpu_while(0.8)
	tap.true(used < 500, '%d ms of CPU' % used)
	go()
	c.read_end()
	tap.same(r.end(), 3)


@test('W-29', 'a flood of short lines: whole and in order, in the log and at the client')
def _(t):
	n = 200000 * conmonlab.SCALE
	r, b, c = t.run('yes | head -n %d' % n, attach=True)
	tap.true(c.read_end(60) == b'y\n' * n, 'the client got %d bytes' % len(c.out[2]))
	r.end()
	tap.true(t.logged() == b'y\n' * n, 'the log')


@test('W-20 C-39', 'a container whose reader is gone gets SIGPIPE, as it would without conmon')
def _(t):
	r, b, c = t.run('yes | head -n 1; exit 0')
	tap.same(r.end(), 0)
	tap.lacks(t.logged('stderr'), b'roken pipe')
	b = t.bundle(['/bin/grep', 'SigIgn', '/proc/self/status'])
	r = t.create(b)
	b.start()
	r.end()
	tap.same(int(t.logged().split()[-1], 16) >> (signal.SIGPIPE - 1) & 1, 0)


@test('W-23 C-51', 'a payload that is not a child and dies by a signal is noticed', race='W-23: only if the check comes after it')
def _(t):
	foreign = processes.spawn(['/bin/busybox', 'sleep', '600'])
	b = t.plain()
	r = t.start_conmon(b, runtime=t.runtime('write_pid(%d)' % foreign))
	r.created()
	processes.kill(foreign)
	processes.wait(foreign)
	tap.true(t.exit_file(b) in ('137', '-1'), 'exit file %r' % t.exit_file(b))
	r.end()


@test('W-27 C-114', 'the first client\'s end does not discard what another has sent before', race='W-27: order of reading')
def _(t):
	r, b, go = gated(t, 'touch /shared/up; read x < /shared/go; n=$(wc -c); echo "n=$n"', '-i')
	r.settle()
	one, two = t.attach(b), t.attach(b)
	r.serving(2)
	b.wait_file('up')
	for _n in range(3):
		one.send(b'1' * 32768)
	two.send('22')
	two.half_close()
	go()
	tap.same(one.read_end(), b'n=%d\n' % (3 * 32768 + 2))
	r.end()


conmonlab.main()
