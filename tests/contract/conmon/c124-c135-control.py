#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The control FIFOs (C-124 to C-135)."""
import os
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402

# Tells its size each time it is asked by the gate.
ASK = 'stty -echo; echo ready; while read x < /shared/go; do [ "$x" = end ] && exit 0; echo "size=$(stty size)=$x"; done'


class Asked:
	"""A terminal container that tells its size when asked."""

	def __init__(self, t):
		self.t = t
		self.b = t.bundle(ASK, terminal=True)
		self.gate = self.b.fifo()
		self.r = t.create(self.b)
		self.c = t.attach(self.b)
		self.b.start()
		self.c.read_until(b'ready')
		self.n = 0

	def size(self):
		self.n += 1
		os.write(self.gate, b'q%d\n' % self.n)
		text = self.c.read_until(b'=q%d' % self.n)
		return text.rsplit(b'size=', 1)[1].split(b'=')[0].decode()

	def has(self, rows, columns):
		tap.until(lambda: self.size() == '%d %d' % (rows, columns), 'size %d %d' % (rows, columns), 5)

	def ctl(self, data, name='ctl'):
		self.t.ctl(self.b, data, name)

	def end(self):
		os.write(self.gate, b'end\n')
		tap.same(self.r.end(), 0)


@test('C-124', 'ctl and winsz are FIFOs of mode 0660 less the umask, and replace what was there')
def _(t):
	b = t.bundle('exit 0')
	with open(b.path + '/ctl', 'w') as f:
		f.write('old')
	os.symlink('/nowhere', b.path + '/winsz')
	r = t.create(b, setup=lambda: os.umask(0o22))
	for name in ('ctl', 'winsz'):
		st = os.lstat(os.path.join(b.path, name))
		tap.true(stat.S_ISFIFO(st.st_mode), name + ' is a FIFO')
		tap.same(stat.S_IMODE(st.st_mode), 0o640, name)
	b.start()
	r.end()
	tap.true(os.path.exists(b.path + '/ctl') and os.path.exists(b.path + '/winsz'), 'not removed')


@test('C-125', 'a writer never blocks, and its departure disturbs nothing')
def _(t):
	a = Asked(t)
	for n in range(20):
		a.ctl('')
	before = a.r.cpu_while(0.3)
	tap.true(before < 150, '%d ms of CPU after writers left' % before)
	a.ctl('1 30 90\n')
	a.has(30, 90)
	a.end()


@test('C-126 C-134', 'rows and columns, blanks and tabs, leading blanks and zeros, extra words', modes=BOTH)
def _(t):
	a = Asked(t)
	for line, rows, columns in (('1 24 80\n', 24, 80), ('  1\t25\t81\n', 25, 81), ('1 026 082\n', 26, 82),
				    ('1 27 83 more words\n', 27, 83), ('1 1000 1000\n', 1000, 1000)):
		a.ctl(line)
		a.has(rows, columns)
	a.end()


@test('C-134', 'SIGWINCH results')
def _(t):
	r, b, c = t.run("trap 'echo winch' WINCH; echo ready; while :; do sleep 0.02; done", terminal=True, attach=True)
	c.read_until(b'ready')
	t.ctl(b, '1 24 80\n')
	c.read_until(b'winch')
	b.delete()
	r.end()


BAD = ('0 50 60\n', '3 50 60\n', '9 50 60\n', '\n', 'x\n', '1 0x10 60\n', '-1 50 60\n', '1 a b\n')


@test('C-127', 'invalid lines have no effect and the next good one works')
def _(t):
	a = Asked(t)
	for n, line in enumerate(BAD):
		a.ctl('1 %d 80\n' % (100 + n))
		a.has(100 + n, 80)
		a.ctl(line)
		a.ctl('2 0 0\n')		# the log is replaced once everything before was looked at
		tap.same(a.size(), '%d 80' % (100 + n), 'size after %r' % line)
	a.end()


@test('C-127', 'lines with too few words, negative sizes, decimals with a point and sizes above 1000 are invalid', ours='2.1.6 takes them; limit since 2.2.0')
def _(t):
	a = Asked(t)
	for n, line in enumerate(('1\n', '1 50\n', '1 -5 60\n', '1 10.5 60\n', '1 1001 60\n', '1 50 1001\n', '1 70000 60\n', '1 99999999999999999999 5\n')):
		a.ctl('1 %d 80\n' % (100 + n))
		a.has(100 + n, 80)
		log = os.stat(t.log).st_ino
		a.ctl(line)
		a.ctl('2 0 0\n')
		tap.until(lambda: os.stat(t.log).st_ino != log, 'the reopen that follows is done')
		tap.same(a.size(), '%d 80' % (100 + n), 'size after %r' % line)
	a.end()


