#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Rotation beyond the contract: compressed backups, what readers that follow see, the allowlist after the start."""
import gzip
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import k8slog		# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from tap import test	# noqa: E402

OURS = 'not an option of the reference'
SUFFIX = {'gzip': '.gz', 'zstd': '.zst'}
ROTATE = ('--log-rotate', '--log-max-files', '9')


def gated(t, *extra, **how):
	"""A container that writes "rec N" whenever it is told to, and the function that tells it."""
	b = t.plain()
	gate = b.fifo()
	script = 'i=0; while read x; do [ "$x" = end ] && exit 0; echo "rec $i"; i=$((i+1)); done < %s' % b.file('go')
	r = t.create(b, *extra, runtime=t.runtime('if SUB: write_pid(payload(%r))' % script), **how)
	r.serial = 0

	def go(word='next'):
		os.write(gate, word.encode() + b'\n')
		if word == 'end':
			return r.end()
		t.wait_logged('rec %d\n' % r.serial)
		r.serial += 1
	return r, b, go


def rotate(t, b):
	inode = os.stat(t.log).st_ino
	t.ctl(b, '2 0 0\n')
	tap.until(lambda: os.path.exists(t.log) and os.stat(t.log).st_ino != inode, 'a new file')


def unpack(path):
	if path.endswith('.gz'):
		with gzip.open(path) as f:
			return f.read()
	if path.endswith('.zst'):
		return subprocess.run(['zstd', '-d', '-q', '-c', path], stdout=subprocess.PIPE, check=True).stdout
	with open(path, 'rb') as f:
		return f.read()


def names(t):
	return sorted(n[len('ctr.log'):] for n in os.listdir(t.dir) if n.startswith('ctr.log'))


def records(t, suffix=''):
	return [int(x.content[4:]) for x in k8slog.parse(unpack(t.log + suffix))]


def settled(t, *wanted):
	tap.until(lambda: names(t) == sorted(wanted), 'the files %s; there are %s' % (sorted(wanted), names(t)))


