#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Rotation and reopening of the log (C-160 to C-169)."""
import ctypes
import os
import select
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import k8slog		# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402

NEWER = 'rotation is newer than 2.1.6'
COUNT = 'i=%d; while [ $i -lt %d ]; do echo "rec $i"; i=$((i+1)); done'
REC = 51	# bytes of "rec N", one digit


def contents(path):
	return [int(x.content[4:]) for x in k8slog.read(path)]


def backups(t):
	return sorted(n for n in os.listdir(t.dir) if n.startswith('ctr.log'))


def rotating(t, n, *extra, script=None):
	r, b = t.fake(script or COUNT % (0, n), '--log-rotate', *extra)
	tap.same(r.end(), 0)


@test('C-160 C-161', 'N backups, .1 the newest, no record lost, split or doubled', ours=NEWER)
def _(t):
	rotating(t, 10, '--log-size-max', 3 * REC, '--log-max-files', '5')
	tap.same(backups(t), ['ctr.log', 'ctr.log.1', 'ctr.log.2', 'ctr.log.3'])
	tap.same([contents(t.log + s) for s in ('.3', '.2', '.1', '')], [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]])


@test('C-161 W-13', '--log-max-files 1 keeps one backup', ours='W-13: two upstream; newer than 2.1.6')
def _(t):
	rotating(t, 10, '--log-size-max', 3 * REC, '--log-max-files', '1')
	tap.same(backups(t), ['ctr.log', 'ctr.log.1'])
	tap.same([contents(t.log + '.1'), contents(t.log)], [[6, 7, 8], [9]])


@test('C-160', 'the new file has mode 0640', ours=NEWER)
def _(t):
	rotating(t, 4, '--log-size-max', 3 * REC, '--log-max-files', '2')
	tap.same(t.mode(t.log), 0o640)


@test('C-160 C-149', 'thousands of records over many rotations, all whole', ours=NEWER)
def _(t):
	r, b, c = t.run('seq 3000', '--log-rotate', '--log-size-max', '20000', '--log-max-files', '50')
	r.end()
	data = b''.join(open(t.log + s, 'rb').read() for s in
		['.%d' % i for i in range(60, 0, -1) if os.path.exists(t.log + '.%d' % i)] + [''])
	tap.same(k8slog.content(k8slog.parse(data)), b''.join(b'%d\n' % i for i in range(1, 3001)))
	for name in backups(t):
		tap.true(os.path.getsize(t.path(name)) <= 20000, name)


def gated(t, *extra, **how):
	b = t.bundle('i=0; while read x < /shared/go; do [ "$x" = end ] && exit 0; echo "rec $i"; i=$((i+1)); done')
	gate = b.fifo()
	r = t.create(b, *extra, **how)
	b.start()
	return r, b, lambda word='next': os.write(gate, word.encode() + b'\n')


@test('C-163 C-165', 'the kubelet\'s way: file renamed away, reopen: what follows is in a new file, nothing lost', modes=BOTH)
def _(t):
	r, b, go = gated(t)
	go()
	t.wait_logged('rec 0')
	os.rename(t.log, t.log + '.old')
	go()
	t.wait_logged('rec 1', path=t.log + '.old')
	t.ctl(b, '2 0 0\n')
	tap.until(lambda: os.path.exists(t.log), 'a new file')
	go()
	t.wait_logged('rec 2')
	go('end')
	r.end()
	tap.same([contents(t.log + '.old'), contents(t.log)], [[0, 1], [2]])


@test('C-163', 'reopen without --log-rotate: the file is replaced by an empty one')
def _(t):
	r, b, go = gated(t)
	go()
	t.wait_logged('rec 0')
	inode = os.stat(t.log).st_ino
	t.ctl(b, '2 0 0\n')
	tap.until(lambda: os.stat(t.log).st_ino != inode, 'a new file')
	go()
	t.wait_logged('rec 1')
	go('end')
	r.end()
	tap.same(contents(t.log), [1])
	tap.same(backups(t), ['ctr.log'])


@test('C-163 C-160', 'reopen with --log-rotate: a rotation', ours=NEWER)
def _(t):
	r, b, go = gated(t, '--log-rotate', '--log-max-files', '3')
	for n in range(3):
		go()
		t.wait_logged('rec %d' % n)
		t.ctl(b, '2 0 0\n')
		tap.until(lambda: os.path.exists(t.log + '.%d' % (n + 1)), 'the backup')
	go('end')
	r.end()
	tap.same([contents(t.log + s) for s in ('.3', '.2', '.1', '')], [[0], [1], [2], []])