@test('C-128', 'a line is complete only with its newline; pieces are put together')
def _(t):
	a = Asked(t)
	a.ctl('1 24 80\n')
	a.has(24, 80)
	a.ctl('1 31 ')
	tap.same(a.size(), '24 80')
	a.ctl('91\n')
	a.has(31, 91)
	a.ctl('1 40 90')
	a.end()


@test('C-129 W-12', 'over-long input is dropped up to the next newline, the next line works', ours='2.1.6 loses the next line, too')
def _(t):
	a = Asked(t)
	for size in (200, 4096, 60000, 400000):
		with open(a.b.path + '/ctl', 'wb') as f:		# blocks while the FIFO is full
			f.write(b'x' * size)
		a.ctl('1 50 60\n')
		a.ctl('1 24 %d\n' % (size % 500 + 10))
		a.has(24, size % 500 + 10)
	a.end()


@test('C-129 W-12', 'an unfinished line that grows to 199 bytes neither spins nor disables the FIFO', race='W-12: 100 % CPU, if read in one piece')
def _(t):
	a = Asked(t)
	for _n in range(199):
		a.ctl('y')
	used = a.r.cpu_while(0.5)
	tap.true(used < 250, '%d ms of CPU' % used)
	a.ctl('\n1 24 61\n')
	a.has(24, 61)
	a.end()


@test('C-130', 'several lines in one write are done in order', ours='2.1.6 does one line a read')
def _(t):
	a = Asked(t)
	a.ctl('2 0 0\n1 33 44\n')
	a.has(33, 44)
	a.end()


@test('C-130 W-12', 'one bad line does not suppress the good ones that follow', ours='W-12: the rest of the read is dropped')
def _(t):
	a = Asked(t)
	a.ctl('1 10 20\nnonsense\n9 9 9\n1 35 45\n')
	a.has(35, 45)
	a.ctl(b'1 50 60\0\n1 36 46\n')
	a.has(36, 46)
	a.end()


@test('C-127 W-12', 'numbers are not taken across the end of a line', ours='W-12: they are')
def _(t):
	a = Asked(t)
	a.ctl('1 24 70\n')
	a.has(24, 70)
	log = os.stat(t.log).st_ino
	a.ctl('1 50\n80 60\n')
	a.ctl('2 0 0\n')
	tap.until(lambda: os.stat(t.log).st_ino != log, 'the reopen that follows is done')
	tap.same(a.size(), '24 70')
	a.end()


@test('C-131', 'pieces of lines on the two FIFOs are not mixed', ours='W-12: one buffer for both')
def _(t):
	a = Asked(t)
	a.ctl('1 24 70\n')
	a.has(24, 70)
	a.ctl('1 31 ')
	a.ctl('32 72\n', 'winsz')
	a.has(32, 72)
	a.ctl('71\n')
	a.has(31, 71)
	a.end()


@test('C-132 W-10', 'resizes of a container without terminal neither pile up nor block', ours='W-10: it blocks for ever')
def _(t):
	b = t.bundle('read x < /shared/go; exit 3')
	gate = b.fifo()
	r = t.create(b)
	b.start()
	line = b'1 24 80\n' * 400
	for _n in range(60):		# 24,000 events
		fd = os.open(b.path + '/ctl', os.O_WRONLY)
		os.write(fd, line)
		os.close(fd)
	os.write(gate, b'go\n')
	tap.same(r.end(8), 3)
	tap.same(t.exit_file(b), '3')


@test('C-133', 'winsz takes rows and columns directly')
def _(t):
	a = Asked(t)
	a.ctl('28 88\n', 'winsz')
	a.has(28, 88)
	a.end()


@test('C-135 C-94', 'a size written before the container starts is the one it starts with')
def _(t):
	b = t.bundle('stty size', terminal=True)
	r = t.create(b)
	t.ctl(b, '1 41 42\n')
	c = t.attach(b)
	b.start()
	text = c.read_end()
	r.end()
	tap.same(text, b'41 42\r\n')


conmonlab.main()