def gate_program(t, name='gzip', then='exec /usr/bin/gzip -c'):
	"""A compressor in PATH that writes its pid and waits: options for it, the gate, the pid's file."""
	os.mkdir(t.path('bin'))
	os.mkfifo(t.path('gate'))
	gate = t.own_fd(os.open(t.path('gate'), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
	with open(t.path('bin/' + name), 'w') as f:
		f.write('#!/bin/sh\nprintf half-made\necho $$ > %s.part; mv %s.part %s\nread x < %s\n%s\n' % (
			(t.path('pid'),) * 3 + (t.path('gate'), then)))
	os.chmod(t.path('bin/' + name), 0o755)
	return {'env': {'PATH': t.path('bin') + ':' + os.environ['PATH']}}, gate


def at_work(t):
	"""Wait until the compressor runs; its pid."""
	tap.until(lambda: os.path.exists(t.path('pid')), 'the compressor is at work')
	pid = int(t.text(t.path('pid')))
	os.unlink(t.path('pid'))
	return pid


def compresses(t, kind):
	r, b, go = gated(t, *ROTATE, '--log-compress', kind)
	for n in range(4):
		go()
		rotate(t, b)
		settled(t, '', *['.%d%s' % (i + 1, SUFFIX[kind]) for i in range(n + 1)])
	go()
	tap.same(go('end'), 0)
	tap.same([records(t, '.%d%s' % (i, SUFFIX[kind])) for i in (4, 3, 2, 1)] + [records(t)], [[0], [1], [2], [3], [4]])
	tap.same(t.mode(t.log + '.1' + SUFFIX[kind]), 0o640)


@test('--log-compress gzip', 'backups become .gz and are counted as before', ours=OURS)
def _(t):
	compresses(t, 'gzip')


@test('--log-compress zstd', 'backups become .zst and are counted as before', ours=OURS)
def _(t):
	compresses(t, 'zstd')


@test('--log-compress', 'compressed backups are among the N that are kept, whatever their form', ours=OURS)
def _(t):
	open(t.log + '.2.zst', 'w').close()
	open(t.log + '.1', 'w').close()
	r, b, go = gated(t, '--log-rotate', '--log-max-files', '2', '--log-compress', 'gzip')
	settled(t, '', '.1.gz', '.2.zst')
	for _n in range(3):
		go()
		rotate(t, b)
		settled(t, '', '.1.gz', '.2.gz')
	tap.same(go('end'), 0)
	tap.same([records(t, '.2.gz'), records(t, '.1.gz'), records(t)], [[1], [2], []])


@test('--log-compress', 'and of the bytes that --log-backups-size-max allows', ours=OURS)
def _(t):
	with open(t.log + '.1.gz', 'w') as f:
		f.truncate(5000)
	with open(t.log + '.2.gz', 'w') as f:
		f.truncate(50)
	r, b, go = gated(t, *ROTATE, '--log-backups-size-max', '5100', '--log-compress', 'gzip')
	go()
	rotate(t, b)
	settled(t, '', '.1.gz', '.2.gz')
	tap.same(go('end'), 0)


@test('--log-compress', 'a rotation while the compressor works: the copy takes the place of what it was made of', ours=OURS)
def _(t):
	how, gate = gate_program(t, then='exec /usr/bin/gzip -c > /proc/self/fd/1')
	r, b, go = gated(t, *ROTATE, '--log-compress', 'gzip', **how)
	go()
	rotate(t, b)
	at_work(t)
	go()
	rotate(t, b)
	settled(t, '', '.1', '.2', '.gz.tmp')
	os.write(gate, b'go\n')
	at_work(t)
	settled(t, '', '.1', '.2.gz', '.gz.tmp')
	os.write(gate, b'go\n')
	settled(t, '', '.1.gz', '.2.gz')
	tap.same(go('end'), 0)


@test('--log-compress', 'a compressor that is killed costs nothing; the next rotation tries again', ours=OURS)
def _(t):
	how, gate = gate_program(t, then='cat /dev/null; exec /usr/bin/gzip -c')
	r, b, go = gated(t, *ROTATE, '--log-compress', 'gzip', **how)
	go()
	rotate(t, b)
	processes.kill(at_work(t))
	settled(t, '', '.1')
	go()
	rotate(t, b)
	for _n in range(2):
		at_work(t)
		os.write(gate, b'go\n')
	settled(t, '', '.1.gz', '.2.gz')
	tap.same(go('end'), 0)


@test('--log-compress', 'a monitor that is killed takes the compressor with it; the next one begins again', ours=OURS)
def _(t):
	how, gate = gate_program(t)
	r, b, go = gated(t, *ROTATE, '--log-compress', 'gzip', **how)
	go()
	rotate(t, b)
	pid = at_work(t)
	helper = processes.parent(pid)
	processes.kill(processes.parent(helper))
	second = at_work(t)
	tap.until(lambda: not processes.is_alive(pid) and not processes.is_alive(helper), 'the first compressor is gone')
	tap.true(second != pid, 'another compressor')
	go()
	processes.kill(second)
	settled(t, '', '.1')
	tap.same(go('end'), 0)
	tap.same([records(t, '.1'), records(t)], [[0], [1]])


@test('--log-compress', 'what a killed conmon left is finished or thrown away', ours=OURS)
def _(t):
	stamp = b'2020-01-02T03:04:05.123456789+01:00 stdout F rec %d\n'
	for n, name in ((7, '.1'), (6, '.2')):
		with open(t.log + name, 'wb') as f:
			f.write(stamp % n)
	with gzip.open(t.log + '.2.gz', 'wb') as f:	# complete, but its original is still there
		f.write(stamp % 6)
	st = os.stat(t.log + '.2')
	os.utime(t.log + '.2.gz', ns=(st.st_atime_ns, st.st_mtime_ns))
	with open(t.log + '.gz.tmp', 'wb') as f:
		f.write(b'half')
	r, b, go = gated(t, *ROTATE, '--log-compress', 'gzip')
	settled(t, '', '.1.gz', '.2.gz')
	tap.same([records(t, '.2.gz'), records(t, '.1.gz')], [[6], [7]])
	tap.same(go('end'), 0)


@test('--log-compress', 'a backup and another file of that number: neither is taken for the other', ours=OURS)
def _(t):
	for name in ('.1', '.1.gz'):
		with open(t.log + name, 'w') as f:
			f.write(name)
	os.utime(t.log + '.1.gz', (1, 1))
	how, gate = gate_program(t)
	r, b, go = gated(t, *ROTATE, '--log-compress', 'gzip', **how)
	at_work(t)
	tap.same(names(t), ['', '.1', '.1.gz', '.gz.tmp'])
	tap.same(go('end'), 0)
	settled(t, '', '.1', '.1.gz')


@test('--log-compress', 'the container does not wait for it at its end; the backup stays as it was', ours=OURS)
def _(t):
	how, gate = gate_program(t)
	r, b, go = gated(t, *ROTATE, '--log-compress', 'gzip', **how)
	go()
	rotate(t, b)
	pid = at_work(t)
	tap.same(go('end'), 0)
	tap.until(lambda: not processes.is_alive(pid), 'the compressor has gone')
	settled(t, '', '.1')
	tap.same(records(t, '.1'), [0])


@test('--log-compress', 'the compressor is the last to run, has no rights and none of our descriptors', ours=OURS)
def _(t):
	how, gate = gate_program(t)
	r, b, go = gated(t, *ROTATE, '--log-compress', 'gzip', **how)
	go()
	rotate(t, b)
	pid = at_work(t)
	tap.same(os.sched_getscheduler(pid), os.SCHED_IDLE)
	tap.same(os.getpriority(os.PRIO_PROCESS, pid), 19)
	tap.same(processes.status_field(pid, 'CapEff'), '0' * 16)
	tap.same(processes.status_field(pid, 'NoNewPrivs'), '1')
	held = processes.fds(processes.parent(pid))
	tap.same(sorted(held), [0, 1, 2])
	tap.same([held[0], held[1]], [t.log + '.1', t.log + '.gz.tmp'])
	tap.same(go('end'), 0)


@test('--log-compress', 'a compressor that fails is told once and changes nothing', ours=OURS)
def _(t):
	how, gate = gate_program(t, then='exit 3')
	r, b, go = gated(t, *ROTATE, '--log-compress', 'gzip', **how)
	go()
	rotate(t, b)
	at_work(t)
	os.write(gate, b'go\n')
	settled(t, '', '.1')
	go()
	tap.same(go('end'), 0)
	tap.same([records(t, '.1'), records(t)], [[0], [1]])


@test('--log-compress', 'wrong or impossible values are refused in one line', ours=OURS)
def _(t):
	for words, env, part in ((('--log-compress', 'xz', '--log-rotate'), {}, "must be zstd or gzip, not 'xz'"),
			(('--log-compress', 'gzip'), {}, 'without --log-rotate'),
			(('--log-compress', 'zstd', '--log-rotate'), {'PATH': '/nowhere'}, 'no program zstd in PATH')):
		b = t.plain()
		r = t.conmon('-c', b.id, '-u', b.id, '-r', '/bin/true', '-l', t.log, *words, sync=None, env=env)
		tap.same(r.front_status(), 1)
		tap.has(r.err(), part)
		tap.same(len(r.err().splitlines()), 1)
		tap.same(names(t), [])


# A follower by name that is more than one rotation behind has lost what was between; nobody can help that: bursts here make one at most.
class Follower:
	"""tail -F on the log, as people follow it."""

	def __init__(self, t):
		self.path = t.path('followed')
		with open(self.path, 'wb') as out:
			self.child = subprocess.Popen(['tail', '-n', '+1', '-F', t.log], stdin=subprocess.DEVNULL, stdout=out,
				stderr=subprocess.DEVNULL, close_fds=True)
		t.clients.append(self)

	def close(self):
		self.child.kill()
		self.child.wait()

	def seen(self):
		with open(self.path, 'rb') as f:
			return [int(x.content[4:]) for x in k8slog.parse(f.read())]

	def reads(self, n):
		tap.until(lambda: self.seen()[-1:] == [n - 1], 'tail -F shows line %d; it has %s' % (n - 1, self.seen()[-3:]), 10)
		tap.same(self.seen(), list(range(n)))


def talker(t, *extra, lines=40):
	"""A container that writes @lines records whenever it is told to."""
	b = t.plain()
	gate = b.fifo()
	script = ('i=0; while read x; do [ "$x" = end ] && exit 0; n=0; while [ $n -lt %d ]; do echo "rec $i"; i=$((i+1)); n=$((n+1)); done; '
		'done < %s' % (lines, b.file('go')))
	r = t.create(b, *extra, runtime=t.runtime('if SUB: write_pid(payload(%r))' % script))
	return r, b, lambda word='next': os.write(gate, word.encode() + b'\n')


def followed(t, rounds, *extra, between=lambda n, b: None):
	r, b, go = talker(t, *extra)
	follower = Follower(t)
	for n in range(rounds):
		go()
		follower.reads(40 * (n + 1))
		between(n, b)
	go('end')
	tap.same(r.end(), 0)
	tap.same(follower.seen(), list(range(40 * rounds)))


@test('readers that follow', 'tail -F sees every line once across rotations by size, in the middle of bursts', ours='rotation is newer')
def _(t):
	followed(t, 12, *ROTATE, '--log-size-max', '4000')


@test('readers that follow', 'tail -F sees every line once while backups are compressed', ours=OURS)
def _(t):
	followed(t, 12, *ROTATE, '--log-size-max', '4000', '--log-compress', 'gzip')


@test('readers that follow', 'tail -F sees every line once across reopening, with and without backups', ours='rotation is newer')
def _(t):
	followed(t, 6, *ROTATE, between=lambda n, b: rotate(t, b))


@test('readers that follow', 'tail -F sees every line once when the file is replaced (no --log-rotate)')
def _(t):
	followed(t, 6, between=lambda n, b: rotate(t, b))


@test('readers that follow', 'tail -F sees every line once when the log is removed, renamed or replaced from outside and reopened',
	ours='rotation is newer')
def _(t):
	def meddle(n, b):
		if n % 3 == 0:
			os.unlink(t.log)
		elif n % 3 == 1:
			os.rename(t.log, t.log + '.mine%d' % n)
		else:
			os.rename(t.log, t.log + '.mine%d' % n)
			open(t.log, 'w').close()
		t.ctl(b, '2 0 0\n')
		tap.until(lambda: os.path.exists(t.log), 'a new file')
	followed(t, 7, *ROTATE, between=meddle)


@test('readers that follow', 'rotation by size goes on after the log and its backups were removed from outside', ours='rotation is newer')
def _(t):
	r, b, go = talker(t, *ROTATE, '--log-size-max', '1600')
	for n in range(3):
		go()
		t.wait_logged('rec %d' % (40 * (n + 1) - 1))
		for name in names(t):
			os.unlink(t.log + name)
	go()
	go('end')
	tap.same(r.end(), 0)
	# up to the first rotation it goes into the file that was removed, of which nobody has the name
	tail = [i for suffix in ('.2', '.1', '') if os.path.exists(t.log + suffix) for i in records(t, suffix)]
	tap.same(tail, list(range(tail[0], 160)))
	tap.true(len(tail) >= 8, 'the rest of the lines: %d' % len(tail))


@test('C-140', 'rotation looks at the allowlist again: a directory that was replaced by a link out of it is refused', ours=OURS)
def _(t):
	for name in ('allowed', 'other'):
		os.mkdir(t.path(name))
	os.mkdir(t.path('allowed/sub'))
	log = t.path('allowed/sub/log')
	b = t.plain()
	gate = b.fifo()
	script = 'while read x; do [ "$x" = end ] && exit 0; echo "$x"; done < %s' % b.file('go')
	r = t.create(b, '--log-allowlist-dir', t.path('allowed'), '--log-rotate', log=log,
		runtime=t.runtime('if SUB: write_pid(payload(%r))' % script))
	os.write(gate, b'before\n')
	t.wait_logged('before', path=log)
	os.rename(t.path('allowed/sub'), t.path('moved'))
	os.symlink(t.path('other'), t.path('allowed/sub'))
	t.ctl(b, '2 0 0\n')
	t.ctl(b, '1 24 80\n')
	os.write(gate, b'after\n')
	t.wait_logged('after', path=t.path('moved/log'))
	tap.same(os.listdir(t.path('other')), [])
	os.write(gate, b'end\n')
	tap.same(r.end(), 0)


conmonlab.main()