class Inotify:
	"""Events on a directory, as CRI-O's fsnotify sees them."""
	CREATE, MOVED_TO, MODIFY = 0x100, 0x80, 0x2

	def __init__(self, t, directory):
		libc = ctypes.CDLL(None)
		self.fd = t.own_fd(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
		libc.inotify_add_watch(self.fd, directory.encode(), self.CREATE | self.MOVED_TO | self.MODIFY)

	def wait(self, name, seconds=10):
		while True:
			if not select.select([self.fd], [], [], seconds)[0]:
				tap.fail('no event on %s' % name)
			data = os.read(self.fd, 65536)
			while data:
				_wd, _mask, _cookie, size = struct.unpack('iIII', data[:16])
				if data[16:16 + size].rstrip(b'\0').decode() == name:
					return
				data = data[16 + size:]


@test('C-164', 'CRI-O waits for an event on exactly the path after a reopen')
def _(t):
	os.mkdir(t.path('logs'))
	log = t.path('logs/0.log')
	r, b, go = gated(t, log=log)
	for n in range(3):
		go()
		t.wait_logged('rec %d' % n, path=log)
		os.rename(log, log + '.%d' % n)
		watch = Inotify(t, t.path('logs'))
		t.ctl(b, '2 0 0\n')
		watch.wait('0.log')
	go('end')
	r.end()


@test('C-165', 'reopen while the container writes at full speed: every line is in one of the files, once')
def _(t):
	b = t.bundle('read x < /shared/go; seq 60000')
	gate = b.fifo()
	r = t.create(b)
	b.start()
	os.write(gate, b'go\n')
	n = 0
	while not t.has_exit(b) and n < 8:
		# an event may still be one of the file before
		tap.until(lambda: os.path.exists(t.log) or t.has_exit(b), 'the file of the last reopen')
		os.rename(t.log, t.log + '.%d' % n)
		n += 1
		t.ctl(b, '2 0 0\n')
		tap.until(lambda: os.path.exists(t.log) or t.has_exit(b), 'a new file, or the end')
	r.end(30)
	data = b''.join(open(t.log + s, 'rb').read() for s in ['.%d' % i for i in range(n)] + [''] if os.path.exists(t.log + s))
	tap.true(k8slog.content(k8slog.parse(data)) == b''.join(b'%d\n' % i for i in range(1, 60001)), 'all lines, in order')


@test('C-166', 'reopen recreates a log that was deleted')
def _(t):
	r, b, go = gated(t)
	go()
	t.wait_logged('rec 0')
	os.unlink(t.log)
	t.ctl(b, '2 0 0\n')
	tap.until(lambda: os.path.exists(t.log), 'a new file')
	go()
	t.wait_logged('rec 1')
	go('end')
	r.end()


@test('C-166 W-14', 'with --log-rotate, too: file deleted, stale intermediate file, symlink, all keep logging and keep limits',
	ours='W-14: it stops for ever; newer than 2.1.6')
def _(t):
	r, b, go = gated(t, '--log-rotate', '--log-max-files', '2')
	go()
	t.wait_logged('rec 0')
	os.unlink(t.log)
	t.ctl(b, '2 0 0\n')
	tap.until(lambda: os.path.exists(t.log), 'a new file')
	go()
	t.wait_logged('rec 1')
	go('end')
	r.end()
	for what in ('new', 'tmp'):
		for name in backups(t):
			os.unlink(t.path(name))
		with open('%s.%s' % (t.log, what), 'w') as f:
			f.write('stale')
		rotating(t, 10, '--log-size-max', 3 * REC, '--log-max-files', '2')
		tap.same([contents(t.log + s) for s in ('.2', '.1', '')], [[3, 4, 5], [6, 7, 8], [9]], 'stale .' + what)


@test('C-162 W-14', 'rotation that cannot be done leaks no descriptors and loses no record',
	ours='W-14: a descriptor a record; newer than 2.1.6')
def _(t):
	os.mkdir(t.path('logs'))
	log = t.path('logs/x.log')
	b = t.bundle('i=0; while read x < /shared/go; do [ "$x" = end ] && exit 0; n=0; while [ $n -lt 50 ]; do echo "rec $i"; '
		'i=$((i+1)); n=$((n+1)); done; done')
	gate = b.fifo()
	r = t.create(b, '--log-rotate', '--log-size-max', '500', log=log)
	b.start()
	os.write(gate, b'go\n')
	t.wait_logged('rec 49', path=log)
	count = lambda: sum(len(processes.fds(p)) for p in r.processes())
	c = t.attach(b)
	os.write(gate, b'go\n')
	c.read_until(b'rec 99\n')
	before = count()
	held = os.open(t.path('logs'), os.O_RDONLY)
	os.rename(t.path('logs'), t.path('moved'))
	for last in (149, 199):
		os.write(gate, b'go\n')
		c.read_until(b'rec %d\n' % last)
	after = count()
	tap.true(after <= before + 2, '%d descriptors, had %d' % (after, before))
	os.write(gate, b'end\n')
	tap.same(r.end(), 0)
	os.close(held)


@test('C-167', 'reopen without a k8s-file does nothing')
def _(t):
	b = t.bundle('read x < /shared/go; exit 3')
	gate = b.fifo()
	r = t.create(b, log='none')
	b.start()
	t.ctl(b, '2 0 0\n')
	os.write(gate, b'go\n')
	tap.same(r.end(), 3)


@test('C-169 W-15', 'a reopened file is opened for append: cut from outside, it has no hole', ours='W-15: holes')
def _(t):
	r, b, go = gated(t)
	t.ctl(b, '2 0 0\n')
	for n in range(5):
		go()
		t.wait_logged('rec %d' % n)
	os.truncate(t.log, 0)
	go()
	t.wait_logged('rec 5')
	go('end')
	r.end()
	tap.same(contents(t.log), [5])


conmonlab.main()
