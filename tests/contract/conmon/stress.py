#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Nothing is lost or cut: quick containers, much data both ways, many exec sessions (C-121, C-122, C-154, C-195).

CONTRACT_SCALE multiplies the counts; CONTRACT_ATTACH_MIB is what goes each way through one attach socket.
"""
import hashlib
import os
import random
import select
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH, SCALE	# noqa: E402
from tap import test	# noqa: E402

SIZE = 500000
COUNT = 5 * SCALE
EXECS = 15 * SCALE
MIB = int(os.environ.get('CONTRACT_ATTACH_MIB', '24'))
SECONDS = 40 * SCALE


def drop(t, r):
	"""Its descriptors are closed now, not at the end of the test."""
	for fd in (r.sync, r.start, r.attach_pipe, r.fd1, r.fd2):
		if fd is not None:
			t.close_fd(fd)
	t.runs.remove(r)


def forget(t, b, r):
	"""Make room for the next container of the same test."""
	drop(t, r)
	for path in (t.log, os.path.join(t.exits, b.id), os.path.join(t.persist, 'exit')):
		if os.path.exists(path):
			os.unlink(path)
	b.delete()


def lines(n, terminal):
	"""What `seq` prints up to @n bytes."""
	out, i = [], 0
	size = 0
	while size < n:
		i += 1
		line = b'%d%s' % (i, b'\r\n' if terminal else b'\n')
		out.append(line)
		size += len(line)
	return i, b''.join(out)


def quick(t, terminal):
	last, wanted = lines(SIZE, terminal)
	for n in range(COUNT):
		r, b, c = t.run('exec seq %d' % last, terminal=terminal, attach=True)
		c.read_end(30)
		tap.true(c.out[2] == wanted, 'container %d: the client got %d of %d bytes' % (n, len(c.out[2]), len(wanted)))
		tap.same(t.exit_file(b), '0')
		got = t.logged()
		tap.true(got == wanted, 'container %d: %d of %d bytes in the log' % (n, len(got), len(wanted)))
		tap.same(r.end(), 0)
		c.close()
		forget(t, b, r)


@test('C-121 C-122 C-154', 'containers that print half a million bytes and exit at once, through pipes', modes=BOTH, deadline=SECONDS)
def _(t):
	quick(t, False)


@test('C-121 C-122 C-154', 'containers that print half a million bytes and exit at once, through a terminal', modes=BOTH,
	deadline=SECONDS)
def _(t):
	quick(t, True)


@test('C-154 C-188', 'the same without anybody attached, two streams at once', modes=BOTH, deadline=SECONDS)
def _(t):
	last, wanted = lines(SIZE // 2, False)
	for n in range(COUNT // 2):
		r, b, c = t.run('seq %d >&2 & seq %d; wait; exit 5' % (last, last))
		tap.same(t.exit_file(b, 30), '5')
		tap.true(t.logged() == wanted, 'stdout of container %d' % n)
		tap.true(t.logged('stderr') == wanted, 'stderr of container %d' % n)
		tap.same(r.end(), 5)
		forget(t, b, r)


def block(i):
	"""Block number @i of the stream, 32768 bytes that nobody can guess from others."""
	return hashlib.sha256(b'%d' % i).digest() * 1024


@test('C-110 C-119 C-121', 'much data both ways through one attach socket, slow reader, slow container: exact, memory flat',
	deadline=30 + 2 * MIB)
def _(t):
	b = t.bundle('read x < /shared/go; dd bs=3000 2>/dev/null | dd bs=50000 2>/dev/null')
	gate = b.fifo()
	r = t.create(b, '-i', log='none')
	c = t.attach(b)
	b.start()
	n_blocks = MIB * 32
	sent = got = 0
	sum_got, sum_sent = hashlib.sha1(), hashlib.sha1()
	pending = b''
	os.write(gate, b'go\n')
	c.s.setblocking(False)
	pause = time.monotonic() + 0.2
	while not c.ended:
		if not pending and sent < n_blocks:
			pending = block(sent)
			sum_sent.update(pending)
			sent += 1
		if time.monotonic() > pause and got < n_blocks * 32768 // 2:
			time.sleep(0.05)		# the slow reader
			pause = time.monotonic() + 0.2
		ready, can, _x = select.select([c.s], [c.s] if pending else [], [], 20)
		tap.true(ready or can, 'nothing moves any more: sent %d blocks, got %d bytes' % (sent, got))
		if can:
			try:
				pending = pending[c.s.send(pending):]
			except BlockingIOError:
				pass
			if not pending and sent == n_blocks:
				c.half_close()
		for _n in range(64):
			try:
				data = c.s.recv(8200)
			except BlockingIOError:
				break
			if not data:
				c.ended = True
				break
			tap.same(data[0], 2, 'stream')
			sum_got.update(data[1:])
			got += len(data) - 1
		if sent % 256 == 0 and r.is_alive():
			peak = max([processes.rss_kib(p) for p in r.processes()] or [0])
			tap.true(peak < 64 << 10, '%d KiB of memory' % peak)
	tap.same(got, n_blocks * 32768, 'bytes back')
	tap.same(sum_got.hexdigest(), sum_sent.hexdigest())
	tap.same(r.end(), 0)


@test('C-66 C-67 C-195 C-196', 'exec sessions with random status and signals: always the right one, in message and file', modes=BOTH,
	deadline=SECONDS)
def _(t):
	rng = random.Random(4711)
	b = t.bundle('read x < /shared/go')
	b.fifo()
	main = t.create(b, exits=False)
	b.start()
	for n in range(EXECS):
		number = rng.choice((None, 9, 15, 6, 11))
		status = rng.randrange(256) if number is None else 128 + number
		script = 'exit %d' % status if number is None else 'kill -%d $$' % number
		session = t.path('session%d' % n)
		os.mkdir(session)
		os.mkdir(session + '/exit')
		t.give(session, session + '/exit')
		r = t.conmon('--api-version', '1', '-c', b.id, '-u', 's%d' % n, '-r', conmonlab.oci.RUNC, '-b', session, '-p', session + '/pid',
			'-l', 'none', '--full-attach', '--runtime-arg', '--root=' + t.runc_root, '-e', '--exec-attach', '--exec-process-spec',
			t.exec_spec(script), '-P', session + '/cp', '--exit-dir', session + '/exit', start='seq', attach='seq')
		tap.same(r.raw_message(fd=r.attach_pipe), b'{"data": 0}\n')
		r.go()
		m = r.message()
		tap.true(m and m['data'] > 0, 'run %d: pid, not %r' % (n, m))
		tap.same(r.message(), {'data': status}, 'run %d' % n)
		tap.same(t.text(os.path.join(session, 'exit', b.id)), str(status))
		tap.same(r.end(), status)
		drop(t, r)
	b.delete()
	main.end()


@test('C-66 C-80', 'the same by CRI-O\'s exec-sync', modes=BOTH, deadline=SECONDS)
def _(t):
	rng = random.Random(1174)
	b = t.bundle('read x < /shared/go')
	b.fifo()
	main = t.create(b, exits=False)
	b.start()
	for n in range(EXECS):
		status = rng.randrange(256)
		path = t.path('pid-exec')
		open(path, 'w').close()
		t.give(path)
		r = t.conmon('-c', b.id, '-r', conmonlab.oci.RUNC, '-p', path, '-l', t.path('x.log'), '--runtime-arg', '--root=' + t.runc_root,
			'-e', '--exec-process-spec', t.exec_spec('echo %d; exit %d' % (n, status)), '--sync', '--log-global-size-max', '16777216',
			start='stream', sync='pipe')
		tap.same(r.message(), {'exit_code': status}, 'run %d' % n)
		tap.same(r.front_status(), status)
		tap.same(t.logged(path=t.path('x.log')), b'%d\n' % n)
		os.unlink(t.path('x.log'))
		drop(t, r)
	b.delete()
	main.end()


conmonlab.main()
